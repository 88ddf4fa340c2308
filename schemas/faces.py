"""What the stages of `process` hand to each other: small arrays, never pixels of whole images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I32, I64, Bools, check_shape


@dataclass(frozen=True)
class Detections:
    """Face boxes of one image, best first: boxes (N, 4) x0, y0, x1, y1 in pixels; scores (N,) in [0, 1]."""

    boxes: F32
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
    """Regressed faces, one row each.

    image_id (N,); index (N,) within the image; box and roi (N, 4) in pixels; score (N,); params (N, P) in
    the crop's frame; sharpness (N,) of the crop; roi_outside (N,) share of the roi beyond the image.
    """

    image_id: I64
    index: I32
    box: F32
    score: F32
    roi: F64
    params: F32
    sharpness: F32
    roi_outside: F32

    def __post_init__(self) -> None:
        n = self.image_id.shape[0]
        for name in ("index", "score", "sharpness", "roi_outside"):
            check_shape(name, getattr(self, name), n)
        check_shape("box", self.box, n, 4)
        check_shape("roi", self.roi, n, 4)
        check_shape("params", self.params, n, None)

    def __len__(self) -> int:
        return int(self.image_id.shape[0])

    @staticmethod
    def concatenate(parts: list[Faces], n_params: int) -> Faces:
        """All parts as one; `n_params` shapes the result when there are none."""
        if not parts:

            def zeros(*shape: int) -> F32:
                return np.zeros(shape, np.float32)

            return Faces(np.zeros(0, np.int64), np.zeros(0, np.int32), zeros(0, 4), zeros(0),
                         np.zeros((0, 4)), zeros(0, n_params), zeros(0), zeros(0))  # fmt: skip
        return Faces(*(np.concatenate([getattr(p, name) for p in parts]) for name in Faces.__annotations__))


@dataclass(frozen=True)
class Geometry:
    """What the parameters mean in the image, one row a face; see docs/conventions.md.

    rotation (N, 3, 3); angles (N, 3) yaw, pitch, roll in degrees; scale (N,) pixels per model unit;
    translation (N, 3) pixels; landmarks (N, 68, 3) pixels; visible (N, 68); param_distance (N,).
    """

    rotation: F32
    angles: F32
    scale: F32
    translation: F32
    landmarks: F32
    visible: Bools
    param_distance: F32


@dataclass(frozen=True)
class ImageRecord:
    """One row of the images table: what became of one input."""

    image_id: int
    key: str
    status: str
    error_kind: str | None = None
    error_message: str | None = None
    width: int | None = None
    height: int | None = None
    n_bytes: int | None = None
    n_faces: int = 0
    decode_ms: float | None = None
    detect_ms: float | None = None
    regress_ms: float | None = None
