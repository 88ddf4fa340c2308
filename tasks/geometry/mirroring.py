"""A face seen in a mirror: where its 68 points stand, and which parameters it has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, Floats, check_shape
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.schemas.parameters import N_POSE, ParameterLayout
from ddfa_batch.tasks.geometry.nearest import Neighbours

#: Where the points of each part stand in a mirrored face.
_JAW, _BROWS, _NOSE_LINE, _NOSTRILS = [*range(16, -1, -1)], [*range(26, 16, -1)], [27, 28, 29, 30], [35, 34, 33, 32, 31]
_EYES = [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
_OUTER_LIPS, _INNER_LIPS = [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55], [64, 63, 62, 61, 60, 67, 66, 65]
#: Where each of the 68 points stands in a mirrored face.
FLIP68 = np.array([*_JAW, *_BROWS, *_NOSE_LINE, *_NOSTRILS, *_EYES, *_OUTER_LIPS, *_INNER_LIPS])
#: The mirror of the model's frame: x to the other side.
_MIRROR = np.array([-1.0, 1.0, 1.0])
#: Vertices, about, that the map is measured on: as many say the same as all of them (0.34 % of a face's size of error
#: at the landmarks either way, official face model), in a twentieth of the time.
_N_MEASURED = 2000
#: What a landmark counts for beside another vertex: they are what is measured.
_LANDMARK_WEIGHT = 10.0


@dataclass(frozen=True)
class MirrorMap:
    """How the parameters of a face follow from those of its mirror image.

    The coefficients of a mirrored shape are an affine map of the shape's: exactly where the model's mean and span are
    symmetric, as the built-in one's are; else by least squares over vertices, with what is left in `residual`.
    """

    #: (K, K): α of the mirror image is α @ matrix + offset.
    matrix: F64
    #: (K,).
    offset: F64
    #: (3,): how far the mirrored mean lies from the mean, model units, where that is not about x = 0.
    shift: F64
    #: Root of the mean squared distance of vertices that the map leaves, as a share of the mean landmarks' size, for
    #: coefficients that vary by `deviations` about 0.
    residual: float
    #: Where α stands in a parameter vector.
    layout: ParameterLayout

    def __post_init__(self) -> None:
        k = self.offset.shape[0]
        check_shape("matrix", self.matrix, k, k)
        check_shape("shift", self.shift, 3)

    @staticmethod
    def of(model: MorphableModel, deviations: Floats) -> MirrorMap:
        """The map of a model whose coefficients vary by deviations (K,), which only weigh them against each other."""
        mean = model.mean.astype(np.float64)
        marks = mean[model.landmarks]
        shift = np.array([(marks[FLIP68] * _MIRROR - marks)[:, 0].mean(), 0.0, 0.0])
        vertices, twins = _twins(model, shift)
        weights = np.where(np.isin(vertices, model.landmarks), np.sqrt(_LANDMARK_WEIGHT), 1.0)[:, None]
        spread = np.where(np.asarray(deviations, np.float64) > 0, deviations, 1.0)
        basis = model.basis.astype(np.float64) * spread[:, None, None]
        own = (basis[:, vertices] * weights).reshape(len(basis), -1).T
        seen = (basis[:, twins] * _MIRROR * weights).reshape(len(basis), -1).T
        off = ((mean[twins] * _MIRROR - mean[vertices] - shift) * weights).ravel()
        wanted = np.column_stack([off, seen])
        found = np.linalg.lstsq(own, wanted, rcond=None)[0]
        size = float(np.sqrt(np.ptp(marks[:, :2], axis=0).prod()))
        left = np.square(wanted - own @ found).sum() / np.square(weights).sum()
        return MirrorMap(
            matrix=(spread[:, None] * found[:, 1:] / spread).T,
            offset=found[:, 0] * spread,
            shift=shift,
            residual=float(np.sqrt(left) / size),
            layout=model.layout,
        )

    def __call__(self, params: Floats, size: int) -> F32:
        """Parameters (N, P) of crops (size × size) as their mirror images' say of them, and the other way round."""
        return np.concatenate(
            [
                self._pose(self.layout.pose(params), size).reshape(-1, N_POSE),
                self.layout.coefficients(params) @ self.matrix + self.offset,
            ],
            axis=1,
        ).astype(np.float32)

    def _pose(self, pose: Floats, size: int) -> F64:
        """T (N, 3, 4) of the mirrored crop: D·R·D, and the translation mirrored about the middle of the pixels.

        x of the crop's frame is the pixel's column plus one (`image_pose`), so that column c and size − 1 − c are x
        and size + 1 − x.
        """
        T = np.array(pose, np.float64)
        T[:, :, :3] *= np.outer(_MIRROR, _MIRROR)
        T[:, 0, 3] = size + 1 - T[:, 0, 3]
        T[:, :, 3] += T[:, :, :3] @ self.shift
        return T


def _twins(model: MorphableModel, shift: F64) -> tuple[I64, I64]:
    """Vertices (n,) spread over the mesh, all landmarks among them, and of each the one in its place in a mirror.

    The mirror image of the mean lies `shift` (3,) from the mean. A landmark's twin is the landmark of that name,
    another vertex's the one nearest to its mirror image.
    """
    spread = np.arange(0, model.n_vertices, max(1, model.n_vertices // _N_MEASURED))
    vertices = np.union1d(model.landmarks, spread).astype(np.int64)
    mean = model.mean.astype(np.float64)
    twins = Neighbours(mean).nearest(mean[vertices] * _MIRROR - shift)
    twins[np.searchsorted(vertices, model.landmarks)] = model.landmarks[FLIP68]
    return vertices, twins
