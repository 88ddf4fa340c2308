"""Landmarks to parameters: a morphable model fitted to labelled points under scaled orthographic projection.

Thousands of faces at once, numpy only. Every face is one small least-squares problem: the points' distances in
the image plus the Mahalanobis length of the coefficients (eqs. 1 and 2, with a Gaussian prior on α). Pose,
shape and expression are solved together by Gauss–Newton steps on a proper rotation; the noise of a face's labels
is estimated from the face itself, and points that disagree with the rest are weighted down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, Bools, Floats, check_shape
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.schemas.morphable import N_LANDMARKS, MorphableModel
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.geometry.crop import roi_from_landmarks
from ddfa_batch.tasks.geometry.reconstruct import crop_pose

#: Faces solved together: their normal equations stay in the cache.
_BLOCK = 128
#: Yaw of the poses every face is started from, degrees; the one that fits best is kept.
_START_YAWS = (-70.0, -25.0, 25.0, 70.0)
#: Gauss–Newton steps of the pose alone, from each start, and their longest rotation, radians.
_POSE_STEPS, _LONGEST_TURN = 6, 0.6
#: Ratio of the labelled points' lesser to their greater standard deviation below which they lie on a line or in one
#: spot and determine no pose; a face in profile has some 0.4.
_FLATTEST = 0.05
#: Added to the pose's normal equations (a usual diagonal: 10⁴), so that points on a line, or in one spot, have a step.
_DAMPING = 1e-3
#: Yaw in radians beyond which the far side of the jaw is labelled at the face's outline (`FitConfig.outline`).
_FAR_TURN = np.radians(15.0)
#: AFLW's 21 points as means of iBUG points; its two ears (13 and 17) have no counterpart.
AFLW21 = (
    (17,), (19,), (21,), (22,), (24,), (26,), (36,), (37, 38, 40, 41), (39,), (42,), (43, 44, 46, 47), (45,),
    (), (31,), (30,), (35,), (), (48,), (62, 66), (54,), (8,),
)  # fmt: skip


@dataclass(frozen=True)
class FitConfig:
    """How a fit is done. Shares are of the face's size, √(w·h) of its landmarks' box.

    steps: most Gauss–Newton steps. noise_floor, noise_ceiling: bounds of the labels' standard deviation that is
    estimated per face (the human labels of AFLW scatter by about 2 %). outlier: residual, in standard deviations,
    at which a point's weight is halved (Cauchy). tolerance: share by which no point may still move in a fit that
    has converged. misfit: mean residual, a share, above which it counts as not converged. min_points: fewer
    labelled points are refused; 4 determine a pose. size: side of the crop the parameters refer to, pixels. outline:
    the labels follow the 2-D markup, in which the far side of a turned head's jaw is labelled where the face ends in
    the picture, not where the jaw is: such points get no weight.
    """

    steps: int = 12
    noise_floor: float = 2e-4
    noise_ceiling: float = 0.02
    outlier: float = 4.0
    tolerance: float = 1e-3
    misfit: float = 0.1
    min_points: int = 6
    size: int = 120
    outline: bool = False


@dataclass(frozen=True)
class Prior:
    """A Gaussian over the coefficients: mean and std (K,), in the coefficients' own unit."""

    mean: F64
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


@dataclass(frozen=True)
class FitBasis:
    """The model at the points that carry labels: mean (L, 3) and basis (K, L, 3), in the model's unit."""

    mean: F64
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
        full, mix = FitBasis.landmarks68(model), aflw21_mix()
        return FitBasis(mix @ full.mean, mix @ full.basis)


@dataclass(frozen=True)
class Fitted:
    """Fitted faces, one row each; a row that could not be fitted is NaN and not `converged`.

    params (N, P) in the frame of the crop of rois (N, 4), as `process` stores them; landmarks (N, 68, 3) in image
    pixels, the model's; residual_px and residual (N,), mean distance of the labelled points in the image, in
    pixels and as a share of the face's size; noise (N,) estimated share; n_points (N,) labelled; converged (N,);
    weights (N, L) of the labels, 0 for those that were missing or on the outline.
    """

    params: F32
    rois: F64
    landmarks: F32
    residual_px: F64
    residual: F64
    noise: F64
    n_points: I64
    converged: Bools
    weights: F64


