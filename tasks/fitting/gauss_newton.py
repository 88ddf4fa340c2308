"""Gauss–Newton steps of pose, shape and expression together, with the noise of a face's labels estimated from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ddfa_batch.schemas.arrays import F64, I64
from ddfa_batch.tasks.fitting.fit_basis import FitBasis
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.scaled_orthographic import PosedFaces, pose_jacobian

#: Added to the pose's normal equations (a usual diagonal: 10⁴), so that points on a line, or in one spot, have a step.
_DAMPING = 1e-3
#: Least degrees of freedom the noise is estimated with, as a share of the observations.
_LEAST_FREEDOM = 0.1


@dataclass(frozen=True)
class LabelledPoints:
    """Points to fit, of n faces, y up."""

    #: (n, L, D), pixels, 0 where the weight is.
    x: F64
    #: (n, L), not negative.
    w: F64
    #: (n,), of the face, pixels.
    size: F64

    @property
    def dims(self) -> int:
        """D: 2, or 3 where labels speak of depth."""
        return int(self.x.shape[2])

    def take(self, rows: I64) -> LabelledPoints:
        """The faces of `rows`."""
        return LabelledPoints(self.x[rows], self.w[rows], self.size[rows])

    def cauchy(self, residuals: F64, halved: F64) -> F64:
        """Weights (n, L) of points with these residuals (n, L, D); one of `halved` (n,) halves a point's weight."""
        return np.asarray(self.w / (1 + np.square(residuals).sum(axis=2) / np.square(halved)[:, None]))


@dataclass(frozen=True)
class GaussNewtonStep:
    """One step of n faces."""

    #: After it.
    faces: PosedFaces
    #: (n,), standard deviation of the labels, pixels.
    noise: F64
    #: (n,), how far the point moved that moved most, share of the face's size.
    longest_move: F64


def step(labels: LabelledPoints, points: FitBasis, faces: PosedFaces, noise: F64, config: FitConfig) -> GaussNewtonStep:
    """One Gauss–Newton step of everything, of whitened `points`, with the noise (n,) in pixels estimated before.

    It minimises the weighted squares over the noise's square, plus those of β.
    """
    n, dims = len(labels.x), labels.dims
    pose, k = 4 + dims, len(points.basis)
    camera = faces.camera()
    turned = points.shape(faces.beta) @ camera.transpose(0, 2, 1)
    r = labels.x - turned[..., :dims] - faces.t[:, None]
    w = labels.cauchy(r, config.outlier * noise)
    J = np.empty((n, pose + k, labels.x.shape[1], dims))
    J[:, :pose] = pose_jacobian(turned, dims)
    J[:, pose:] = (points.basis.reshape(-1, 3) @ camera[:, :dims].transpose(0, 2, 1)).reshape(n, k, -1, dims)
    weighted = (J * (w / np.square(noise)[:, None])[:, None, :, None]).reshape(n, pose + k, -1)
    H = weighted @ J.reshape(n, pose + k, -1).transpose(0, 2, 1) + ridge(pose, k)
    gradient = (weighted @ r.reshape(n, -1, 1))[..., 0]
    gradient[:, pose:] -= faces.beta
    covariance = np.linalg.inv(H)
    delta = (covariance @ gradient[..., None])[..., 0]
    after = replace(faces.moved(delta[:, :pose]), beta=faces.beta + delta[:, pose:])
    # How the points move by it, to first order, and the number of parameters that the labels determine.
    moved = np.einsum("np,npq->nq", delta, J.reshape(n, pose + k, -1)).reshape(r.shape)
    determined = pose + k - np.trace(covariance[:, pose:, pose:], axis1=1, axis2=2)
    longest = np.where(labels.w > 0, np.linalg.norm(moved, axis=2), 0).max(axis=1) / labels.size
    return GaussNewtonStep(after, _noise(r - moved, w, determined, labels.size, config), longest)


def ridge(pose: int, k: int) -> F64:
    """What is added to the normal equations of pose and k coefficients: the pose's damping, the prior's 1 of each β."""
    return np.diag(np.repeat([_DAMPING, 1.0], [pose, k]))


def _noise(residuals: F64, w: F64, determined: F64, size: F64, config: FitConfig) -> F64:
    """Noise (n,) in pixels that makes the labels most probable, within the config's bounds.

    The evidence approximation (MacKay, "Bayesian Interpolation", 1992): σ² = Σ w·r² / (observations − determined
    parameters (n,)), of residuals (n, L, D) and weights (n, L).
    """
    observations = w.sum(axis=1) * residuals.shape[2]
    freedom = np.maximum(observations - determined, _LEAST_FREEDOM * observations)
    squares = (w[..., None] * np.square(residuals)).sum(axis=(1, 2))
    noise = np.sqrt(squares / np.maximum(freedom, 1e-9))
    return np.asarray(np.clip(noise, config.noise_floor * size, config.noise_ceiling * size))
