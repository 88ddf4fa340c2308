"""Mini-batches of augmented short sequences, drawn from clips.

A mini-batch is a pure function of the clips, the options and a list of numbers (its seed), so that a training that
was killed sees the same batches when it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, U8, Floats
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.geometry.reconstruct import crop_pose
from ddfa_batch.tasks.geometry.similarity import warp
from ddfa_batch.tasks.training.augmentation import Appearance, frames_of_clip, maps_to_crops
from ddfa_batch.tasks.training.clips import Clips
from ddfa_batch.tasks.training.options import Augmentation, Sampling


@dataclass(frozen=True)
class MiniBatch:
    """One mini-batch of B images, the frames of a still side by side."""

    #: (B, pixels, pixels, 3), BGR.
    images: U8
    #: (B, P), in the frame of a crop of the sampling's size.
    params: F32
    #: (B, 68, 2), pixels of that crop, y down, 0 where the weight is 0.
    landmarks: F32
    #: (B, 68), of the landmarks.
    weights: F32


def draw(pose_weights: Floats, batches: int, size: int, seed: Sequence[int]) -> tuple[I64, I64]:
    """Rows of `batches` meta-train batches (batches, size), and of a meta-test batch (size,) disjoint from them all.

    Without replacement, clips of greater weight (N,) first the more often (Efraimidis and Spirakis, 2006). Where
    there are fewer clips than that, meta-train batches take turns through what the meta-test batch left.
    """
    n = len(pose_weights)
    if n < 2:
        raise ShapeError(f"Training needs at least two stills, but there are {n}.")
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.exponential(size=n) / pose_weights)
    held = min(size, n // 2)
    chosen = rng.permutation(order[: min(n, held + batches * size)])
    test, rest = np.resize(chosen[:held], size), chosen[held:]
    rounds = [rest] + [rng.permutation(rest) for _ in range(-(-batches * size // len(rest)) - 1)]
    return np.concatenate(rounds)[: batches * size].reshape(batches, size), test


def make_batch(
    clips: Clips, rows: I64, sampling: Sampling, augmentation: Augmentation, seed: Sequence[int], pixels: int = 0
) -> MiniBatch:
    """The frames of `rows` (M,), M × frames of them, drawn from the generator of `seed`.

    pixels: side of the images, if they are to be smaller than the crop of the sampling's size; labels stay.
    """
    rng = np.random.default_rng(seed)
    n, pixels = len(rows) * sampling.frames, pixels or sampling.size
    images = np.empty((n, pixels, pixels, 3), np.uint8)
    maps, sides, frame_of = np.empty((n, 2, 3)), np.empty(n, np.int64), np.empty(n, np.int64)
    appearances = []
    for m, row in enumerate(rows):
        side = int(rng.random() < augmentation.mirror)
        frames = slice(m * sampling.frames, (m + 1) * sampling.frames)
        frame_of[frames] = frames_of_clip(clips.frames, sampling, rng)
        maps[frames], sides[frames] = maps_to_crops(clips.rois[row, side], sampling, augmentation, rng), side
        appearances.append(Appearance.draw(augmentation, pixels, rng))
    row_of = np.repeat(rows, sampling.frames)
    points = _map_points(clips.landmarks[row_of, sides, frame_of].astype(np.float64), maps)
    blurs = _blurs(points, appearances, sampling, pixels)
    for i, row in enumerate(row_of):
        source = clips.images[row, frame_of[i]]
        source = np.ascontiguousarray(source[:, ::-1]) if sides[i] else source
        appearance = appearances[i // sampling.frames]
        images[i] = appearance(warp(source, maps[i] * (pixels / sampling.size), pixels), blurs[i], rng)
    params = _params(clips.poses[row_of, sides, frame_of], clips.coefficients[row_of, sides], maps, sampling.size)
    weights = clips.weights[row_of, sides]
    points[weights == 0] = 0
    return MiniBatch(images, params, points.astype(np.float32), np.array(weights))


def _blurs(points: F64, appearances: list[Appearance], sampling: Sampling, pixels: int) -> F64:
    """How far (n, 2) each frame's face moves while the shutter is open, pixels of the image, of points (n, 68, 2)."""
    out = np.zeros((len(points), 2))
    if sampling.motion != "smooth" or sampling.frames == 1:
        return out
    middle = np.nanmean(points, axis=1) * (pixels / sampling.size)
    for m, appearance in enumerate(appearances):
        frames = slice(m * sampling.frames, (m + 1) * sampling.frames)
        out[frames] = np.diff(middle[frames], axis=0, prepend=middle[frames][:1]) * appearance.exposure
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


def prefetched(make: Callable[[int], MiniBatch], numbers: Iterable[int], ahead: int = 4) -> Iterator[MiniBatch]:
    """`make(number)` for each number, in order, made in a thread of its own up to `ahead` batches in advance.

    Warping and blurring leave Python's lock, so a training on the other core goes on meanwhile. An error in the
    thread is raised here, at its batch.
    """
    waiting: list[Future[MiniBatch]] = []
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
