"""What a user asked for, resolved before any work starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

#: The model that comes with the package, and is used where none is named.
BUILTIN = "builtin"
#: Detector name that stands for "the user's boxes, nothing is detected".
GIVEN_BOXES = "boxes"
#: Pixels above which an image is refused before it is decoded (300 MB as BGR).
DEFAULT_MAX_PIXELS = 100_000_000
#: The header reader (Pillow) refuses more than this by itself, so no limit can exceed it.
MAX_MAX_PIXELS = 178_956_970
#: Bytes above which a file is refused before it is read.
MAX_FILE_BYTES = 1 << 30
#: Faces of one image that can be told apart: face_id = image_id · FACES_PER_IMAGE + face_index.
FACES_PER_IMAGE = 10_000


@dataclass(frozen=True)
class ProcessOptions:
    """Every option of `process` that changes what is written. Two runs with equal ones are the same run."""

    detector: str
    min_score: float
    detect_size: int | None
    max_faces: int
    refine: int
    vertices: str
    max_pixels: int
    boxes_digest: str | None
    path_column: str | None
    image_column: str | None = None
    key_column: str | None = None
    sample_json: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The options by name, for `run.json` and its comparison; runs made before had none of the last three."""
        later = ("image_column", "key_column", "sample_json")
        return {name: value for name, value in asdict(self).items() if value or name not in later}


#: Clips of one face that can be told apart: clip_id = face_id · CLIPS_PER_FACE + clip.
CLIPS_PER_FACE = 1_000
#: Forms a clip can be written in.
CLIP_FORMATS = ("frames", "mp4", "webdataset", "parquet")
#: `size` of a clip that shows all of its still.
ORIGINAL = 0


@dataclass(frozen=True)
class SynthOptions:
    """Every option of `synth-videos` that changes what is written.

    Ranges (low, high) are totals since the still: degrees; a factor; shares of the roi's side. `speed` multiplies
    the most a frame may add. noise: standard deviation in grey levels; blur: share of a frame's time the shutter
    is open; each clip draws its own from these ranges. size: side of square crops in pixels, or `ORIGINAL`.
    """

    frames: int
    clips_per_image: int
    seed: int
    yaw: tuple[float, float]
    pitch: tuple[float, float]
    roll: tuple[float, float]
    scale: tuple[float, float]
    shift: tuple[float, float]
    speed: float
    noise: tuple[float, float]
    blur: tuple[float, float]
    size: int
    format: str
    max_faces: int
    max_pixels: int
    detector: str
    min_score: float
    params_digest: str | None
    path_column: str | None

    def as_dict(self) -> dict[str, Any]:
        """The options by name, for `run.json` and its comparison."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @staticmethod
    def from_dict(options: dict[str, Any]) -> SynthOptions:
        """The options `as_dict` wrote."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
        return SynthOptions(**values)

    def regression(self) -> ProcessOptions:
        """How `process` finds the faces of a still whose parameters are not given."""
        return ProcessOptions(
            detector=self.detector,
            min_score=self.min_score,
            detect_size=None,
            max_faces=self.max_faces,
            refine=1,
            vertices="none",
            max_pixels=self.max_pixels,
            boxes_digest=None,
            path_column=self.path_column,
        )


@dataclass(frozen=True)
class Execution:
    """Where the work is done. It never changes a result, so it is no part of a run's identity.

    `scheduler`: "auto", "in-process", "local", or the address or scheduler file of a running cluster.
    `workers`: processes of a local cluster; None for one per usable core.
    """

    scheduler: str = "auto"
    workers: int | None = None


#: Protocols of `evaluate` (paper, section 3.1); `pipeline.evaluation.protocols` has one file for each.
PROTOCOLS = ("aflw2000-3d", "aflw", "aflw2000-3d-dense", "florence", "video")
