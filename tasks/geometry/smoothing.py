"""Steadier series of landmarks, angles and parameters, and by how much they come late.

The one-euro filter (Casiez, Roussel and Vogel, CHI 2012): a low-pass whose cutoff rises with speed, so that a face at
rest is calm and one that moves is not late. It is causal: a frame's value depends on no later frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ddfa_batch.schemas.arrays import F64, I64, Floats, check_shape
from ddfa_batch.schemas.errors import DdfaError


@dataclass(frozen=True)
class OneEuro:
    """The filter's three numbers; values are in units such as face sizes, so that they suit faces of any size."""

    #: Hertz, the cutoff at rest: lower is calmer.
    min_cutoff: float
    #: Hertz for each unit a second of speed: higher is less late.
    beta: float
    #: Hertz, the cutoff of the speed.
    speed_cutoff: float = 1.0

    def __post_init__(self) -> None:
        if not (self.min_cutoff > 0 and self.beta >= 0 and self.speed_cutoff > 0):
            raise DdfaError(f"A one-euro filter needs cutoffs above 0 and a beta of 0 or more, not {self}.")


#: For landmarks in units of the face's size: chosen on two films, reported on a third (benchmarks/tracking.py).
LANDMARKS = OneEuro(min_cutoff=1.0, beta=20.0)
#: For yaw, pitch and roll in degrees.
ANGLES = OneEuro(min_cutoff=1.5, beta=0.3)
#: For whitened parameters.
PARAMETERS = OneEuro(min_cutoff=1.5, beta=3.0)


def one_euro(times: Floats, values: Floats, by: OneEuro) -> F64:
    """Values (T, K, D) at increasing times (T,), in seconds, smoothed.

    Each of the K points has one cutoff, by its speed in D dimensions, so that x and y stay together. The first value is
    taken as it is.
    """
    check_shape("times", times, None)
    check_shape("values", values, len(times), None, None)
    x = np.asarray(values, np.float64)
    out, speed = x.copy(), np.zeros(x.shape[1:])
    for t in range(1, len(x)):
        seconds = float(times[t] - times[t - 1])
        if not seconds > 0:
            raise DdfaError(f"Times must increase, but row {t} comes {seconds:g} s after the row before.")
        share = _share(by.speed_cutoff, seconds)
        speed = speed + share * ((x[t] - out[t - 1]) / seconds - speed)
        cutoff = by.min_cutoff + by.beta * np.linalg.norm(speed, axis=-1, keepdims=True)
        out[t] = out[t - 1] + _share(cutoff, seconds) * (x[t] - out[t - 1])
    return out


def _share(cutoff: float | F64, seconds: float) -> float | F64:
    """Share of the new value in an exponential average of this cutoff in hertz (the paper's α)."""
    turn = 2 * np.pi * cutoff * seconds
    return turn / (turn + 1)


def smooth_track(frames: Floats | I64, times: Floats, values: Floats, by: OneEuro, unit: Floats | float = 1.0) -> F64:
    """Values (T, K, D) of one track, smoothed anew after every gap in `frames` (T,); `unit` (T,) or one number.

    Values are divided by the mean of `unit` over the frames between two gaps for the filter, and multiplied after.
    """
    out = np.empty(np.shape(values), np.float64)
    edges = [0, *(np.flatnonzero(np.diff(frames) > _step(frames)) + 1), len(frames)]
    units = np.broadcast_to(np.asarray(unit, np.float64), (len(frames),))
    for start, stop in pairwise(edges):
        run = slice(start, stop)
        scale = float(units[run].mean()) if stop > start else 1.0
        out[run] = one_euro(times[run], np.asarray(values[run], np.float64) / scale, by) * scale
    return out


def _step(frames: Floats | I64) -> float:
    """The distance of two frames that follow each other, where only some of a video's frames are taken."""
    return float(np.diff(frames).min(initial=1 << 62))


def jitter(landmarks: Floats, sizes: Floats) -> float:
    """Mean second difference of landmarks (T, L, 2) from frame to frame over the faces' sizes (T,), in %."""
    check_shape("sizes", sizes, len(landmarks))
    if len(landmarks) < 3:
        return 0.0
    second = np.diff(np.asarray(landmarks, np.float64), n=2, axis=0)
    return float(100 * (np.linalg.norm(second, axis=-1).mean(axis=1) / np.asarray(sizes)[1:-1]).mean())


def lag(raw: Floats, smooth: Floats, most: int = 5) -> float:
    """Frames, with fractions, by which series `smooth` (T, C) comes after `raw` (T, C), at most so many.

    The shift at which both correlate best, over all C columns together; a parabola through the three best whole shifts
    gives the fraction.
    """
    check_shape("smooth", smooth, *raw.shape)
    a, b = (np.asarray(x, np.float64) - np.mean(x, axis=0) for x in (raw, smooth))
    inner = slice(most, len(a) - most)
    fits = np.array([_correlation(a[inner.start - k : inner.stop - k], b[inner]) for k in range(-most, most + 1)])
    best = int(np.clip(np.argmax(fits), 1, 2 * most - 1))
    left, middle, right = fits[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return best - most + (0.5 * float(left - right) / float(bend) if bend < 0 else 0.0)


def _correlation(a: F64, b: F64) -> float:
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-12))
