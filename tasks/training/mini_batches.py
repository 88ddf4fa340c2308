"""Training data in memory: labelled clips, and mini-batches of augmented short sequences made from them.

A mini-batch is a pure function of the stills, the options and a list of numbers (its seed), so that a training that
was killed sees the same batches when it goes on. All geometry of a frame (mirror, rotation, scale, shift) is one
similarity, applied to pixels, pose and landmarks alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, U8, Bools, Floats, check_shape
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.schemas.morphable import N_LANDMARKS, MorphableModel
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.evaluation.landmark_errors import YAW_EDGES
from ddfa_batch.tasks.fitting.landmark_fit import FitConfig, Prior, fit
from ddfa_batch.tasks.geometry import motion
from ddfa_batch.tasks.geometry.crop import roi_from_landmarks, similarity, warp
from ddfa_batch.tasks.geometry.pose import yaw_of
from ddfa_batch.tasks.geometry.reconstruct import crop_pose, image_pose
from ddfa_batch.tasks.rendering.degradation import motion_blur

#: Where each of the 68 points stands in a mirrored face.
FLIP68 = np.array([
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
    41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
])  # fmt: skip
#: How the n frames of a still differ: smoothly, as the paper's short videos, or at random (Table 4, "rnd").
MOTIONS = ("smooth", "random")


@dataclass(frozen=True)
class Augmentation:
    """How strongly frames are changed; standard deviations unless said otherwise.

    mirror: probability. rotation, degrees; scale, of its logarithm; shift, share of the roi's side. gain, of the
    logarithm of each channel; offset, grey levels. blur and occluder: probability of each; blur_sigma: largest, pixels
    of the crop; occluder_side: largest share of the crop's side. noise: largest standard deviation, grey levels.
    step_*: the same between adjacent frames of a clip (eq. 8: Δθ, Δs, Δt). exposure: largest share of a frame's time
    for which the shutter is open (motion blur).
    """

    mirror: float = 0.5
    rotation: float = 15.0
    scale: float = 0.08
    shift: float = 0.05
    gain: float = 0.12
    offset: float = 12.0
    blur: float = 0.2
    blur_sigma: float = 1.5
    occluder: float = 0.2
    occluder_side: float = 0.5
    noise: float = 6.0
    step_rotation: float = 2.0
    step_scale: float = 0.01
    step_shift: float = 0.01
    exposure: float = 0.8

    @staticmethod
    def none() -> Augmentation:
        """No change at all: the crop as `process` cuts it."""
        return Augmentation(*[0.0] * len(Augmentation.__annotations__))


@dataclass(frozen=True)
class Sampling:
    """What a mini-batch is: so many stills, and of each so many adjacent frames that move as `motion` says.

    turned: share of the sequences that take their frames from the clip, in which the head turns in depth; the others
    move the photograph itself in the plane only. size: side of the crop that parameters and landmarks refer to, pixels.
    """

    stills: int = 32
    frames: int = 4
    motion: str = "smooth"
    turned: float = 0.5
    size: int = 120

    def __post_init__(self) -> None:
        if self.motion not in MOTIONS:
            raise ShapeError(f"There is no motion '{self.motion}'; there are {' and '.join(MOTIONS)}.")
        if min(self.stills, self.frames, self.size) < 1:
            raise ShapeError("A mini-batch needs at least one still, one frame and one pixel.")


@dataclass(frozen=True)
class Clips:
    """N labelled clips of F frames of one size, and their mirror images' labels (second axis: as it is, mirrored).

    Frame 0 is the photograph; a photograph alone is a clip of one frame. names (N,); images (N, F, H, W, 3) BGR;
    poses (N, 2, F, 3, 4), T in image pixels, y down; coefficients (N, 2, K); rois (N, 2, 4) of frame 0; landmarks
    (N, 2, F, 68, 2) in image pixels, NaN where not labelled; weights (N, 2, 68); rarity (N,): how often a clip is
    drawn, relative to others. The mirror image has labels of its own since the models' bases are not symmetric: α of
    the mirrored face is another α.
    """

    names: Sequence[str]
    images: U8
    poses: F64
    coefficients: F64
    rois: F64
    landmarks: F32
    weights: F32
    rarity: F64

    def __post_init__(self) -> None:
        n, f = len(self.names), self.images.shape[1]
        check_shape("images", self.images, n, None, None, None, 3)
        check_shape("poses", self.poses, n, 2, f, 3, 4)
        check_shape("coefficients", self.coefficients, n, 2, None)
        check_shape("rois", self.rois, n, 2, 4)
        check_shape("landmarks", self.landmarks, n, 2, f, N_LANDMARKS, 2)
        check_shape("weights", self.weights, n, 2, N_LANDMARKS)
        check_shape("rarity", self.rarity, n)

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
            [self.names[i] for i in chosen], self.images[chosen], self.poses[chosen], self.coefficients[chosen],
            self.rois[chosen], self.landmarks[chosen], self.weights[chosen], self.rarity[chosen],
        )  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """One mini-batch, the frames of a still side by side.

    images (B, pixels, pixels, 3) BGR; params (B, P) in the frame of a crop of the sampling's size; landmarks (B, 68, 2)
    in pixels of that crop, y down, 0 where the weight (B, 68) is 0.
    """

    images: U8
    params: F32
    landmarks: F32
    weights: F32


# ---------------------------------------------------------------------------------------------- clips


@dataclass(frozen=True)
class Labels:
    """What is known of the faces of N clips: poses (N, F, 3, 4), T in image pixels, y down; coefficients (N, K);
    points (N, 68, 2) labelled in frame 0, NaN where missing, and their weights (N, 68).
    """

    poses: F64
    coefficients: F64
    points: F64
    weights: F64


def clips_of(names: Sequence[str], images: U8, labels: Labels, model: MorphableModel, prior: Prior) -> Clips:
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
        [name for name, keep in zip(names, kept, strict=True) if keep], images if kept.all() else images[kept], poses,
        alphas, rois, points, np.stack([weights, weights[:, FLIP68]], axis=1).astype(np.float32),
        rarity(yaw_of(labels.poses[kept, 0])),
    )  # fmt: skip


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
    known = Labels(T[:, None], found.params[kept, N_POSE:].astype(np.float64), points[kept][..., :2], given[kept])
    return clips_of([name for name, keep in zip(names, kept, strict=True) if keep], images[kept][:, None], known,
                    model, prior)  # fmt: skip


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


def rarity(yaw: Floats) -> F64:
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


# --------------------------------------------------------------------------------------------- batches


def draw(rarity: Floats, batches: int, size: int, seed: Sequence[int]) -> tuple[I64, I64]:
    """Rows of `batches` meta-train batches (batches, size), and of a meta-test batch (size,) disjoint from them all.

    Without replacement, clips of greater rarity (N,) first the more often (Efraimidis and Spirakis, 2006). Where
    there are fewer clips than that, meta-train batches take turns through what the meta-test batch left.
    """
    n = len(rarity)
    if n < 2:
        raise ShapeError(f"Training needs at least two stills, but there are {n}.")
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.exponential(size=n) / rarity)
    held = min(size, n // 2)
    chosen = rng.permutation(order[: min(n, held + batches * size)])
    test, rest = np.resize(chosen[:held], size), chosen[held:]
    rounds = [rest] + [rng.permutation(rest) for _ in range(-(-batches * size // len(rest)) - 1)]
    return np.concatenate(rounds)[: batches * size].reshape(batches, size), test


def make_batch(
    clips: Clips, rows: I64, sampling: Sampling, augmentation: Augmentation, seed: Sequence[int], pixels: int = 0
) -> Batch:
    """The frames of `rows` (M,), M × frames of them, drawn from the generator of `seed`.

    pixels: side of the images, if they are to be smaller than the crop of the sampling's size; labels stay.
    """
    rng = np.random.default_rng(seed)
    n, pixels = len(rows) * sampling.frames, pixels or sampling.size
    images = np.empty((n, pixels, pixels, 3), np.uint8)
    maps, sides, frame_of = np.empty((n, 2, 3)), np.empty(n, np.int64), np.empty(n, np.int64)
    looks = []
    for m, row in enumerate(rows):
        side = int(rng.random() < augmentation.mirror)
        frames = slice(m * sampling.frames, (m + 1) * sampling.frames)
        frame_of[frames] = _sequence(clips.frames, sampling, rng)
        maps[frames], sides[frames] = _motion(clips.rois[row, side], sampling, augmentation, rng), side
        looks.append(_Look.draw(augmentation, pixels, rng))
    row_of = np.repeat(rows, sampling.frames)
    points = _map_points(clips.landmarks[row_of, sides, frame_of].astype(np.float64), maps)
    blurs = _blurs(points, looks, sampling, pixels)
    for i, row in enumerate(row_of):
        source = clips.images[row, frame_of[i]]
        source = np.ascontiguousarray(source[:, ::-1]) if sides[i] else source
        look = looks[i // sampling.frames]
        images[i] = look(warp(source, maps[i] * (pixels / sampling.size), pixels), blurs[i], rng)
    params = _params(clips.poses[row_of, sides, frame_of], clips.coefficients[row_of, sides], maps, sampling.size)
    weights = clips.weights[row_of, sides]
    points[weights == 0] = 0
    return Batch(images, params, points.astype(np.float32), np.array(weights))


def _sequence(length: int, sampling: Sampling, rng: np.random.Generator) -> I64:
    """Which frames of a clip of `length` a sequence takes: adjacent ones, either way round; or any, at random."""
    n, turned, back = sampling.frames, rng.random() < sampling.turned, rng.random() < 0.5
    start, anywhere = int(rng.integers(max(length - n, 0) + 1)), rng.integers(length, size=n)
    if not turned or length == 1:
        return np.zeros(n, np.int64)
    if sampling.motion == "random":
        return anywhere
    found = np.minimum(start + np.arange(n), length - 1)
    return found[::-1] if back else found


def _motion(roi: F64, sampling: Sampling, a: Augmentation, rng: np.random.Generator) -> F64:
    """Maps (frames, 2, 3) from image pixels to the crop's: the first frame at random, the others from it.

    Smooth: a frame differs from the one before by eq. 8's perturbation, whose direction persists. Random: every
    frame is drawn for itself.
    """
    n = sampling.frames
    draws = rng.normal(size=(n if sampling.motion == "random" else 1, 4))
    states = draws * [a.rotation, a.scale, a.shift, a.shift]
    if sampling.motion == "smooth" and n > 1:
        direction = rng.normal(size=4)
        wander = rng.normal(size=(n - 1, 4))
        steps = (direction + 0.3 * wander) * [a.step_rotation, a.step_scale, a.step_shift, a.step_shift]
        states = np.concatenate([states, states + np.cumsum(steps, axis=0)])
    return np.stack([similarity(roi, turn, scale, right, down, sampling.size) for turn, scale, right, down in states])


def _blurs(points: F64, looks: list[_Look], sampling: Sampling, pixels: int) -> F64:
    """How far (n, 2) each frame's face moves while the shutter is open, pixels of the image, of points (n, 68, 2)."""
    out = np.zeros((len(points), 2))
    if sampling.motion != "smooth" or sampling.frames == 1:
        return out
    middle = np.nanmean(points, axis=1) * (pixels / sampling.size)
    for m, look in enumerate(looks):
        frames = slice(m * sampling.frames, (m + 1) * sampling.frames)
        out[frames] = np.diff(middle[frames], axis=0, prepend=middle[frames][:1]) * look.exposure
    return out


