"""The face model at the points that carry labels: iBUG's 68 points, AFLW's 21, or any vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F64, I64, Floats, check_shape
from ddfa_batch.schemas.morphable import N_LANDMARKS, MorphableModel
from ddfa_batch.tasks.fitting.prior import Prior

#: AFLW's 21 points as means of iBUG points, chosen for fitting: an eye's centre is that of its lids, the mouth's that
#: of the inner lips; its two ears (13 and 17) have no counterpart. (The authors' evaluation has another table:
#: `pipeline.protocols.aflw`.)
AFLW21: tuple[tuple[int, ...], ...] = (
    *((17,), (19,), (21,), (22,), (24,), (26,)),
    *((36,), (37, 38, 40, 41), (39,)),
    *((42,), (43, 44, 46, 47), (45,)),
    *((), (31,), (30,), (35,), ()),
    *((48,), (62, 66), (54,), (8,)),
)


@dataclass(frozen=True)
class FitBasis:
    """The model at the points that carry labels, in the model's unit."""

    #: (L, 3)
    mean: F64
    #: (K, L, 3)
    basis: F64

    def __post_init__(self) -> None:
        check_shape("mean", self.mean, None, 3)
        check_shape("basis", self.basis, None, self.mean.shape[0], 3)

    @staticmethod
    def of_vertices(model: MorphableModel, vertices: Floats | I64 | tuple[int, ...]) -> FitBasis:
        """Labels that name vertices of the model, one index each."""
        index = np.asarray(vertices, np.int64)
        return FitBasis(model.mean[index].astype(np.float64), model.basis[:, index].astype(np.float64))

    @staticmethod
    def landmarks68(model: MorphableModel) -> FitBasis:
        """Labels in the iBUG 68-point markup."""
        return FitBasis.of_vertices(model, tuple(int(i) for i in model.landmarks))

    @staticmethod
    def aflw21(model: MorphableModel) -> FitBasis:
        """Labels in AFLW's 21-point markup; the ears lie at the model's origin: give them no weight."""
        full, means = FitBasis.landmarks68(model), landmark_means(AFLW21)
        return FitBasis(means @ full.mean, means @ full.basis)

    def whitened(self, prior: Prior) -> FitBasis:
        """In units of the prior: S = mean + Σ β_k basis_k with β standard normal."""
        mean = self.mean + np.tensordot(prior.mean, self.basis, axes=1)
        return FitBasis(mean, self.basis * prior.std[:, None, None])

    def shape(self, coefficients: F64) -> F64:
        """S (n, L, 3) of coefficients (n, K)."""
        moved = coefficients @ self.basis.reshape(len(self.basis), -1)
        return moved.reshape(len(coefficients), -1, 3) + self.mean


def landmark_means(groups: tuple[tuple[int, ...], ...]) -> F64:
    """The matrix (len(groups), 68) that makes each point the mean of a group of the 68; 0 for an empty group."""
    means = np.zeros((len(groups), N_LANDMARKS))
    for row, members in enumerate(groups):
        means[row, list(members)] = 1 / max(len(members), 1)
    return means


def aflw21_weights(n: int) -> F64:
    """Weights (n, 21) that leave out AFLW's ears."""
    return np.tile(np.array([float(bool(members)) for members in AFLW21]), (n, 1))
