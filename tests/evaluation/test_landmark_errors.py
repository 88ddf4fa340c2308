"""Errors with their normalisers: each against a number worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.tasks.evaluation import landmark_errors
from ddfa_batch.tasks.geometry.boxes import labelled_sizes

SQUARE = np.array([[[0.0, 0.0], [40.0, 0.0], [40.0, 10.0], [0.0, 10.0]]])
NOWHERE = np.array([[[np.nan, np.nan]]])


def test_nme_is_the_mean_distance_over_the_root_of_the_boxs_area() -> None:
    assert labelled_sizes(SQUARE) == pytest.approx(20)
    assert landmark_errors.nme(SQUARE + np.array([3, 4]), SQUARE) == pytest.approx(25)
    assert landmark_errors.nme(SQUARE + np.array([3, 4]), SQUARE, np.array([50.0])) == pytest.approx(10)


def test_points_without_a_label_count_neither_for_the_distance_nor_for_the_box() -> None:
    truth = np.concatenate([SQUARE, NOWHERE], axis=1)
    found = np.concatenate([SQUARE + np.array([3, 4]), [[[1e6, 1e6]]]], axis=1)
    assert landmark_errors.nme(found, truth) == pytest.approx(25)


@pytest.mark.parametrize("truth", [np.full((1, 4, 2), np.nan), np.full((1, 4, 2), 7.0)])
def test_a_face_without_points_or_extent_has_no_error(truth: np.ndarray) -> None:
    assert np.isnan(landmark_errors.nme(SQUARE, truth))


def test_an_answer_that_is_half_no_number_is_infinitely_wrong() -> None:
    half = SQUARE.copy()
    half[:, 2:] = np.nan
    assert landmark_errors.nme(half, SQUARE) == np.inf
    assert landmark_errors.nme(half, np.concatenate([SQUARE[:, :2], NOWHERE, NOWHERE], axis=1), np.ones(1)) == 0


def test_an_error_in_3d_ignores_where_depth_begins_but_not_depth() -> None:
    truth = np.concatenate([SQUARE, np.zeros((1, 4, 1))], axis=2)
    assert landmark_errors.nme_3d(truth + np.array([0, 0, 77]), truth) == pytest.approx(0, abs=1e-9)
    assert landmark_errors.nme_3d(truth + np.array([[0, 0, 5], [0, 0, -5]] * 2), truth) == pytest.approx(25)


def test_stability_is_the_error_of_the_motion_not_of_the_place() -> None:
    truth = SQUARE + np.linspace(0, 9, 4)[:, None, None]
    assert landmark_errors.stability(truth + 5, truth) == pytest.approx([0, 0, 0])
    jitter = truth + np.array([0, 2, 0, 0])[:, None, None] * [1, 0]
    assert landmark_errors.stability(jitter, truth) == pytest.approx([10, 10, 0])


def test_motion_is_measured_at_points_labelled_in_both_frames() -> None:
    truth = np.repeat(np.concatenate([SQUARE, [[[20.0, 5.0]]]], axis=1), 3, axis=0)
    found = truth + np.array([0, 2, 2])[:, None, None] * [1, 0]
    found[:, 4] += [[0, 0], [99, 0], [0, 0]]
    truth[1, 4] = np.nan
    assert landmark_errors.stability(found, truth) == pytest.approx([10, 0])
    truth[2] = np.nan
    assert np.isnan(landmark_errors.stability(found, truth)[1])


def test_bins_are_of_the_yaw_without_its_sign() -> None:
    errors = landmark_errors.mean_by_yaw(np.array([1.0, 3, 5, 7]), np.array([0, -29, 45, -80]))
    np.testing.assert_allclose(errors, [2, 5, 7])
    assert np.isnan(landmark_errors.mean_by_yaw(np.array([1.0]), np.array([0.0]))[1:]).all()


def test_the_labelled_face_is_the_nearest_box_that_holds_its_middle() -> None:
    boxes = np.array([[0, 0, 10, 10], [2, 2, 8, 8], [20, 20, 30, 30]])
    assert landmark_errors.match_box(boxes, np.array([4.9, 5.0])) == 0
    assert landmark_errors.match_box(boxes, np.array([25.0, 29.0])) == 2
    assert landmark_errors.match_box(boxes, np.array([15.0, 15.0])) is None
    assert landmark_errors.match_box(np.zeros((0, 4)), np.array([1.0, 1.0])) is None


def test_the_cumulative_curve_counts_what_was_missed() -> None:
    x, y = landmark_errors.cumulative(np.array([1.0, 2.0, np.inf, 2.5]), 4.0, 5)
    np.testing.assert_allclose(x, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(y, [0, 0.25, 0.5, 0.75, 0.75])


@pytest.mark.parametrize("found", [SQUARE[:, :3], np.repeat(SQUARE, 2, axis=0)])
def test_answers_of_another_shape_are_refused(found: np.ndarray) -> None:
    with pytest.raises(ShapeError):
        landmark_errors.nme(found, SQUARE)
