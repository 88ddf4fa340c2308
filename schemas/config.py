"""What a user asked for, resolved before any work starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ddfa_batch.schemas.errors import OptionError
from ddfa_batch.schemas.job_clusters import BatchCluster, KubernetesCluster
from ddfa_batch.schemas.picture_formats import DEFAULT_FORMATS, checked_formats

#: The model that comes with the package, and is used where none is named.
BUILTIN = "builtin"
#: The same with a network of four times the weights: nearer, slower.
BUILTIN_LARGE = "builtin-large"
#: All that come with the package; nobody else's model bears their names.
BUILTIN_MODELS = (BUILTIN, BUILTIN_LARGE)
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
#: Most passes of refinement.
MAX_REFINE = 5
#: What the last pass's answer can be averaged with.
NO_AVERAGE, MIRROR = "none", "mirror"
AVERAGES = (NO_AVERAGE, MIRROR)
#: How large photographs are decoded: JPEGs only as large as what is looked for in them needs, or all in full.
SCALED, FULL = "scaled", "full"
DECODINGS = (SCALED, FULL)
#: What runs the networks.
CPU, OPENVINO, CUDA = "cpu", "openvino", "cuda"
PROVIDERS = (CPU, OPENVINO, CUDA)
#: Forms of dense meshes, or none.
QUANTISED = "quantised"
VERTEX_FORMS = ("float32", QUANTISED, "none")
#: How followed faces can be smoothed.
NO_SMOOTHING, ONE_EURO = "none", "one-euro"
SMOOTHINGS = (NO_SMOOTHING, ONE_EURO)
#: Least and most pixels of the longer side of the copy that is searched.
DETECT_SIZES = (64, 8192)
#: Fewer images than this `process` does in the command's own process: starting a local cluster takes a second, which
#: they do not win back.
FEW_IMAGES = 200
#: Most inputs of a shard that can be asked for.
MAX_SHARD_SIZE = 1_000_000
#: Most attempts at a call to a store that can be asked for, and most seconds for each.
MAX_REMOTE_ATTEMPTS, MAX_REMOTE_SECONDS = 100, 3600.0


@dataclass(frozen=True)
class FaceOptions:
    """How faces are found and what is written of them, as a user says it; `ProcessOptions` is what comes of it.

    Raises `OptionError` for what is out of range.
    """

    #: Name of a detector; None for the model's.
    detector: str | None = None
    #: File of boxes that replaces the detector.
    boxes: Path | None = None
    #: Refinement passes.
    refine: int = 1
    #: Form of the dense meshes, or "none".
    vertices: str = "float32"
    #: Least score of a face; None for the detector's.
    min_score: float | None = None
    #: Faces per image; 0 for all.
    max_faces: int = 0
    #: Longer side of the copy that is searched, pixels; None for the detector's.
    detect_size: int | None = None
    #: Pixels above which a picture is refused.
    max_pixels: int = DEFAULT_MAX_PIXELS
    #: Column of a manifest that holds the paths.
    path_column: str | None = None
    #: Column of a Parquet file that holds the pictures themselves.
    image_column: str | None = None
    #: Column of a Parquet file that names its pictures.
    key_column: str | None = None
    #: Whether the JSON beside an archive's pictures goes into the images table.
    sample_json: bool = False
    #: Of videos: each so manieth frame is taken; None for what `fps` says, or all.
    every: int | None = None
    #: Of videos: frames a second that are taken; None for what `every` says.
    fps: float | None = None
    #: Whether faces are followed through videos.
    track: bool = True
    #: How followed faces are smoothed.
    smooth: str = NO_SMOOTHING
    #: What the last pass's answer is averaged with; None for what the model says.
    average: str | None = None
    #: Formats of pictures that are decoded, some of `picture_formats.FORMATS`.
    formats: tuple[str, ...] = DEFAULT_FORMATS
    #: How large photographs are decoded, one of `DECODINGS`.
    decode: str = FULL
    #: What runs the networks, one of `PROVIDERS`.
    provider: str = CPU

    def __post_init__(self) -> None:
        check_range("every", self.every, 1)
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise OptionError(f"fps is a number above 0, but is {self.fps}.")
        if self.smooth not in SMOOTHINGS:
            raise OptionError(f"smooth is one of {', '.join(SMOOTHINGS)}, but is {self.smooth!r}.")
        if self.average is not None and self.average not in AVERAGES:
            raise OptionError(f"average is one of {', '.join(AVERAGES)}, but is {self.average!r}.")
        if self.provider not in PROVIDERS:
            raise OptionError(f"provider is one of {', '.join(PROVIDERS)}, but is {self.provider!r}.")
        if self.decode not in DECODINGS:
            raise OptionError(f"decode is one of {', '.join(DECODINGS)}, but is {self.decode!r}.")
        check_range("refine", self.refine, 0, MAX_REFINE)
        check_range("min_score", self.min_score, 0, 1)
        check_range("max_faces", self.max_faces, 0)
        check_range("detect_size", self.detect_size, *DETECT_SIZES)
        check_range("max_pixels", self.max_pixels, 1, MAX_MAX_PIXELS)
        object.__setattr__(self, "formats", checked_formats(self.formats))
        if self.vertices not in VERTEX_FORMS:
            raise OptionError(f"vertices is one of {', '.join(VERTEX_FORMS)}, but is {self.vertices!r}.")

    def contradiction(self, spelled: Callable[[str], str]) -> str | None:
        """What excludes each other of the options, in a sentence that has their names as `spelled` writes them."""
        if self.boxes and (self.detector or self.min_score is not None):
            detector, min_score = spelled("detector"), spelled("min_score")
            return f"{spelled('boxes')} replaces the detector; leave out {detector} and {min_score}."
        if self.every is not None and self.fps is not None:
            return f"{spelled('every')} and {spelled('fps')} exclude each other."
        if self.smooth != NO_SMOOTHING and (self.boxes or not self.track):
            off, boxes = spelled("no_track"), spelled("boxes")
            return f"{spelled('smooth')} smooths faces that are followed; leave out {off} and {boxes}."
        return None


def check_range(name: str, value: float | None, least: float, most: float = math.inf) -> None:
    """Raise `OptionError` where an option that is given lies beyond its bounds."""
    if value is not None and not least <= value <= most:
        bounds = f"at least {least:,}" if most == math.inf else f"from {least:,} to {most:,}"
        raise OptionError(f"{name} is {bounds}, but is {value}.")


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
    #: Of videos: each so manieth frame is taken, or so many a second.
    every: int = 1
    fps: float | None = None
    #: Whether faces are followed through videos, and how followed faces are smoothed.
    track: bool = True
    smooth: str = NO_SMOOTHING
    #: What the last pass's answer is averaged with.
    average: str = NO_AVERAGE
    #: Formats of pictures that are decoded.
    formats: tuple[str, ...] = DEFAULT_FORMATS
    #: How large photographs are decoded; runs made before had this choice decoded them in full.
    decode: str = FULL
    #: What runs the networks.
    provider: str = CPU

    def as_dict(self) -> dict[str, Any]:
        """The options by name, for `run.json` and its comparison.

        Those that runs made before had not stand there only where they are not as usual.
        """
        return _unusual(self)

    @staticmethod
    def from_dict(options: dict[str, Any]) -> ProcessOptions:
        """The options `as_dict` wrote."""
        return ProcessOptions(**_with_tuples(options))


def _unusual(options: Any) -> dict[str, Any]:
    """The fields of options that are not as usual, tuples as lists."""
    usual = {f.name: f.default for f in fields(options)}
    return _with_lists({name: value for name, value in asdict(options).items() if value != usual[name]})


def usual_options(kind: str) -> dict[str, Any]:
    """What `run.json` leaves out of the options of a kind of run, where it is as usual."""
    options = {"process": ProcessOptions, "synth-videos": SynthOptions}.get(kind)
    known = () if options is None else fields(options)
    return _with_lists({f.name: f.default for f in known if f.default is not MISSING})


def _with_lists(options: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


def _with_tuples(options: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


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
    #: Formats of pictures that are decoded.
    formats: tuple[str, ...] = DEFAULT_FORMATS

    def as_dict(self) -> dict[str, Any]:
        """The options by name, for `run.json` and its comparison."""
        return _unusual(self)

    @staticmethod
    def from_dict(options: dict[str, Any]) -> SynthOptions:
        """The options `as_dict` wrote."""
        return SynthOptions(**_with_tuples(options))

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
            formats=self.formats,
        )


#: Kinds of pictures that `render` draws, in the order in which they are told.
PICTURE_KINDS = (
    "landmarks",
    "dense",
    "mesh",
    "wireframe",
    "depth",
    "pncc",
    "normals",
    "pose",
    "uv",
    "crop",
    "image",
)
#: Formats of pictures.
PICTURE_FORMATS = ("png", "jpeg", "webp")
#: Least and most pixels of a picture's longer side that can be asked for.
PICTURE_SIDES = (16, 8192)


@dataclass(frozen=True)
class RenderOptions:
    """Every option of `render` that changes what is drawn."""

    #: Some of `PICTURE_KINDS`, side by side in this order.
    kinds: tuple[str, ...]
    #: One of `PICTURE_FORMATS`.
    format: str
    #: Pixels of each picture's longer side; None for the photograph's.
    longest: int | None
    #: Whether frames of videos become pictures, and not videos.
    frames: bool
    #: The run that is drawn, absolute.
    run: str
    #: When that run was planned, which tells it from another in the same folder.
    run_created: str
    #: Pixels above which a photograph is refused.
    max_pixels: int
    #: Which faces, as `Selection` has them.
    selection: dict[str, Any]
    #: Whether meshes are drawn in the photograph's colours.
    texture: bool = False

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in PICTURE_KINDS:
                raise OptionError(f"kind is one of {', '.join(PICTURE_KINDS)}, but is {kind!r}.")
        if self.texture and "mesh" not in self.kinds:
            raise OptionError("The kind mesh alone has a texture; add it, or leave out the texture.")
        if self.format not in PICTURE_FORMATS:
            raise OptionError(f"format is one of {', '.join(PICTURE_FORMATS)}, but is {self.format!r}.")
        check_range("longest", self.longest, *PICTURE_SIDES)

    def as_dict(self) -> dict[str, Any]:
        """The options by name, for `run.json` and its comparison."""
        return {**asdict(self), "kinds": list(self.kinds)}

    @staticmethod
    def from_dict(options: dict[str, Any]) -> RenderOptions:
        """The options `as_dict` wrote."""
        return RenderOptions(**{**options, "kinds": tuple(options["kinds"])})


#: Formats of meshes, their colours, and the frames they can stand in.
MESH_FORMATS = ("glb", "obj", "ply", "npz", "csv")
MESH_COLOURS = ("auto", "texture", "vertices", "none")
MESH_FRAMES = ("canonical", "image")


@dataclass(frozen=True)
class ExportOptions:
    """Every option of `export` that changes what is written."""

    #: One of `MESH_FORMATS`.
    format: str
    #: One of `MESH_COLOURS` but auto.
    colours: str
    #: One of `MESH_FRAMES`.
    frame: str
    #: Whether y points down and z away from the viewer, or up and towards him.
    y_down: bool
    #: Whether tracks of videos become animated meshes, one each.
    tracks: bool
    #: The run that is exported, absolute, and when it was planned.
    run: str
    run_created: str
    #: Pixels above which a photograph is refused.
    max_pixels: int
    #: Which faces, as `Selection` has them.
    selection: dict[str, Any]

    def __post_init__(self) -> None:
        for name, value, known in (
            ("format", self.format, MESH_FORMATS),
            ("colours", self.colours, MESH_COLOURS[1:]),
            ("frame", self.frame, MESH_FRAMES),
        ):
            if value not in known:
                raise OptionError(f"{name} is one of {', '.join(known)}, but is {value!r}.")
        if self.format == "glb" and self.y_down:
            raise OptionError("In glTF y points up; choose another format for y down.")
        if self.tracks and self.format != "glb":
            raise OptionError("Only glb can move; leave out tracks, or choose that format.")
        if self.colours == "texture" and self.format not in ("glb", "obj"):
            raise OptionError(f"{self.format} holds no texture; choose colours of vertices, or none.")

    def as_dict(self) -> dict[str, Any]:
        """The options by name, for `run.json` and its comparison."""
        return asdict(self)


#: Seconds and bytes that an item may take, where nothing else is said.
DEFAULT_ITEM_SECONDS, DEFAULT_MEMORY_BYTES = 60.0, 2 << 30
#: Least seconds that can be asked for, and least bytes: below them the model alone has no room.
MIN_ITEM_SECONDS, MIN_MEMORY_BYTES = 0.1, 512 << 20


@dataclass(frozen=True)
class ItemLimits:
    """What an input may take of a worker before it becomes an error row."""

    #: Seconds that a worker may hold it.
    seconds: float = DEFAULT_ITEM_SECONDS
    #: Bytes that the worker may have in memory meanwhile, its decoder's process included.
    memory_bytes: int = DEFAULT_MEMORY_BYTES

    def __post_init__(self) -> None:
        check_range("item_timeout", self.seconds, MIN_ITEM_SECONDS)
        check_range("memory_limit", self.memory_bytes, MIN_MEMORY_BYTES)


@dataclass(frozen=True)
class RemoteLimits:
    """How long stores behind URLs are waited for; raises `OptionError` for what is out of range."""

    #: How often anything is asked for.
    attempts: int = 4
    #: Seconds that one attempt may take, besides a second for each MiB that is written.
    seconds: float = 30.0

    def __post_init__(self) -> None:
        check_range("remote_attempts", self.attempts, 1, MAX_REMOTE_ATTEMPTS)
        check_range("remote_timeout", self.seconds, 0.1, MAX_REMOTE_SECONDS)


@dataclass(frozen=True)
class RunPart:
    """One of several commands that share the shards of a run, such as the tasks of a job array."""

    #: Which of them, from 0.
    index: int
    #: How many there are.
    count: int

    def __post_init__(self) -> None:
        """Raise `OptionError` for a part that is none of so many."""
        if not 0 <= self.index < self.count:
            raise OptionError(
                f"There is no part {self.index} of {self.count}: --shard-index counts from 0 to {self.count - 1}."
            )

    def __str__(self) -> str:
        """It as people count."""
        return f"part {self.index + 1} of {self.count}"

    def shards(self, n: int) -> range:
        """Its shards of `n`: every so-manyth, so that parts differ by one shard at most."""
        return range(self.index, n, self.count)


@dataclass(frozen=True)
class Execution:
    """Where the work is done. It never changes a result, so it is no part of a run's identity."""

    #: "auto", "in-process", "local", or the address or scheduler file of a running cluster.
    scheduler: str = "auto"
    #: Processes of a local cluster; None for one per usable core.
    workers: int | None = None
    #: What an input may take.
    limits: ItemLimits = ItemLimits()
    #: How long stores are waited for.
    remote: RemoteLimits = RemoteLimits()
    #: The part of the run that is done; None for all of it.
    part: RunPart | None = None
    #: A cluster that is asked for workers, whatever `scheduler` says; None for none.
    cluster: BatchCluster | KubernetesCluster | None = None


#: Protocols of `evaluate` (paper, section 3.1); `pipeline.evaluation.protocols` has one file for each.
PROTOCOLS = ("aflw2000-3d", "aflw", "aflw2000-3d-dense", "florence", "video")