def _map_points(points: F64, maps: F64) -> F64:
    """Points (n, L, 2) under maps (n, 2, 3)."""
    return np.asarray(points @ maps[:, :, :2].transpose(0, 2, 1) + maps[:, None, :, 2])


def _params(poses: F64, coefficients: F64, maps: F64, size: int) -> F32:
    """Parameters (n, P) in the frame of the crops that maps (n, 2, 3) make; T's depth offset is 0 (section 2.1)."""
    T = np.array(poses)
    T[:, :2] = maps[:, :, :2] @ poses[:, :2]
    T[:, :2, 3] += maps[:, :, 2]
    T[:, 2] *= np.sqrt(np.abs(np.linalg.det(maps[:, :, :2])))[:, None]
    T = crop_pose(T, np.tile([0.0, 0.0, size, size], (len(T), 1)), size)
    T[:, 2, 3] = 0
    return np.concatenate([T.reshape(len(T), N_POSE), coefficients], axis=1).astype(np.float32)


@dataclass(frozen=True)
class _Look:
    """What happens to the pixels of a clip's frames: light, blur, an occluder; the noise is each frame's own."""

    table: U8
    blur: float
    spot: tuple[int, int, int, int, bool] | None
    colour: tuple[float, ...]
    noise: float
    exposure: float

    @staticmethod
    def draw(a: Augmentation, size: int, rng: np.random.Generator) -> _Look:
        """Draw everything, always in the same order and number."""
        levels = np.arange(256)[:, None] * np.exp(rng.normal(size=3) * a.gain) + rng.normal() * a.offset
        blurred, occluded, noise, exposure = rng.random(4)
        sigma = rng.uniform(0.3, 1.0) * a.blur_sigma
        x, y, w, h = rng.random(4)
        sides = [max(2, int(side * a.occluder_side * size)) for side in (w, h)]
        spot = (int(x * size), int(y * size), *sides, bool(rng.random() < 0.5))
        colour = tuple(float(c) for c in rng.uniform(0, 255, 3))
        return _Look(
            np.clip(np.rint(levels), 0, 255).astype(np.uint8)[None], sigma if blurred < a.blur else 0.0,
            (spot[0], spot[1], sides[0], sides[1], bool(spot[4])) if occluded < a.occluder else None,
            colour, noise * a.noise, exposure * a.exposure,
        )  # fmt: skip

    def __call__(self, image: U8, moved: F64, rng: np.random.Generator) -> U8:
        """`image` (size, size, 3) as it looks while moving by `moved` (2,) pixels; the argument is not changed."""
        image = np.asarray(cv2.LUT(image, self.table))
        if self.spot is not None:
            x, y, w, h, round_ = self.spot
            if round_:
                cv2.ellipse(image, (x, y), (w // 2, h // 2), 0, 0, 360, self.colour, -1)
            else:
                cv2.rectangle(image, (x - w // 2, y - h // 2), (x + w // 2, y + h // 2), self.colour, -1)
        if self.blur > 0:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), self.blur))
        if self.noise > 0:
            grain = rng.standard_normal(image.shape, np.float32) * np.float32(self.noise)
            image = np.asarray(cv2.add(image, grain, dtype=cv2.CV_8U))
        return motion_blur(image, moved)


# --------------------------------------------------------------------------------------------- loading


def prefetched(make: Callable[[int], Batch], numbers: Iterable[int], ahead: int = 4) -> Iterator[Batch]:
    """`make(number)` for each number, in order, made in a thread of its own up to `ahead` batches in advance.

    Warping and blurring leave Python's lock, so a training on the other core goes on meanwhile. An error in the
    thread is raised here, at its batch.
    """
    waiting: list[Future[Batch]] = []
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        try:
            for number in numbers:
                waiting.append(pool.submit(make, number))
                if len(waiting) > ahead:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