@dataclass(frozen=True)
class _State:
    """Pose and whitened coefficients under way: R (n, 3, 3), s (n,) pixels per unit, t (n, D), β (n, K)."""

    R: F64
    s: F64
    t: F64
    beta: F64


@dataclass(frozen=True)
class _Labels:
    """Points to fit, y up: x (n, L, D), zero where the weight w (n, L) is; size (n,) of the face, pixels."""

    x: F64
    w: F64
    size: F64


def aflw21_mix() -> F64:
    """AFLW's 21 points as means of the 68, (21, 68); the rows of its ears are 0."""
    mix = np.zeros((len(AFLW21), N_LANDMARKS))
    for row, members in enumerate(AFLW21):
        mix[row, list(members)] = 1 / max(len(members), 1)
    return mix


def aflw21_weights(n: int) -> F64:
    """Weights (n, 21) that leave out AFLW's ears."""
    return np.tile(np.array([float(bool(members)) for members in AFLW21]), (n, 1))


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
    points = FitBasis.landmarks68(model) if basis is None else basis
    x, w = _checked(landmarks, weights, points, model, prior)
    n_points = np.count_nonzero(w, axis=1)
    usable = (n_points >= max(config.min_points, 4)) & _spread(x, w)
    out = _empty(x.shape[0], model, n_points, w)
    rows = np.flatnonzero(usable)
    whitened = _whiten(points, prior)
    full = _whiten(FitBasis.landmarks68(model), prior)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        _fit_block(out, block, x[block], w[block], whitened, full, prior, config)
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


def _whiten(points: FitBasis, prior: Prior) -> FitBasis:
    """The basis in units of the prior: S = mean + Σ β_k basis_k with β standard normal."""
    mean = points.mean + np.tensordot(prior.mean, points.basis, axes=1)
    return FitBasis(mean, points.basis * prior.std[:, None, None])


def _empty(n: int, model: MorphableModel, n_points: I64, weights: F64) -> Fitted:
    def nan(*shape: int) -> F64:
        return np.full(shape, np.nan)

    params = nan(n, model.layout.size).astype(np.float32)
    return Fitted(params, nan(n, 4), nan(n, N_LANDMARKS, 3).astype(np.float32), nan(n), nan(n), nan(n),
                  n_points, np.zeros(n, np.bool_), weights.copy())  # fmt: skip


def _box_size(x: F64, w: F64) -> F64:
    """√(w·h) in pixels, (n,), of the box around points x (n, L, ≥2) of positive weight; at least 1."""
    seen = (w > 0)[..., None]
    high = np.where(seen, x[..., :2], -np.inf).max(axis=1)
    low = np.where(seen, x[..., :2], np.inf).min(axis=1)
    return np.maximum(np.sqrt((high - low).prod(axis=1)), 1.0)


# ------------------------------------------------------------------------------------------- the solver


def _fit_block(
    out: Fitted, rows: I64, x: F64, w: F64, points: FitBasis, full: FitBasis, prior: Prior, config: FitConfig
) -> None:
    labels = _Labels(x, w, _box_size(x, w))
    state = _start(labels, points)
    # A profile shows half of its points: the face's size is that of the whole head, as posed.
    labels = _Labels(x, w, _box_size(_project(full, state, 2), np.ones((len(rows), N_LANDMARKS))))
    sigma = np.full(len(rows), config.noise_ceiling) * labels.size
    moved = np.full(len(rows), np.inf)
    active = np.arange(len(rows))
    for _ in range(config.steps):
        if config.outline:
            w = w * ~_beyond(full, state, w.shape[1])
        part = _Labels(x[active], w[active], labels.size[active])
        after, sigma[active], moved[active] = _step(part, points, _take(state, active), sigma[active], config)
        state = _put(state, active, after)
        active = active[moved[active] > config.tolerance]
        if not len(active):
            break
    size = _box_size(_project(full, state, 2), np.ones((len(rows), N_LANDMARKS)))
    distance = np.linalg.norm(_project(points, state, 2) - x[..., :2], axis=2)
    labelled = w > 0
    residual = (distance * labelled).sum(axis=1) / labelled.sum(axis=1)
    pose, alpha = _image_pose(state), prior.mean + state.beta * prior.std
    _write(out, rows, pose, alpha, full, state, x.shape[2], config)
    out.weights[rows] = w
    out.residual_px[rows], out.residual[rows] = residual, residual / size
    out.noise[rows] = sigma / labels.size
    out.converged[rows] = (moved <= config.tolerance) & (residual <= config.misfit * size)


