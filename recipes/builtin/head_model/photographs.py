"""What labelled photographs say of the heads' coefficients: expectation maximisation of their Gaussian.

Faces are fitted with the Gaussian so far; what the fits say, and how uncertain they leave each coefficient, gives the
next (Dempster, Laird and Rubin, 1977, as in probabilistic principal component analysis). What photographs do not show
keeps the spread of the drawn heads, what they show more of is enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F64, I64, Bools
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.schemas.morphable import N_LANDMARKS, MorphableModel
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.landmark_fit import Fitted, fit
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry.reconstruct import image_pose

#: Labels are taken to scatter by this share of the face's size at least, and by that at most: no mode is spent on their
#: noise.
_CONFIG = FitConfig(noise_floor=0.010, noise_ceiling=0.03)
#: Least variance of a direction of the coefficients.
_LEAST_VARIANCE = 1e-8


@dataclass(frozen=True)
class Gaussian:
    """Of K coefficients."""

    #: (K,)
    mean: F64
    #: (K, K)
    covariance: F64


@dataclass(frozen=True)
class Moments:
    """What fits say of K whitened coefficients."""

    #: How many fits.
    count: int
    #: (K,), sum of their means.
    first: F64
    #: (K, K), sum of their second moments.
    second: F64
    #: Sum of their residuals, shares of the face's size.
    residual: float

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count,
            self.first + other.first,
            self.second + other.second,
            self.residual + other.residual,
        )


def learn(
    start: Gaussian, neutral: F64, basis: F64, blocks: list[I64], faces: list[F64], still: Bools, rounds: int
) -> tuple[Gaussian, float]:
    """The Gaussian of coefficients of basis (K, 68, 3) about neutral (68, 3), mm, and the last round's residual.

    `blocks` are coefficients that may vary together; the mean of those that are `still` (K,) stays 0. `faces` are sets
    of labels (N, 68, 2 or 3), NaN where unlabelled, the third coordinate towards the viewer.
    """
    gaussian, residual = start, np.nan
    for _ in range(rounds):
        root = _root(gaussian.covariance)
        mean = neutral + np.tensordot(gaussian.mean, basis, axes=1)
        white = np.tensordot(root.T, basis, axes=1)
        total = sum((moments(labels, mean, white) for labels in faces[1:]), moments(faces[0], mean, white))
        if not total.count:
            raise InputError(f"None of the {sum(map(len, faces))} labelled faces could be fitted; look at the labels.")
        gaussian = _next(gaussian, root, total, blocks, still)
        residual = total.residual / total.count
    return gaussian, residual


def _next(before: Gaussian, root: F64, total: Moments, blocks: list[I64], still: Bools) -> Gaussian:
    shift = total.first / total.count
    covariance = root @ (total.second / total.count - np.outer(shift, shift)) @ root.T
    together = np.zeros_like(covariance)
    for block in blocks:
        together[np.ix_(block, block)] = covariance[np.ix_(block, block)]
    mean = np.where(still, 0.0, before.mean + root @ shift)
    return Gaussian(mean, (together + together.T) / 2)


def moments(labels: F64, mean: F64, basis: F64) -> Moments:
    """What labels (N, 68, d) say of standard normal coefficients of basis (K, 68, 3) about mean (68, 3)."""
    k = len(basis)
    found = fit(labels, _points_model(mean, basis), Prior.unit(k), config=_CONFIG)
    rows = np.flatnonzero(found.converged)
    first, second = np.zeros(k), np.zeros((k, k))
    for row in rows:
        beta = found.params[row, N_POSE:].astype(np.float64)
        first += beta
        second += np.outer(beta, beta) + _uncertainty(found, int(row), mean, basis, labels.shape[2])
    return Moments(len(rows), first, second, float(found.residual[rows].sum()))


def leftovers(labels: F64, gaussian: Gaussian, neutral: F64, basis: F64) -> F64:
    """What fits of whole labels (N, 68, 3) leave over (n, 68, 3), mm, in the heads' own frames."""
    root = _root(gaussian.covariance)
    mean, white = neutral + np.tensordot(gaussian.mean, basis, axes=1), np.tensordot(root.T, basis, axes=1)
    found = fit(labels, _points_model(mean, white), Prior.unit(len(basis)), config=_CONFIG)
    rows = np.flatnonzero(found.converged & np.isfinite(labels).all(axis=(1, 2)))
    T = image_pose(found.params[rows, :N_POSE].reshape(-1, 3, 4).astype(np.float64), found.rois[rows], _CONFIG.size)
    views = T[..., :3] / np.square(np.linalg.norm(T[:, :1, :3], axis=2, keepdims=True))
    left = labels[rows] - found.landmarks[rows]
    return np.asarray(np.einsum("nac,nla->nlc", views, left - left.mean(axis=1, keepdims=True)))


def _root(covariance: F64) -> F64:
    values, axes = np.linalg.eigh(covariance)
    return np.asarray(axes * np.sqrt(np.maximum(values, _LEAST_VARIANCE)))


def _uncertainty(found: Fitted, row: int, mean: F64, basis: F64, dims: int) -> F64:
    """Posterior covariance (K, K) of one fit's coefficients, its pose unknown too (Laplace's approximation)."""
    T = image_pose(found.params[[row], :N_POSE].reshape(1, 3, 4).astype(np.float64), found.rois[[row]], _CONFIG.size)[0]
    view = T[:dims, :3]
    shape = mean + np.tensordot(found.params[row, N_POSE:].astype(np.float64), basis, axes=1)
    seen = (found.weights[row] > 0)[:, None, None]
    slopes = (np.einsum("ac,klc->lak", view, basis) * seen).reshape(-1, len(basis))
    pose = (_pose_slopes(shape @ T[:, :3].T, dims) * seen).reshape(slopes.shape[0], -1)
    q, _ = np.linalg.qr(pose)
    slopes -= q @ (q.T @ slopes)
    size = found.residual_px[row] / found.residual[row]
    sigma = max(found.noise[row], _CONFIG.noise_floor) * size
    return np.asarray(np.linalg.inv(slopes.T @ slopes / sigma**2 + np.eye(len(basis))))


def _pose_slopes(posed: F64, dims: int) -> F64:
    """Derivatives (68, dims, dims + 4) of posed points (68, 3) by shifts, scale and the three turns."""
    x, y, z = posed.T
    zero = np.zeros_like(x)
    shifts = [np.broadcast_to(axis, posed.shape) for axis in np.eye(3)[:dims]]
    turns = [np.stack(columns, axis=1) for columns in ((-y, x, zero), (z, zero, -x), (zero, z, -y))]
    return np.stack([*shifts, posed, *turns], axis=-1)[:, :dims]


def _points_model(mean: F64, basis: F64) -> MorphableModel:
    """A model of the 68 points alone."""
    order = np.arange(N_LANDMARKS, dtype=np.int32)
    return MorphableModel(
        mean.astype(np.float32), basis.astype(np.float32), len(basis), order[None, :3], order, "points", "mm"
    )
