"""What the stages of `process` hand to each other: small arrays, never pixels of whole images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I32, I64, Bools, check_shape

#: The track of a face that was not followed.
NO_TRACK = -1


@dataclass(frozen=True)
class Detections:
    """Face boxes of one image, best first."""

    #: x0, y0, x1, y1 (N, 4) in pixels.
    boxes: F32
    #: (N,), in 0..1.
    scores: F32

    def __post_init__(self) -> None:
        check_shape("boxes", self.boxes, None, 4)
        check_shape("scores", self.scores, self.boxes.shape[0])

    def best(self, n: int) -> Detections:
        """The first `n` boxes."""
        return self.take(np.arange(min(n, len(self.scores))))

    def take(self, rows: I64) -> Detections:
        """The boxes of `rows`."""
        return Detections(self.boxes[rows], self.scores[rows])


@dataclass(frozen=True)
class Faces:
    """Regressed faces, one row each."""

    #: Which image of the plan (N,).
    image_id: I64
    #: Which face of the image (N,).
    index: I32
    #: The detector's box (N, 4) x0, y0, x1, y1, pixels.
    box: F32
    #: Confidence that it is a face (N,), in 0..1.
    score: F32
    #: The square (N, 4) whose crop was regressed, pixels.
    roi: F64
    #: Parameters (N, P), in the frame of the crop not turned.
    params: F32
    #: Variance of the crop's Laplacian (N,).
    sharpness: F32
    #: Share (N,) of the roi beyond the image.
    roi_outside: F32
    #: Track (N,) within the shard and the video, from 0; `NO_TRACK` for faces that were not followed.
    track: I64

    def __post_init__(self) -> None:
        n = self.image_id.shape[0]
        for name in ("index", "score", "sharpness", "roi_outside", "track"):
            check_shape(name, getattr(self, name), n)
        check_shape("box", self.box, n, 4)
        check_shape("roi", self.roi, n, 4)
        check_shape("params", self.params, n, None)

    def __len__(self) -> int:
        return int(self.image_id.shape[0])

    def take(self, rows: I64) -> Faces:
        """The faces of `rows`."""
        return Faces(*(getattr(self, name)[rows] for name in Faces.__annotations__))

    @staticmethod
    def concatenate(parts: list[Faces], n_params: int) -> Faces:
        """All parts as one; `n_params` shapes the result when there are none."""
        if not parts:
            none, no_box = np.zeros(0, np.float32), np.zeros((0, 4), np.float32)
            return Faces(
                image_id=np.zeros(0, np.int64),
                index=np.zeros(0, np.int32),
                box=no_box,
                score=none,
                roi=no_box.astype(np.float64),
                params=np.zeros((0, n_params), np.float32),
                sharpness=none,
                roi_outside=none,
                track=np.zeros(0, np.int64),
            )
        return Faces(*(np.concatenate([getattr(p, name) for p in parts]) for name in Faces.__annotations__))


@dataclass(frozen=True)
class Geometry:
    """What the parameters mean in the image, one row a face; see docs/conventions.md."""

    #: R (N, 3, 3), proper.
    rotation: F32
    #: Yaw, pitch and roll (N, 3), degrees.
    angles: F32
    #: Pixels per unit of the model (N,).
    scale: F32
    #: Where the model's origin lands (N, 3), pixels.
    translation: F32
    #: (N, 68, 3), pixels.
    landmarks: F32
    #: Which landmarks the head does not hide (N, 68).
    visible: Bools
    #: RMS of the whitened parameters (N,), `quality.param_distance`.
    param_distance: F32


@dataclass(frozen=True)
class ImageRecord:
    """One row of the images table: what became of one input."""

    #: Its place in the plan.
    image_id: int
    #: Its name in the list of inputs.
    key: str
    #: ok, no_face or error.
    status: str
    #: One of `errors.ERROR_KINDS`, where it is an error.
    error_kind: str | None = None
    #: One sentence, likewise.
    error_message: str | None = None
    #: Pixels, orientation applied.
    width: int | None = None
    height: int | None = None
    #: The file's size.
    n_bytes: int | None = None
    n_faces: int = 0
    #: Milliseconds of decoding, of detection, and of regression with all its repetitions.
    decode_ms: float | None = None
    detect_ms: float | None = None
    regress_ms: float | None = None
    #: The JSON beside it in its archive, where that was asked for.
    meta_json: str | None = None
    #: Of a frame: its video, its number there, and its time; of a video without frames only the first.
    video: int | None = None
    frame: int | None = None
    time_s: float | None = None
    #: What was drawn of it, relative to the run; None where nothing was.
    picture: str | None = None
