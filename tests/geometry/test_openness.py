"""Openness is a ratio of lengths: open more, say more; turned or scaled, say the same."""

from __future__ import annotations

import numpy as np
import pytest

from ddfa_batch.tasks.geometry.openness import openness
from ddfa_batch.tasks.geometry.pose import rotation_matrix


def face(eye: float, mouth: float) -> np.ndarray:
    """Landmarks (68, 3) with eyes 20 wide and lips 40 wide, open by so much."""
    points = np.random.default_rng(0).normal(size=(68, 3)) * 30
    for first in (36, 42):
        x = np.array([0, 6, 14, 20, 14, 6]) + first
        y = np.array([0, -1, -1, 0, 1, 1]) * eye / 2
        points[first : first + 6] = np.stack([x, y, np.zeros(6)], axis=1)
    x, y = np.array([0, 10, 20, 30, 40, 30, 20, 10]), np.array([0, -1, -1, -1, 0, 1, 1, 1]) * mouth / 2
    points[60:68] = np.stack([x, y, np.zeros(8)], axis=1)
    return points


def test_a_gap_is_told_by_the_width_between_the_corners() -> None:
    right, left, mouth = openness(np.stack([face(6, 0), face(2, 20)]))
    np.testing.assert_allclose(right, [0.3, 0.1], atol=1e-6)
    np.testing.assert_allclose(left, [0.3, 0.1], atol=1e-6)
    np.testing.assert_allclose(mouth, [0, 0.5], atol=1e-6)


@pytest.mark.parametrize("yaw", [-80.0, 30.0])
def test_turning_and_scaling_change_nothing(yaw: float) -> None:
    turn = rotation_matrix(np.array([yaw]), np.array([20.0]), np.array([5.0]))[0]
    turned = (3.5 * face(5, 8) @ turn.T + 100)[None]
    np.testing.assert_allclose(openness(turned), openness(face(5, 8)[None]), atol=1e-5)


def test_the_eyes_are_the_persons_own() -> None:
    winking = face(6, 0)
    winking[42:48, 1] = 0
    right, left, _ = openness(winking[None])
    assert right[0] > 0.2 > left[0] == 0