def _beyond(full: FitBasis, state: _State, n_labels: int) -> Bools:
    """Which labels (n, L) are of the jaw's far side, in the 68-point markup; of other markups none.

    A jaw point is on the far side where it lies behind its mirror image by more than the sine of `_FAR_TURN` of their
    distance.
    """
    far = np.zeros((len(state.s), n_labels), np.bool_)
    if n_labels == N_LANDMARKS:
        jaw = _project(full, state, 3)[:, :17]
        across = jaw - jaw[:, ::-1]
        far[:, :17] = across[..., 2] < -np.sin(_FAR_TURN) * np.linalg.norm(across, axis=2) - 1e-9
    return far


def _write(
    out: Fitted, rows: I64, pose: F64, alpha: F64, full: FitBasis, state: _State, dims: int, config: FitConfig
) -> None:
    """Turn poses in the image into parameters in the crop around the model's own 68 points."""
    landmarks = _project(full, state, 3) * np.array([1.0, -1.0, 1.0])
    rois = roi_from_landmarks(landmarks)
    T = crop_pose(pose, rois, config.size)
    if dims == 2:
        # No label speaks of depth: T's is 0 in the crop, which lies one crop pixel behind 0 in the image.
        landmarks[..., 2] -= (rois[:, 2:] - rois[:, :2]).mean(axis=1, keepdims=True) / config.size
        T[:, 2, 3] = 0
    out.params[rows] = np.concatenate([T.reshape(-1, N_POSE), alpha], axis=1)
    out.rois[rows] = rois
    out.landmarks[rows] = landmarks


def _shape(points: FitBasis, beta: F64) -> F64:
    """S (n, L, 3) of whitened coefficients (n, K)."""
    k = points.basis.shape[0]
    return (beta @ points.basis.reshape(k, -1)).reshape(len(beta), -1, 3) + points.mean


def _project(points: FitBasis, state: _State, dims: int) -> F64:
    """s·R·S + t, (n, L, dims), y up; a depth no label speaks of has offset 0."""
    t = np.zeros((len(state.s), dims))
    d = min(dims, state.t.shape[1])
    t[:, :d] = state.t[:, :d]
    camera = state.s[:, None, None] * state.R[:, :dims]
    return _shape(points, state.beta) @ camera.transpose(0, 2, 1) + t[:, None]


def _image_pose(state: _State) -> F64:
    """T (n, 3, 4) in image pixels, y down."""
    T = np.zeros((len(state.s), 3, 4))
    T[:, :, :3] = state.s[:, None, None] * state.R
    T[:, : state.t.shape[1], 3] = state.t
    T[:, 1] *= -1
    return T


def _take(state: _State, rows: I64) -> _State:
    return _State(state.R[rows], state.s[rows], state.t[rows], state.beta[rows])


def _put(state: _State, rows: I64, part: _State) -> _State:
    """`state` with `rows` replaced."""

    def replaced(whole: F64, new: F64) -> F64:
        copy = whole.copy()
        copy[rows] = new
        return copy

    return _State(replaced(state.R, part.R), replaced(state.s, part.s), replaced(state.t, part.t),
                  replaced(state.beta, part.beta))  # fmt: skip


def _start(labels: _Labels, points: FitBasis) -> _State:
    """The pose of the mean shape: Gauss–Newton from several yaws, the least robust residual wins."""
    n, k = len(labels.x), points.basis.shape[0]
    best: _State | None = None
    least = np.full(n, np.inf)
    for yaw in np.radians(_START_YAWS):
        R = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
        state = _upright(labels, points, np.tile(R, (n, 1, 1)), np.zeros((n, k)))
        for _ in range(_POSE_STEPS):
            state = _pose_step(labels, points, state)
        cost = _robust_cost(labels, points, state)
        better = np.flatnonzero(cost < least)
        least[better] = cost[better]
        best = state if best is None else _put(best, better, _take(state, better))
    assert best is not None
    return best


