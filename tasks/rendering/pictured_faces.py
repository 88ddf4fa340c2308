"""The faces of one picture, as everything that draws them takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, Bools, check_shape
from ddfa_batch.schemas.morphable import N_LANDMARKS


@dataclass(frozen=True)
class PicturedFaces:
    """The faces of one picture; everything in its pixels."""

    #: Dense meshes (N, V, 3).
    meshes: F32
    #: (N, 68, 3).
    landmarks: F32
    #: (N, 68) whether a landmark can be seen.
    visible: Bools
    #: R (N, 3, 3), model axes to the viewer's, y up.
    rotation: F64
    #: Squares (N, 4) that were cropped.
    roi: F64
    #: Tracks (N,) that colour them; −1 for faces in the usual colours.
    track: I64

    def __post_init__(self) -> None:
        n = self.meshes.shape[0]
        check_shape("meshes", self.meshes, n, None, 3)
        check_shape("landmarks", self.landmarks, n, N_LANDMARKS, 3)
        check_shape("visible", self.visible, n, N_LANDMARKS)
        check_shape("rotation", self.rotation, n, 3, 3)
        check_shape("roi", self.roi, n, 4)
        check_shape("track", self.track, n)

    def __len__(self) -> int:
        return int(self.meshes.shape[0])

    def take(self, rows: I64) -> PicturedFaces:
        """The faces of `rows`."""
        return PicturedFaces(*(getattr(self, name)[rows] for name in PicturedFaces.__annotations__))

    def scaled(self, across: float, down: float) -> PicturedFaces:
        """The faces in the picture so many times as wide and as high; depth by the mean of both."""
        zoom = np.array([across, down, (across + down) / 2])
        shift = np.array([0.5, 0.5, 0.0])
        return PicturedFaces(
            ((self.meshes + shift) * zoom - shift).astype(np.float32),
            ((self.landmarks + shift) * zoom - shift).astype(np.float32),
            self.visible,
            self.rotation,
            self.roi * np.array([across, down, across, down]),
            self.track,
        )

    def from_afar(self) -> list[int]:
        """The faces in the order in which they are drawn: heads are of about one size, so the smallest is farthest."""
        return np.argsort(self.scale(), kind="stable").tolist()

    def scale(self) -> F64:
        """How large heads (N,) are: the root mean square distance of the landmarks from their mean, pixels."""
        centred = self.landmarks - self.landmarks.mean(axis=1, keepdims=True)
        return np.sqrt((centred.astype(np.float64) ** 2).sum(axis=2).mean(axis=1))
