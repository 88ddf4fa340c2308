"""What a regressor is trained on: VDC, WPDC, fWPDC, their vanilla combination, and the two landmark terms.

Predictions and targets are whitened parameters z = (p − μ)/σ (paper, section 2.1), batch first. Every loss is a
scalar, the mean over the batch. Distances are in pixels of the crop.

Both VDC and the weights of fWPDC are sums over all vertices of squares of what is linear in the vertices, so they
need the vertices' second moments only: matrices of 154×154 and less, computed once in float64. The losses below
are therefore exact over the whole mesh, and cost the same for any number of vertices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ddfa_batch.schemas.arrays import Floats, check_shape
from ddfa_batch.schemas.morphable import N_LANDMARKS, MorphableModel
from ddfa_batch.schemas.parameters import N_POSE

#: Keeps a ratio of losses finite where the denominator vanishes.
_TINY = 1e-12
#: Distances, px, below which an unsquared loss is about square again: its gradient would jump at 0.
_SOFT = 0.1
#: Random faces from which the losses' units are taken.
_UNIT_SAMPLES = 512


@dataclass(frozen=True)
class FaceSpace:
    """What the losses know of a morphable model of N vertices and K coefficients, as tensors."""

    #: (P,), μ of the whitening.
    mean: Tensor
    #: (P,), σ of the whitening.
    std: Tensor
    #: (1 + K, N, 3): mean shape and basis in whitened coefficients, so that S = [1, z_α] · shape.
    shape: Tensor
    #: (3K + 4, 3K + 4): F with FᵀF = Σ_v b_v b_vᵀ / N, b_v = [shape[k, v, c], 1] (k before c).
    root: Tensor
    #: (3, 1 + K, 1 + K): Σ_v of products of shape[:, v, c].
    rows: Tensor
    #: (K, 9): Σ_v a_v a_vᵀ of each basis vector.
    columns: Tensor
    #: (1 + K, 68, 3): shape at the landmarks.
    landmarks: Tensor
    #: Side of the crop, pixels.
    size: int
    #: What VDC is for the mean face, when targets vary as the whitening says, px². Divided by their units both losses
    #: are about 1 before anything is learnt, and one learning rate and optimiser state suit both.
    vdc_unit: float = 1.0
    #: The same of fWPDC.
    fwpdc_unit: float = 1.0

    @staticmethod
    def of(
        model: MorphableModel,
        mean: Floats,
        std: Floats,
        size: int,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> FaceSpace:
        """The space of `model` under the whitening mean and std (P,), for crops of `size` pixels."""
        p = model.layout.size
        check_shape("mean", np.asarray(mean), p)
        check_shape("std", np.asarray(std), p)
        mu, sigma = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        basis = model.basis.astype(np.float64)
        first = model.mean + np.tensordot(mu[N_POSE:], basis, axes=1)
        shape = np.concatenate([first[None], basis * sigma[N_POSE:, None, None]])
        k, n = shape.shape[:2]
        rows = np.einsum("kvc,lvc->ckl", shape, shape, optimize=True)
        columns = np.einsum("kvc,kvd->kcd", shape[1:], shape[1:], optimize=True).reshape(k - 1, 9)
        moments = np.concatenate([shape.transpose(1, 0, 2).reshape(n, -1), np.ones((n, 1))], axis=1)
        values, vectors = np.linalg.eigh(moments.T @ moments / n)
        root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T

        def tensor(array: Floats) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), dtype=dtype, device=device)

        space = FaceSpace(
            mean=tensor(mu),
            std=tensor(sigma),
            shape=tensor(shape),
            root=tensor(root),
            rows=tensor(rows),
            columns=tensor(columns),
            landmarks=tensor(shape[:, model.landmarks]),
            size=size,
        )
        targets = tensor(np.random.default_rng(0).normal(size=(_UNIT_SAMPLES, p)))
        mean_face = torch.zeros_like(targets)
        vdc_unit, fwpdc_unit = (float(loss(space, mean_face, targets)) for loss in (vdc, fwpdc))
        return replace(space, vdc_unit=vdc_unit, fwpdc_unit=fwpdc_unit)

    @property
    def n_vertices(self) -> int:
        """N."""
        return int(self.shape.shape[1])

    def pose(self, z: Tensor) -> Tensor:
        """T (B, 3, 4) of whitened parameters (B, P)."""
        return (z[:, :N_POSE] * self.std[:N_POSE] + self.mean[:N_POSE]).reshape(-1, 3, 4)


def _ones_first(z: Tensor) -> Tensor:
    """[1, z_α], (B, 1 + K)."""
    return torch.cat([torch.ones_like(z[:, :1]), z[:, N_POSE:]], dim=1)


def vertices(space: FaceSpace, z: Tensor, basis: Tensor | None = None) -> Tensor:
    """V₃d(p) = T · [S̄ + A·α; 1] (eq. 5), (B, N, 3) in the crop's frame; `basis` for some vertices only."""
    basis = space.shape if basis is None else basis
    T = space.pose(z)
    S = (_ones_first(z) @ basis.reshape(basis.shape[0], -1)).reshape(z.shape[0], -1, 3)
    return S @ T[:, :, :3].transpose(1, 2) + T[:, None, :, 3]


