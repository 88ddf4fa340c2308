"""What coefficients of a face model are likely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F64, Floats, check_shape
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.schemas.parameters import N_POSE


@dataclass(frozen=True)
class Prior:
    """A Gaussian over the coefficients, in their own unit."""

    #: (K,)
    mean: F64
    #: (K,), positive.
    std: F64

    def __post_init__(self) -> None:
        check_shape("prior mean", self.mean, None)
        check_shape("prior std", self.std, self.mean.shape[0])
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()):
            raise ShapeError("The prior's mean must be finite and its std positive in every coefficient.")

    @staticmethod
    def unit(n: int) -> Prior:
        """Mean 0 and std 1, for models whose bases are scaled to unit variance."""
        return Prior(np.zeros(n), np.ones(n))

    @staticmethod
    def of_params(mean: Floats, std: Floats) -> Prior:
        """The coefficients' part of a bundle's whitening μ and σ (P,)."""
        return Prior(np.asarray(mean, np.float64)[N_POSE:], np.asarray(std, np.float64)[N_POSE:])
