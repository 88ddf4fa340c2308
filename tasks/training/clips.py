"""Training data in memory: labelled clips of one size, and their mirror images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, U8, Bools, Floats, check_shape
from ddfa_batch.schemas.morphable import N_LANDMARKS, MorphableModel
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.evaluation.landmark_errors import YAW_EDGES
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.landmark_fit import fit
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry import motion
from ddfa_batch.tasks.geometry.crop import roi_from_landmarks
from ddfa_batch.tasks.geometry.mirroring import FLIP68
from ddfa_batch.tasks.geometry.pose import yaw_of
from ddfa_batch.tasks.geometry.reconstruct import image_pose


@dataclass(frozen=True)
class Clips:
    """N labelled clips of F frames of one size, and their mirror images' labels (second axis: as it is, mirrored).

    Frame 0 is the photograph; a photograph alone is a clip of one frame. The mirror image has labels of its own since
    the models' bases are not symmetric: α of the mirrored face is another α.
    """

    #: (N,), the pictures' keys.
    names: Sequence[str]
    #: (N, F, H, W, 3), BGR.
    images: U8
    #: (N, 2, F, 3, 4), T in image pixels, y down.
    poses: F64
    #: (N, 2, K), shape and expression.
    coefficients: F64
    #: (N, 2, 4), of frame 0, image pixels.
    rois: F64
    #: (N, 2, F, 68, 2), image pixels, NaN where not labelled.
    landmarks: F32
    #: (N, 2, 68), of the landmarks.
    weights: F32
    #: (N,), how often a clip is drawn, relative to others.
    pose_weights: F64

    def __post_init__(self) -> None:
        n, f = len(self.names), self.images.shape[1]
        check_shape("images", self.images, n, None, None, None, 3)
        check_shape("poses", self.poses, n, 2, f, 3, 4)
        check_shape("coefficients", self.coefficients, n, 2, None)
        check_shape("rois", self.rois, n, 2, 4)
        check_shape("landmarks", self.landmarks, n, 2, f, N_LANDMARKS, 2)
        check_shape("weights", self.weights, n, 2, N_LANDMARKS)
        check_shape("pose_weights", self.pose_weights, n)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def frames(self) -> int:
        """F, frames of each clip."""
        return int(self.images.shape[1])

    def take(self, rows: I64 | Bools) -> Clips:
        """The clips of `rows`."""
        chosen = np.arange(len(self))[rows]
        return Clips(
            names=[self.names[i] for i in chosen],
            images=self.images[chosen],
            poses=self.poses[chosen],
            coefficients=self.coefficients[chosen],
            rois=self.rois[chosen],
            landmarks=self.landmarks[chosen],
            weights=self.weights[chosen],
            pose_weights=self.pose_weights[chosen],
        )


@dataclass(frozen=True)
class TrainingLabels:
    """What is known of the faces of N clips."""

    #: (N, F, 3, 4), T in image pixels, y down.
    poses: F64
    #: (N, K), shape and expression.
    coefficients: F64
    #: (N, 68, 2), labelled in frame 0, image pixels, NaN where missing.
    points: F64
    #: (N, 68), of the points.
    weights: F64


def clips_of(names: Sequence[str], images: U8, labels: TrainingLabels, model: MorphableModel, prior: Prior) -> Clips:
    """Clips from images (N, F, H, W, 3) and what is known of them.

    A face whose mirror image cannot be fitted is left out.

    The mirror image's parameters are fitted to the model's own 68 points, mirrored; it then moves as the clip does,
    mirrored. A labelled point keeps its distance from the model's point in every frame.
    """
    check_shape("images", images, len(names), None, None, None, 3)
    width = images.shape[3]
    S = model.mean[model.landmarks] + np.einsum("nk,klc->nlc", labels.coefficients, model.basis[:, model.landmarks])
    solid = S[:, None] @ labels.poses[..., :3].swapaxes(-1, -2) + labels.poses[..., None, :, 3]
    twin = fit(mirrored(solid[:, 0], width), model, prior, config=FitConfig(noise_ceiling=1e-3))
    size = FitConfig().size
    kept = twin.converged
    first = image_pose(twin.params[kept, :N_POSE].reshape(-1, 3, 4).astype(np.float64), twin.rois[kept], size)
    poses = np.stack([labels.poses[kept], _mirrored_motion(labels.poses[kept], first, width)], axis=1)
    alphas = np.stack([labels.coefficients[kept], twin.params[kept, N_POSE:].astype(np.float64)], axis=1)
    given = solid[kept, ..., :2] + (labels.points - solid[:, 0, :, :2])[kept, None]
    weights = np.where(np.isfinite(labels.points).all(axis=2), labels.weights, 0.0)[kept]
    points = np.stack([given, _swapped(given, width)], axis=1).astype(np.float32)
    rois = np.stack([roi_from_landmarks(solid[kept, 0]), twin.rois[kept]], axis=1)
    return Clips(
        names=_kept(names, kept),
        images=images if kept.all() else images[kept],
        poses=poses,
        coefficients=alphas,
        rois=rois,
        landmarks=points,
        weights=np.stack([weights, weights[:, FLIP68]], axis=1).astype(np.float32),
        pose_weights=pose_weights(yaw_of(labels.poses[kept, 0])),
    )


def _kept(names: Sequence[str], kept: Bools) -> list[str]:
    return [name for name, keep in zip(names, kept, strict=True) if keep]


def label_stills(
    names: Sequence[str],
    images: U8,
    landmarks: Floats,
    model: MorphableModel,
    prior: Prior,
    *,
    weights: Floats | None = None,
    config: FitConfig | None = None,
) -> Clips:
    """Clips of one frame from images (N, H, W, 3) and their landmarks (N, 68, ≥2), NaN where missing, by `fit`.

    A picture of which the fit does not converge is left out.
    """
    config = config or FitConfig()
    check_shape("images", images, len(names), None, None, 3)
    check_shape("landmarks", landmarks, len(names), N_LANDMARKS, None)
    given = np.ones(landmarks.shape[:2]) if weights is None else np.asarray(weights, np.float64)
    points = np.asarray(landmarks, np.float64)
    found = fit(points, model, prior, weights=given, config=config)
    kept = found.converged
    T = image_pose(found.params[kept, :N_POSE].reshape(-1, 3, 4).astype(np.float64), found.rois[kept], config.size)
    known = TrainingLabels(
        poses=T[:, None],
        coefficients=found.params[kept, N_POSE:].astype(np.float64),
        points=points[kept][..., :2],
        weights=given[kept],
    )
    return clips_of(_kept(names, kept), images[kept][:, None], known, model, prior)


def mirrored(landmarks: Floats, width: int) -> F64:
    """Landmarks (N, 68, ≥2) in pixels of the mirror image of a picture `width` pixels wide, in the order of the 68."""
    return _swapped(np.asarray(landmarks, np.float64), width)


def _swapped(landmarks: F64, width: int) -> F64:
    """`mirrored` for any number of leading axes."""
    flipped = np.array(landmarks[..., FLIP68, :])
    flipped[..., 0] = width - 1 - flipped[..., 0]
    return flipped


def _mirrored_motion(poses: F64, first: F64, width: int) -> F64:
    """Poses (N, F, 3, 4) of the mirrored clip, which begins with `first` (N, 3, 4) and moves as `poses`, mirrored."""
    mirror = np.array([[-1.0, 0, 0, width - 1], [0, 1, 0, 0], [0, 0, 1, 0]])
    moves = motion.compose(poses, motion.inverse(poses[:, :1]))
    return motion.compose(motion.compose(mirror, motion.compose(moves, mirror)), first[:, None])


def pose_weights(yaw: Floats) -> F64:
    """How often faces (N,) are drawn: by the square root of how rare their bin of |yaw| is (0–30, 30–60, 60–90°)."""
    bins = np.digitize(np.abs(yaw), YAW_EDGES)
    counts = np.bincount(bins, minlength=len(YAW_EDGES) + 1)
    return np.asarray(np.sqrt(counts.max() / counts[bins]), np.float64)


def is_validation(names: Iterable[str], share: float) -> Bools:
    """Which names belong to the validation part: about `share` of them, by their sha256, the same for ever."""
    heads = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names]
    return np.array([head < share * 2**64 for head in heads], np.bool_)


def whitening(params: Floats) -> tuple[F64, F64]:
    """μ and σ (P,) of parameters (N, P) (section 2.1); σ is 1 where they do not vary, as T's depth offset."""
    std = np.asarray(params, np.float64).std(axis=0)
    mean = np.asarray(params, np.float64).mean(axis=0)
    return mean, np.where(std > 1e-9 * np.maximum(np.abs(mean), 1e-9), std, 1.0)