def landmarks(space: FaceSpace, z: Tensor) -> Tensor:
    """V₂d(p) at the 68 landmarks (eq. 3), (B, 68, 2) in pixels of the crop, y down."""
    v = vertices(space, z, space.landmarks)
    return torch.stack([v[..., 0] - 1, space.size - v[..., 1]], dim=-1)


def vertex_errors(space: FaceSpace, z: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance (B,) of all vertices, px²: ‖V₃d(p) − V₃d(p^g)‖² / N (eqs. 4 and 5).

    Row r of V₃d is [T_r ⊗ [1, z_α], t_r] · b_v for vertex v, so the sum over v is a quadratic form in the
    difference of these 3K + 4 numbers.
    """

    def lifted(z: Tensor) -> Tensor:
        T = space.pose(z)
        products = _ones_first(z)[:, None, :, None] * T[:, :, None, :3]
        return torch.cat([products.flatten(2), T[:, :, 3:]], dim=2)

    return ((lifted(z) - lifted(target)) @ space.root.T).square().sum(dim=(1, 2))


def vdc(space: FaceSpace, z: Tensor, target: Tensor) -> Tensor:
    """Vertex Distance Cost (eq. 4): L = ‖V₃d(p) − V₃d(p^g)‖², as the mean over the vertices, px²."""
    return vertex_errors(space, z, target).mean()


def wpdc_weights(space: FaceSpace, z: Tensor, target: Tensor) -> Tensor:
    """Weights (B, P) of WPDC by their definition (eq. 7): one reconstruction for every parameter.

    w_i = ‖V₃d(p^{de,i}) − V₃d(p^g)‖ / Z, where p^{de,i} is the ground truth with the i-th element predicted, and Z
    is the greatest of a face's weights. `fwpdc_weights` gives the same numbers.
    """
    with torch.no_grad():
        truth = vertices(space, target)
        columns = []
        for i in range(z.shape[1]):
            degraded = target.clone()
            degraded[:, i] = z[:, i]
            columns.append((vertices(space, degraded) - truth).square().sum(dim=(1, 2)).sqrt())
        return _normalised(torch.stack(columns, dim=1))


def fwpdc_weights(space: FaceSpace, z: Tensor, target: Tensor) -> Tensor:
    """Weights (B, P) of fWPDC (Algorithm 2), equal to eq. 7's.

    To be equal, three things of the printed algorithm are read so. S = S̄ + Aα is made from the ground truth's α,
    and f is the ground truth's scale, since p^{de,i} is the ground truth in all elements but one. The translation's
    factor √(N/3) is √(number of vertices): there N counts coordinates, 3 to a vertex. And f·‖A(:, i)‖ is written
    as ‖M·A(:, i)‖ with M = T^g's left 3×3 part: the same where M = f·R, and equal to eq. 7 also for labels that
    are not exactly a similarity, such as another network's. Norms come from second moments of the vertices.
    """
    with torch.no_grad():
        return _normalised((z - target).abs() * _influence(space, target))


def _influence(space: FaceSpace, target: Tensor) -> Tensor:
    """‖∂V₃d/∂z_i‖ at the target, (B, P): how far all vertices move, in the root of their squares' sum, px."""
    ones = _ones_first(target)
    row_norms = torch.einsum("bk,ckl,bl->bc", ones, space.rows, ones).clamp_min(0).sqrt()
    M = space.pose(target)[:, :, :3]
    metric = (M.transpose(1, 2) @ M).reshape(-1, 9)
    column_norms = (metric @ space.columns.T).clamp_min(0).sqrt()
    shift = torch.full_like(row_norms[:, :1], float(space.n_vertices) ** 0.5)
    of_pose = torch.cat([row_norms, shift], dim=1).repeat(1, 3) * space.std[:N_POSE]
    return torch.cat([of_pose, column_norms], dim=1)


def _normalised(weights: Tensor) -> Tensor:
    return weights / weights.amax(dim=1, keepdim=True).clamp_min(_TINY)


def parameter_distance(z: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """L_wpdc = ‖w · (p − p^g)‖² (eq. 6) of whitened parameters, for given weights (B, P)."""
    return (weights * (z - target)).square().sum(dim=1).mean()


def wpdc(space: FaceSpace, z: Tensor, target: Tensor) -> Tensor:
    """Weighted Parameter Distance Cost (eqs. 6 and 7); no gradient flows through the weights."""
    return parameter_distance(z, target, wpdc_weights(space, z, target))


def fwpdc(space: FaceSpace, z: Tensor, target: Tensor) -> Tensor:
    """Fast WPDC (Algorithm 2): L = ‖w_T · (T − T^g)‖² + ‖w_α · (α − α^g)‖²; no gradient through the weights."""
    return parameter_distance(z, target, fwpdc_weights(space, z, target))


def vanilla_joint(
    space: FaceSpace, z: Tensor, target: Tensor, beta: float, vdc: Callable[[FaceSpace, Tensor, Tensor], Tensor] = vdc
) -> Tensor:
    """L = β·L_fwpdc + (1 − β)·|L_fwpdc|/|L_vdc|·L_vdc (section 2.2); the ratio is a number, not a path of gradients."""
    f, v = fwpdc(space, z, target), vdc(space, z, target)
    return beta * f + (1 - beta) * balanced(f, v)


def balanced(main: Tensor, extra: Tensor) -> Tensor:
    """|l_main|/|l_extra| · L_extra (Algorithm 1, line 8): as large as the main loss, with the extra's gradient."""
    ratio = main.detach().abs() / extra.detach().abs().clamp_min(_TINY)
    return ratio * extra


def vdc_unsquared(space: FaceSpace, z: Tensor, target: Tensor) -> Tensor:
    """VDC without its square: the mean over the faces of √(‖V₃d(p) − V₃d(p^g)‖² / N), px.

    The square lets the faces that are furthest off, often those with a wrong label, decide; the errors by which nets
    are compared are distances.
    """
    return _lengths(vertex_errors(space, z, target)).mean()


def landmark_constraint(space: FaceSpace, z: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The "lmk" regularisation of Table 3: squared distance, px², of the parameters' own 68 points from the labels.

    labels (B, 68, 2) in pixels of the crop, y down; weights (B, 68), 0 where there is no label.
    """
    return _weighted_squares(landmarks(space, z) - _filled(labels, weights), weights)


def landmark_distance(space: FaceSpace, z: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The mean over the labelled faces of the mean distance, px, of the parameters' own 68 points from the labels."""
    return _mean_lengths(landmarks(space, z) - _filled(labels, weights), weights)


def unsteadiness(space: FaceSpace, z: Tensor, labels: Tensor, weights: Tensor, frames: int) -> Tensor:
    """By how much, px, the errors of the parameters' own 68 points differ between adjacent frames, in the mean.

    z (B, P) has the `frames` of each still side by side. What a net gets wrong alike in all frames of a face does no
    harm to a video; what it gets wrong now and then trembles.
    """
    errors = (landmarks(space, z) - _filled(labels, weights)).unflatten(0, (-1, frames))
    both = weights.unflatten(0, (-1, frames))
    both = (both[:, 1:] * both[:, :-1]).sqrt()
    changes = (errors[:, 1:] - errors[:, :-1]).square().sum(dim=3)
    return (_lengths(changes) * both).sum() / both.sum().clamp_min(_TINY)


def landmark_regression(answer: Tensor, labels: Tensor, weights: Tensor, size: int) -> Tensor:
    """L_lrr = 1/N · Σ_i ‖l_i − l_i^g‖² with N = 136 (section 2.3), of the landmark head's answer (B, 136).

    The head answers in half sides of the crop from its centre, x and y by turns; labels and weights as above.
    """
    return _weighted_squares(_head_error(answer, labels, weights, size), weights) / 2


def landmark_regression_distance(answer: Tensor, labels: Tensor, weights: Tensor, size: int) -> Tensor:
    """The mean over the labelled faces of the mean distance, px, of the landmark head's answer (B, 136)."""
    return _mean_lengths(_head_error(answer, labels, weights, size) * (size / 2), weights)


def _head_error(answer: Tensor, labels: Tensor, weights: Tensor, size: int) -> Tensor:
    wanted = _filled(labels, weights) / (size / 2) - 1
    return answer.reshape(-1, N_LANDMARKS, 2) - wanted


def _filled(labels: Tensor, weights: Tensor) -> Tensor:
    """Labels with numbers where there are none: a NaN would reach the gradient through a weight of 0."""
    return torch.where(weights[..., None] > 0, labels, torch.zeros_like(labels))


def _weighted_squares(difference: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean squared length of differences (B, 68, 2)."""
    return (difference.square().sum(dim=2) * weights).sum() / weights.sum().clamp_min(_TINY)


def _mean_lengths(difference: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean length of differences (B, 68, 2), every face that has a label counted alike."""
    of_faces = weights.sum(dim=1)
    means = (_lengths(difference.square().sum(dim=2)) * weights).sum(dim=1) / of_faces.clamp_min(_TINY)
    return means.sum() / (of_faces > 0).sum().clamp_min(1)


def _lengths(squares: Tensor) -> Tensor:
    """Roots whose slope stays finite at 0."""
    return (squares + _SOFT**2).sqrt()