def _upright(labels: _Labels, points: FitBasis, R: F64, beta: F64) -> _State:
    """Roll, scale and translation in closed form for rotations R that know yaw and pitch only (2-D Procrustes)."""
    flat = np.einsum("nij,lj->nli", R[:, :2], points.mean)
    total = labels.w.sum(axis=1)
    mean_x = np.einsum("nl,nld->nd", labels.w, labels.x[..., :2]) / total[:, None]
    mean_s = np.einsum("nl,nld->nd", labels.w, flat) / total[:, None]
    dx, ds = labels.x[..., :2] - mean_x[:, None], flat - mean_s[:, None]
    a = np.einsum("nl,nld,nld->n", labels.w, dx, ds)
    b = np.einsum("nl,nl->n", labels.w, dx[..., 1] * ds[..., 0] - dx[..., 0] * ds[..., 1])
    norm = np.maximum(np.hypot(a, b), 1e-12)
    cos, sin, nil, one = a / norm, b / norm, np.zeros_like(a), np.ones_like(a)
    roll = np.stack([np.stack([cos, -sin, nil], -1), np.stack([sin, cos, nil], -1), np.stack([nil, nil, one], -1)], 1)
    scale = norm / np.maximum(np.einsum("nl,nld,nld->n", labels.w, ds, ds), 1e-12)
    R = roll @ R
    t = np.einsum("nl,nld->nd", labels.w, labels.x) / total[:, None]
    mean = np.einsum("nl,ld->nd", labels.w, points.mean) / total[:, None]
    t -= np.einsum("nij,nj->ni", scale[:, None, None] * R[:, : labels.x.shape[2]], mean)
    return _State(R, scale, t, beta)


#: Residual of a face in the mean shape's pose at which a point's weight is halved, share of the size.
_POSE_OUTLIER = 0.08


def _robust_cost(labels: _Labels, points: FitBasis, state: _State) -> F64:
    squares = np.square(_project(points, state, labels.x.shape[2]) - labels.x).sum(axis=2)
    return (labels.w * np.log1p(squares / np.square(_POSE_OUTLIER * labels.size)[:, None])).sum(axis=1)


def _pose_jacobian(state: _State, turned: F64, dims: int) -> F64:
    """Derivatives (n, 3 + 1 + dims, L, dims) of s·R·S + t: turn about x, y, z; log scale; translation.

    turned (n, L, 3) = s·R·S. A turn ω multiplies R from the left: d = ω × (s·R·S).
    """
    n, length = turned.shape[:2]
    x, y, z = turned[..., 0], turned[..., 1], turned[..., 2]
    J = np.zeros((n, 4 + dims, length, dims))
    J[:, 0, :, 1] = -z
    J[:, 1, :, 0] = z
    J[:, 2, :, 0], J[:, 2, :, 1] = -y, x
    J[:, 3] = turned[..., :dims]
    if dims == 3:
        J[:, 0, :, 2], J[:, 1, :, 2] = y, -x
    for axis in range(dims):
        J[:, 4 + axis, :, axis] = 1
    return J


def _turned(state: _State, delta: F64) -> tuple[F64, F64, F64]:
    """R, s and t after a step δ (n, 4 + D); turns longer than `_LONGEST_TURN` are shortened."""
    omega = delta[:, :3]
    angle = np.linalg.norm(omega, axis=1)
    shrink = np.minimum(1.0, _LONGEST_TURN / np.maximum(angle, 1e-12))
    R = _rotation(omega * shrink[:, None]) @ state.R
    s = state.s * np.exp(np.clip(delta[:, 3], -_LONGEST_TURN, _LONGEST_TURN))
    return R, s, state.t + delta[:, 4:]


