"""The parameter vector: where pose, shape and expression stand in it."""

from __future__ import annotations

from dataclasses import dataclass

from ddfa_batch.schemas.arrays import Floats, check_shape

#: Length of the pose part: T = f·[R | t], 3×4, row-major (paper, section 2.1, eq. 3).
N_POSE = 12


@dataclass(frozen=True)
class ParameterLayout:
    """How a parameter vector is cut: pose (12), then shape, then expression coefficients.

    The paper's is 12 + 40 + 10 = 62; other models have other lengths, so the layout is data of
    the model bundle.
    """

    n_shape: int
    n_expression: int

    @property
    def size(self) -> int:
        """Length of the whole vector."""
        return N_POSE + self.n_shape + self.n_expression

    def pose(self, params: Floats) -> Floats:
        """Return T, shape (N, 3, 4), of params (N, size)."""
        check_shape("params", params, None, self.size)
        return params[:, :N_POSE].reshape(-1, 3, 4)

    def coefficients(self, params: Floats) -> Floats:
        """Return α = [α_shape, α_expression], shape (N, n_shape + n_expression)."""
        check_shape("params", params, None, self.size)
        return params[:, N_POSE:]
