"""Landmarks to parameters: a morphable model fitted to labelled points under scaled orthographic projection.

Thousands of faces at once, numpy only. Every face is one small least-squares problem: the points' distances in
the image plus the Mahalanobis length of the coefficients (eqs. 1 and 2, with a Gaussian prior on α). Pose,
shape and expression are solved together by Gauss–Newton steps on a proper rotation; the noise of a face's labels
is estimated from the face itself, and points that disagree with the rest are weighted down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, Bools, Floats, check_shape
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.schemas.morphable import N_LANDMARKS, MorphableModel
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.fitting.fit_basis import FitBasis
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.gauss_newton import LabelledPoints, step
from ddfa_batch.tasks.fitting.outline import far_jaw
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.fitting.scaled_orthographic import PosedFaces, project
from ddfa_batch.tasks.fitting.starting_pose import starting_poses
from ddfa_batch.tasks.geometry.boxes import labelled_sizes
from ddfa_batch.tasks.geometry.crop import roi_from_landmarks
from ddfa_batch.tasks.geometry.reconstruct import crop_pose

#: Faces solved together: their normal equations stay in the cache.
_BLOCK = 128
#: Fewest points that determine a pose.
_POSE_POINTS = 4
#: Ratio of the labelled points' lesser to their greater standard deviation below which they lie on a line or in one
#: spot and determine no pose; a face in profile has some 0.4.
_FLATTEST = 0.05


@dataclass(frozen=True)
class Fitted:
    """Fitted faces, one row each; a row that could not be fitted is NaN and not `converged`."""

    #: (N, P), in the frame of the crop of rois, as `process` stores them.
    params: F32
    #: (N, 4), image pixels.
    rois: F64
    #: (N, 68, 3), image pixels, the model's.
    landmarks: F32
    #: (N,), mean distance of the labelled points in the image, pixels.
    residual_px: F64
    #: (N,), the same as a share of the face's size.
    residual: F64
    #: (N,), estimated standard deviation of the labels, a share.
    noise: F64
    #: (N,), labelled points.
    n_points: I64
    #: (N,)
    converged: Bools
    #: (N, L), of the labels, 0 for those that were missing or on the outline.
    weights: F64


@dataclass(frozen=True)
class _Problem:
    """What is the same for all faces of a fit."""

    #: At the labels, whitened.
    points: FitBasis
    #: At the 68 landmarks, whitened.
    landmarks: FitBasis
    prior: Prior
    config: FitConfig


def fit(
    landmarks: Floats,
    model: MorphableModel,
    prior: Prior,
    *,
    basis: FitBasis | None = None,
    weights: Floats | None = None,
    config: FitConfig | None = None,
) -> Fitted:
    """Parameters of `model` from landmarks (N, L, 2 or 3) in image pixels, y down, NaN where not labelled.

    The third coordinate, where given, grows towards the viewer; without it T's depth offset is 0, as in the paper
    (t₃d = [t₂d; 0], section 2.1). weights (N, L) ≥ 0 say how far each label is to be trusted; `basis` says what
    the L labels are (by default the 68). Raises `ShapeError` for a wrong number of points; rows whose
    labelled points are too few, or lie on a line, come back as NaN.
    """
    config = config or FitConfig()
    full = FitBasis.landmarks68(model)
    points = full if basis is None else basis
    x, w = _checked(landmarks, weights, points, model, prior)
    problem = _Problem(points.whitened(prior), full.whitened(prior), prior, config)
    out = _unfitted(x.shape[0], model, w)
    rows = np.flatnonzero((out.n_points >= max(config.min_points, _POSE_POINTS)) & _spread(x, w))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        _fit_block(out, block, x[block], w[block], problem)
    return out


# ------------------------------------------------------------------------------------------- at the door


def _checked(
    landmarks: Floats, weights: Floats | None, points: FitBasis, model: MorphableModel, prior: Prior
) -> tuple[F64, F64]:
    """Labels with zeros for what is missing, y up, and their weights."""
    x = np.array(landmarks, np.float64)
    n_labels, n_coefficients = points.mean.shape[0], model.basis.shape[0]
    if x.ndim != 3 or x.shape[2] not in (2, 3):
        raise ShapeError(f"landmarks must have shape (any, {n_labels}, 2 or 3), but has {x.shape}.")
    check_shape("landmarks", x, None, n_labels, x.shape[2])
    check_shape("prior mean", prior.mean, n_coefficients)
    check_shape("basis", points.basis, n_coefficients, n_labels, 3)
    w = np.ones(x.shape[:2]) if weights is None else np.array(weights, np.float64)
    check_shape("weights", w, *x.shape[:2])
    if (w < 0).any() or not np.isfinite(w).all():
        raise ShapeError("weights must be finite and not negative.")
    w[~np.isfinite(x).all(axis=2)] = 0
    x[w == 0] = 0
    x[..., 1] *= -1
    return x, w


def _spread(x: F64, w: F64) -> Bools:
    """Whether (n,) the labelled points of x (n, L, ≥2) span an area."""
    total = np.maximum(w.sum(axis=1), 1e-12)[:, None]
    centred = x[..., :2] - (np.einsum("nl,nld->nd", w, x[..., :2]) / total)[:, None]
    least, most = np.linalg.eigvalsh(np.einsum("nl,nld,nle->nde", w, centred, centred) / total[..., None]).T
    return np.asarray((most > 0) & (least > _FLATTEST**2 * most))


def _unfitted(n: int, model: MorphableModel, weights: F64) -> Fitted:
    """n rows of NaN, to be filled."""
    return Fitted(
        params=np.full((n, model.layout.size), np.nan, np.float32),
        rois=np.full((n, 4), np.nan),
        landmarks=np.full((n, N_LANDMARKS, 3), np.nan, np.float32),
        residual_px=np.full(n, np.nan),
        residual=np.full(n, np.nan),
        noise=np.full(n, np.nan),
        n_points=np.count_nonzero(weights, axis=1),
        converged=np.zeros(n, np.bool_),
        weights=weights.copy(),
    )


# ------------------------------------------------------------------------------------------- the fit


def _fit_block(out: Fitted, rows: I64, x: F64, w: F64, problem: _Problem) -> None:
    """Fit the faces of some rows and fill these."""
    config = problem.config
    labels = LabelledPoints(x, w, _size(x, w))
    faces = starting_poses(labels, problem.points)
    # A profile shows half of its points: the face's size is that of the whole head, as posed.
    labels = replace(labels, size=_whole_size(faces, problem))
    noise = config.noise_ceiling * labels.size
    longest_move = np.full(len(rows), np.inf)
    active = np.arange(len(rows))
    for _ in range(config.steps):
        if config.outline:
            far = far_jaw(project(problem.landmarks, faces, 3), w.shape[1])
            labels = replace(labels, w=labels.w * ~far)
        after = step(labels.take(active), problem.points, faces.take(active), noise[active], config)
        noise[active], longest_move[active] = after.noise, after.longest_move
        faces = faces.put(active, after.faces)
        active = active[longest_move[active] > config.tolerance]
        if not len(active):
            break
    _fill(out, rows, faces, labels, problem)
    out.noise[rows] = noise / labels.size
    out.converged[rows] = (longest_move <= config.tolerance) & (out.residual[rows] <= config.misfit)


def _size(x: F64, w: F64) -> F64:
    """√(w·h) in pixels, (n,), of the box around points x (n, L, ≥2) of positive weight; at least 1."""
    return np.maximum(labelled_sizes(np.where((w > 0)[..., None], x, np.nan)), 1.0)


def _whole_size(faces: PosedFaces, problem: _Problem) -> F64:
    """√(w·h) in pixels, (n,), of all 68 landmarks as posed; at least 1."""
    return _size(project(problem.landmarks, faces, 2), np.ones((len(faces.s), N_LANDMARKS)))


def _fill(out: Fitted, rows: I64, faces: PosedFaces, labels: LabelledPoints, problem: _Problem) -> None:
    """Write posed faces as parameters in the crop around the model's own 68 points, with their residuals."""
    landmarks = project(problem.landmarks, faces, 3) * np.array([1.0, -1.0, 1.0])
    rois = roi_from_landmarks(landmarks)
    T = crop_pose(faces.image_pose(), rois, problem.config.size)
    if labels.dims == 2:
        # No label speaks of depth: T's is 0 in the crop, which lies one crop pixel behind 0 in the image.
        landmarks[..., 2] -= (rois[:, 2:] - rois[:, :2]).mean(axis=1, keepdims=True) / problem.config.size
        T[:, 2, 3] = 0
    alpha = problem.prior.mean + faces.beta * problem.prior.std
    out.params[rows] = np.concatenate([T.reshape(-1, N_POSE), alpha], axis=1)
    out.rois[rows], out.landmarks[rows], out.weights[rows] = rois, landmarks, labels.w
    distance = np.linalg.norm(project(problem.points, faces, 2) - labels.x[..., :2], axis=2)
    labelled = labels.w > 0
    out.residual_px[rows] = (distance * labelled).sum(axis=1) / labelled.sum(axis=1)
    out.residual[rows] = out.residual_px[rows] / _whole_size(faces, problem)
