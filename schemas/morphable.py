"""The 3-D morphable model as arrays: S = S̄ + A_id·α_id + A_exp·α_exp (paper, eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, I32, check_shape
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.schemas.parameters import ParameterLayout

#: Landmarks of the iBUG 68-point markup.
N_LANDMARKS = 68


@dataclass(frozen=True)
class MorphableModel:
    """A linear face model with V vertices and T triangles, in the model's own unit.

    Axes of the model frame: x to the image's right, y up, z towards the viewer for a frontal face.

    mean (V, 3); basis (K, V, 3), shape rows first, then expression; triangles (T, 3), counter-clockwise
    seen from outside; landmarks (68,) vertex indices; uv (V, 2) in [0, 1] and ncc (V, 3), where known.
    """

    mean: F32
    basis: F32
    n_shape: int
    triangles: I32
    landmarks: I32
    topology: str
    unit: str
    uv: F32 | None = None
    ncc: F32 | None = None

    def __post_init__(self) -> None:
        check_shape("mean", self.mean, None, 3)
        v = self.mean.shape[0]
        check_shape("basis", self.basis, None, v, 3)
        check_shape("triangles", self.triangles, None, 3)
        check_shape("landmarks", self.landmarks, N_LANDMARKS)
        if not 0 <= self.n_shape <= self.basis.shape[0]:
            raise ShapeError(f"n_shape must lie in 0..{self.basis.shape[0]}, but is {self.n_shape}.")
        for name, indices in (("triangles", self.triangles), ("landmarks", self.landmarks)):
            if indices.size and (indices.min() < 0 or indices.max() >= v):
                raise ShapeError(f"{name} must index the {v} vertices, but span {np.ptp(indices)} from "
                                 f"{indices.min()} to {indices.max()}.")  # fmt: skip
        if self.uv is not None:
            check_shape("uv", self.uv, v, 2)
        if self.ncc is not None:
            check_shape("ncc", self.ncc, v, 3)

    @property
    def n_vertices(self) -> int:
        """V, the number of vertices."""
        return int(self.mean.shape[0])

    @property
    def layout(self) -> ParameterLayout:
        """The parameter layout this model needs."""
        return ParameterLayout(self.n_shape, int(self.basis.shape[0]) - self.n_shape)
