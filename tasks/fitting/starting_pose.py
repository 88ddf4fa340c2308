"""The pose a fit starts from: that of the mean shape, from several yaws, the one that fits best."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F64
from ddfa_batch.tasks.fitting.fit_basis import FitBasis
from ddfa_batch.tasks.fitting.gauss_newton import LabelledPoints, ridge
from ddfa_batch.tasks.fitting.scaled_orthographic import PosedFaces, pose_jacobian, project
from ddfa_batch.tasks.geometry.pose import rotations

#: Yaw of the poses every face is started from, degrees; the one that fits best is kept.
_START_YAWS = (-70.0, -25.0, 25.0, 70.0)
#: Gauss–Newton steps of the pose alone, from each start.
_POSE_STEPS = 6
#: Residual of a face in the mean shape's pose at which a point's weight is halved, share of the size.
_POSE_OUTLIER = 0.08


def starting_poses(labels: LabelledPoints, points: FitBasis) -> PosedFaces:
    """Poses of the mean shape (β = 0) of whitened `points`: the least robust residual of several starts wins."""
    best = _posed_from(labels, points, _START_YAWS[0])
    least = _robust_cost(labels, points, best)
    for yaw in _START_YAWS[1:]:
        faces = _posed_from(labels, points, yaw)
        cost = _robust_cost(labels, points, faces)
        better = np.flatnonzero(cost < least)
        least[better] = cost[better]
        best = best.put(better, faces.take(better))
    return best


def _posed_from(labels: LabelledPoints, points: FitBasis, yaw: float) -> PosedFaces:
    R = rotations(np.array([[0.0, -np.radians(yaw), 0.0]]))
    faces = _upright(labels, points, np.repeat(R, len(labels.x), axis=0))
    for _ in range(_POSE_STEPS):
        faces = _pose_step(labels, points, faces)
    return faces


def _upright(labels: LabelledPoints, points: FitBasis, R: F64) -> PosedFaces:
    """Roll, scale and translation in closed form for rotations R that know yaw and pitch only (2-D Procrustes)."""
    share = labels.w / labels.w.sum(axis=1, keepdims=True)
    flat = np.einsum("nij,lj->nli", R[:, :2], points.mean)
    dx = labels.x[..., :2] - np.einsum("nl,nld->nd", share, labels.x[..., :2])[:, None]
    ds = flat - np.einsum("nl,nld->nd", share, flat)[:, None]
    along = np.einsum("nl,nld,nld->n", share, dx, ds)
    across = np.einsum("nl,nl->n", share, dx[..., 1] * ds[..., 0] - dx[..., 0] * ds[..., 1])
    scale = np.hypot(along, across) / np.maximum(np.einsum("nl,nld,nld->n", share, ds, ds), 1e-12)
    R = rotations(np.arctan2(across, along)[:, None] * [0, 0, 1]) @ R
    middle = np.einsum("nij,nj->ni", R[:, : labels.dims], share @ points.mean)
    t = np.einsum("nl,nld->nd", share, labels.x) - scale[:, None] * middle
    return PosedFaces(R, scale, t, np.zeros((len(R), len(points.basis))))


def _robust_cost(labels: LabelledPoints, points: FitBasis, faces: PosedFaces) -> F64:
    squares = np.square(project(points, faces, labels.dims) - labels.x).sum(axis=2)
    return np.asarray((labels.w * np.log1p(squares / np.square(_POSE_OUTLIER * labels.size)[:, None])).sum(axis=1))


def _pose_step(labels: LabelledPoints, points: FitBasis, faces: PosedFaces) -> PosedFaces:
    """One Gauss–Newton step of the pose alone, with Cauchy weights."""
    n, dims = len(labels.x), labels.dims
    turned = points.mean @ faces.camera().transpose(0, 2, 1)
    r = labels.x - turned[..., :dims] - faces.t[:, None]
    w = labels.cauchy(r, _POSE_OUTLIER * labels.size)
    J = pose_jacobian(turned, dims)
    weighted = (J * w[:, None, :, None]).reshape(n, 4 + dims, -1)
    H = weighted @ J.reshape(n, 4 + dims, -1).transpose(0, 2, 1) + ridge(4 + dims, 0)
    return faces.moved(np.linalg.solve(H, weighted @ r.reshape(n, -1, 1))[..., 0])
