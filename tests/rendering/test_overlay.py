"""Points that are drawn over pictures lie where they belong."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.tasks.rendering import overlay


def is_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns (n, 2) of the pixels of about a colour."""
    return np.argwhere(np.abs(picture.astype(int) - colour).max(axis=2) < 40)


def test_landmarks_are_green_where_they_can_be_seen_and_red_elsewhere() -> None:
    image = np.full((100, 100, 3), 128, np.uint8)
    points = np.tile([[30.0, 40.0, 0.0]], (68, 1))
    points[34:] = [70.0, 60.0, 0.0]
    marked = overlay.with_landmarks(image, points, np.arange(68) < 34, np.array([10.0, 10.0, 90.0, 90.0]))
    np.testing.assert_allclose(is_colour(marked, overlay.SEEN).mean(axis=0), [40, 30], atol=0.6)
    np.testing.assert_allclose(is_colour(marked, overlay.HIDDEN).mean(axis=0), [60, 70], atol=0.6)
    assert (marked[10, 10:91] == overlay.ROI).all()
    assert (image == 128).all()


def test_a_comparison_shows_all_points_and_leaves_out_those_that_are_none() -> None:
    truth, answer = np.array([[40.0, 40.0], [np.nan, np.nan]]), np.array([[60.0, 60.0], [60.0, 60.0]])
    tile = overlay.compared(np.full((100, 100, 3), 128, np.uint8), truth, answer, "1.0 %", 200)
    assert tile.shape == (200, 200, 3)
    np.testing.assert_allclose(is_colour(tile, overlay.TRUTH).mean(axis=0), [23.5, 23.5], atol=1)
    np.testing.assert_allclose(is_colour(tile, overlay.ANSWER).mean(axis=0), [180, 180], atol=4)


def test_drawing_does_not_change_what_is_drawn_on() -> None:
    image = cv2.cvtColor(np.arange(10_000, dtype=np.uint8).reshape(100, 100), cv2.COLOR_GRAY2BGR)
    before = image.copy()
    overlay.compared(image, np.full((68, 2), 30.0), np.full((68, 2), 70.0), "")
    np.testing.assert_array_equal(image, before)
