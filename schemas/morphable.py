"""The 3-D morphable model as arrays: S = S̄ + A_id·α_id + A_exp·α_exp (paper, eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass

from ddfa_batch.schemas.arrays import F32, I32, check_shape
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.schemas.parameters import ParameterLayout

#: Landmarks of the iBUG 68-point markup.
N_LANDMARKS = 68


@dataclass(frozen=True)
class MorphableModel:
    """A linear face model with V vertices and T triangles, in the model's own unit.

    Axes of the model frame: x to the image's right, y up, z towards the viewer for a frontal face.
    """

    #: S̄, (V, 3).
    mean: F32
    #: A, (K, V, 3): shape rows first, then expression.
    basis: F32
    #: How many rows of the basis are of shape.
    n_shape: int
    #: (T, 3) vertex indices, counter-clockwise seen from outside.
    triangles: I32
    #: (68,) vertex indices.
    landmarks: I32
    #: What the mesh is called.
    topology: str
    #: What one unit of the coordinates is.
    unit: str
    #: (V, 2) in [0, 1], where known.
    uv: F32 | None = None
    #: Normalised coordinate code (V, 3), where known.
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
                raise ShapeError(
                    f"{name} must index the {v} vertices, but run from {indices.min()} to {indices.max()}."
                )
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