def _rotation(omega: F64) -> F64:
    """Rodrigues: the proper rotation (n, 3, 3) about vectors (n, 3), whose lengths are radians."""
    angle = np.maximum(np.linalg.norm(omega, axis=1), 1e-12)[:, None, None]
    K = np.zeros((len(omega), 3, 3))
    K[:, 2, 1], K[:, 0, 2], K[:, 1, 0] = omega.T
    K -= K.transpose(0, 2, 1)
    return np.eye(3) + np.sin(angle) / angle * K + (1 - np.cos(angle)) / angle**2 * (K @ K)


def _pose_step(labels: _Labels, points: FitBasis, state: _State) -> _State:
    """One Gauss–Newton step of the pose alone, with Cauchy weights."""
    n, dims = len(labels.x), labels.x.shape[2]
    turned = _shape(points, state.beta[:1]) @ (state.s[:, None, None] * state.R).transpose(0, 2, 1)
    r = labels.x - turned[..., :dims] - state.t[:, None]
    w = labels.w / (1 + np.square(r).sum(axis=2) / np.square(_POSE_OUTLIER * labels.size)[:, None])
    J = _pose_jacobian(state, turned, dims)
    weighted = (J * w[:, None, :, None]).reshape(n, 4 + dims, -1)
    H = weighted @ J.reshape(n, 4 + dims, -1).transpose(0, 2, 1)
    diagonal = np.arange(4 + dims)
    H[:, diagonal, diagonal] += _DAMPING
    delta = np.linalg.solve(H, weighted @ r.reshape(n, -1, 1))[..., 0]
    return _State(*_turned(state, delta), state.beta)


def _step(labels: _Labels, points: FitBasis, state: _State, sigma: F64, config: FitConfig) -> tuple[_State, F64, F64]:
    """One Gauss–Newton step of everything: the new state, noise σ (n,) in pixels, and the longest move as a share.

    The noise is what makes the labels most probable (evidence approximation: MacKay, "Bayesian Interpolation",
    1992): σ² = Σ w·r² / (observations − determined parameters), within the config's bounds.
    """
    n, dims = len(labels.x), labels.x.shape[2]
    k, pose = points.basis.shape[0], 4 + labels.x.shape[2]
    camera = state.s[:, None, None] * state.R
    turned = _shape(points, state.beta) @ camera.transpose(0, 2, 1)
    r = labels.x - turned[..., :dims] - state.t[:, None]
    w = labels.w / (1 + np.square(r).sum(axis=2) / np.square(config.outlier * sigma)[:, None])
    J = np.empty((n, pose + k, labels.x.shape[1], dims))
    J[:, :pose] = _pose_jacobian(state, turned, dims)
    rows = points.basis.reshape(-1, 3) @ camera[:, :dims].transpose(0, 2, 1)
    J[:, pose:] = rows.reshape(n, k, -1, dims)
    weighted = (J * (w / np.square(sigma)[:, None])[:, None, :, None]).reshape(n, pose + k, -1)
    H = weighted @ J.reshape(n, pose + k, -1).transpose(0, 2, 1)
    diagonal = np.arange(pose + k)
    H[:, diagonal[:pose], diagonal[:pose]] += _DAMPING
    H[:, diagonal[pose:], diagonal[pose:]] += 1
    gradient = (weighted @ r.reshape(n, -1, 1))[..., 0]
    gradient[:, pose:] -= state.beta
    covariance = np.linalg.inv(H)
    delta = (covariance @ gradient[..., None])[..., 0]
    after = _State(*_turned(state, delta[:, :pose]), state.beta + delta[:, pose:])
    # Residuals after the step, to first order, and the number of parameters the labels determine.
    moved = np.einsum("np,npq->nq", delta, J.reshape(n, pose + k, -1)).reshape(r.shape)
    determined = pose + k - np.trace(covariance[:, pose:, pose:], axis1=1, axis2=2)
    squares = (w[..., None] * np.square(r - moved)).sum(axis=(1, 2))
    freedom = np.maximum(w.sum(axis=1) * dims - determined, 0.1 * dims * w.sum(axis=1))
    bounds = config.noise_floor * labels.size, config.noise_ceiling * labels.size
    noise = np.clip(np.sqrt(squares / np.maximum(freedom, 1e-9)), *bounds)
    distance = np.where(labels.w > 0, np.linalg.norm(moved, axis=2), 0).max(axis=1) / labels.size
    return after, noise, distance
