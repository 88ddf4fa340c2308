"""Smoothing: calmer, on time, and measured right."""

from __future__ import annotations

import numpy as np
import pytest

from ddfa_batch.schemas.errors import DdfaError
from ddfa_batch.tasks.geometry.smoothing import (
    ANGLES,
    LANDMARKS,
    PARAMETERS,
    OneEuro,
    jitter,
    lag,
    one_euro,
    smooth_track,
)

FPS = 25.0
RNG = np.random.default_rng(1)


def times(n: int) -> np.ndarray:
    return np.arange(n) / FPS


def as_published(values: np.ndarray, by: OneEuro) -> np.ndarray:
    """Casiez's own algorithm, one number after the other."""

    def alpha(cutoff: float) -> float:
        tau = 1 / (2 * np.pi * cutoff)
        return 1 / (1 + tau * FPS)

    out, speed = [float(values[0])], 0.0
    for value in values[1:]:
        a = alpha(by.speed_cutoff)
        speed = a * (value - out[-1]) * FPS + (1 - a) * speed
        b = alpha(by.min_cutoff + by.beta * abs(speed))
        out.append(b * value + (1 - b) * out[-1])
    return np.array(out)


@pytest.mark.parametrize("by", [LANDMARKS, ANGLES, PARAMETERS, OneEuro(0.5, 0.0)])
def test_it_is_the_published_filter(by: OneEuro) -> None:
    values = RNG.normal(size=50).cumsum() / 10
    got = one_euro(times(50), values[:, None, None], by)[:, 0, 0]
    assert np.allclose(got, as_published(values, by))


def test_a_face_at_rest_is_calmer_and_one_in_motion_is_not_late() -> None:
    noise = RNG.normal(size=(200, 68, 2)) * 0.003
    still, moving = noise, noise + np.linspace(0, 6, 200)[:, None, None]
    size = np.ones(200)
    assert jitter(one_euro(times(200), still, LANDMARKS), size) < 0.4 * jitter(still, size)
    behind = (moving - one_euro(times(200), moving, LANDMARKS))[100:].mean()
    assert behind / (6 / 199) < 0.5  # frames


def test_values_do_not_depend_on_the_size_of_the_face() -> None:
    track = RNG.normal(size=(30, 68, 2)).cumsum(axis=0)
    frames, unit = np.arange(30), np.full(30, 100.0)
    small = smooth_track(frames, times(30), track, LANDMARKS, unit)
    large = smooth_track(frames, times(30), 3 * track, LANDMARKS, 3 * unit)
    assert np.allclose(3 * small, large)


def test_after_a_gap_it_begins_anew() -> None:
    frames = np.array([0, 1, 2, 3, 20, 21, 22])
    track = RNG.normal(size=(7, 1, 1))
    got = smooth_track(frames, frames / FPS, track, LANDMARKS)
    assert got[4] == pytest.approx(track[4])
    assert np.allclose(got[4:], one_euro(frames[4:] / FPS, track[4:], LANDMARKS))


def test_where_every_fifth_frame_is_taken_there_is_no_gap() -> None:
    frames = np.arange(0, 50, 5)
    track = RNG.normal(size=(10, 1, 1))
    assert np.allclose(smooth_track(frames, frames / FPS, track, LANDMARKS), one_euro(frames / FPS, track, LANDMARKS))


@pytest.mark.parametrize("n", [0, 1])
def test_short_tracks_are_left_as_they_are(n: int) -> None:
    track = np.ones((n, 68, 3))
    assert np.array_equal(smooth_track(np.arange(n), times(n), track, LANDMARKS, np.ones(n)), track)


@pytest.mark.parametrize("delay", [0.0, 0.4, 1.0, 2.5])
def test_lag_is_measured_in_parts_of_a_frame(delay: float) -> None:
    t = np.arange(400.0)
    phase = RNG.uniform(0, 6, 8)
    raw, late = (np.sin(np.outer(s, np.linspace(0.02, 0.3, 8)) + phase) for s in (t, t - delay))
    assert lag(raw, late) == pytest.approx(delay, abs=0.03)


def test_jitter_is_the_second_difference_over_the_size() -> None:
    zigzag = np.zeros((10, 68, 2))
    zigzag[1::2, :, 0] = 1.0
    assert jitter(zigzag, np.full(10, 50.0)) == pytest.approx(100 * 2 / 50)
    assert jitter(np.cumsum(np.ones((10, 68, 2)), axis=0), np.ones(10)) == pytest.approx(0)
    assert jitter(zigzag[:2], np.ones(2)) == 0


def test_times_must_increase() -> None:
    with pytest.raises(DdfaError, match="row 2"):
        one_euro(np.array([0.0, 0.1, 0.1]), np.zeros((3, 1, 1)), LANDMARKS)


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, -1, 1), (1, 1, 0), (float("nan"), 1, 1)])
def test_numbers_that_are_no_filter_are_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(DdfaError, match="one-euro"):
        OneEuro(*numbers)
