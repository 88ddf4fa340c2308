"""Mini-batches of augmented short sequences, drawn from clips.

A mini-batch is a pure function of the clips, the options and a list of numbers (its seed), so that a training that
was killed sees the same batches when it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, U8, Floats
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.geometry.reconstruct import crop_pose
from ddfa_batch.tasks.geometry.similarity import warp
from ddfa_batch.tasks.training.augmentation import Appearances, frames_of_clips, maps_to_crops
from ddfa_batch.tasks.training.clips import Clips
from ddfa_batch.tasks.training.options import Augmentation, Sampling

T = TypeVar("T")


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


@dataclass(frozen=True)
class DrawnBatch:
    """What is drawn of a mini-batch of B images, the frames of a still side by side, before any pixel is made."""

    #: (B,), clips.
    rows: I64
    #: (B,), frames of the clips.
    frames: I64
    #: (B,), 0 as it is, 1 mirrored.
    mirrored: I64
    #: (B, 2, 3), from pixels of the frame, mirrored where it is, to those of a crop of the sampling's size.
    maps: F64
    #: (B,), of `appearances`.
    clip_of: I64
    #: How the clips look, at the size of the images.
    appearances: Appearances
    #: (B, 2), how far each frame's face moves while the shutter is open, pixels of the image.
    blurs: F64
    #: (B, P), in the frame of a crop of the sampling's size.
    params: F32
    #: (B, 68, 2), pixels of that crop, y down, 0 where the weight is 0.
    landmarks: F32
    #: (B, 68), of the landmarks.
    weights: F32


def drawn_batch(
    clips: Clips, rows: I64, sampling: Sampling, augmentation: Augmentation, rng: np.random.Generator, pixels: int
) -> DrawnBatch:
    """Frames of the clips `rows` (M,), M × frames of them, to be made `pixels` wide."""
    n, m = sampling.frames, len(rows)
    sides = (rng.random(m) < augmentation.mirror).astype(np.int64)
    frame_of = frames_of_clips(m, clips.frames, sampling, rng).ravel()
    maps = maps_to_crops(clips.rois[rows, sides], sampling, augmentation, rng).reshape(-1, 2, 3)
    appearances = Appearances.draw(augmentation, pixels, m, rng)
    row_of, side_of = np.repeat(rows, n), np.repeat(sides, n)
    poses, coefficients = clips.poses[row_of, side_of, frame_of], clips.coefficients[row_of, side_of]
    points = _map_points(clips.landmarks[row_of, side_of, frame_of].astype(np.float64), maps)
    blurs = _blurs(points.reshape(m, n, *points.shape[1:]), appearances.exposure, sampling, pixels)
    weights = np.array(clips.weights[row_of, side_of])
    points[weights == 0] = 0
    return DrawnBatch(
        rows=row_of,
        frames=frame_of,
        mirrored=side_of,
        maps=maps,
        clip_of=np.repeat(np.arange(m), n),
        appearances=appearances,
        blurs=blurs,
        params=_params(poses, coefficients, maps, sampling.size),
        landmarks=points.astype(np.float32),
        weights=weights,
    )


def make_batch(
    clips: Clips, rows: I64, sampling: Sampling, augmentation: Augmentation, seed: Sequence[int], pixels: int = 0
) -> MiniBatch:
    """The frames of `rows` (M,), M × frames of them, drawn from the generator of `seed`.

    pixels: side of the images, if they are to be smaller than the crop of the sampling's size; labels stay.
    """
    rng, pixels = np.random.default_rng(seed), pixels or sampling.size
    drawn = drawn_batch(clips, rows, sampling, augmentation, rng, pixels)
    images = np.empty((len(drawn.rows), pixels, pixels, 3), np.uint8)
    looks = [drawn.appearances[clip] for clip in range(len(rows))]
    for i, (row, frame, clip) in enumerate(zip(drawn.rows, drawn.frames, drawn.clip_of, strict=True)):
        source = clips.images[row, frame]
        source = np.ascontiguousarray(source[:, ::-1]) if drawn.mirrored[i] else source
        images[i] = looks[clip](warp(source, drawn.maps[i] * (pixels / sampling.size), pixels), drawn.blurs[i], rng)
    return MiniBatch(images, drawn.params, drawn.landmarks, drawn.weights)


def _blurs(points: F64, exposure: F64, sampling: Sampling, pixels: int) -> F64:
    """How far (M × frames, 2) each frame's face moves while the shutter is open, pixels of the image.

    points (M, frames, 68, 2) in pixels of the crop; exposure (M,).
    """
    out = np.zeros((*points.shape[:2], 2))
    if sampling.motion == "smooth" and sampling.frames > 1:
        middle = np.nanmean(points, axis=2) * (pixels / sampling.size)
        out = np.diff(middle, axis=1, prepend=middle[:, :1]) * exposure[:, None, None]
    return out.reshape(-1, 2)


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


def prefetched(make: Callable[[int], T], numbers: Iterable[int], ahead: int = 4) -> Iterator[T]:
    """`make(number)` for each number, in order, made in a thread of its own up to `ahead` batches in advance.

    Warping and blurring leave Python's lock, so a training on the other core goes on meanwhile. An error in the
    thread is raised here, at its batch.
    """
    waiting: list[Future[T]] = []
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
