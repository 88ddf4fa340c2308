"""Errors with their normalisers: each against a number worked out by hand, or a slow twin."""

from __future__ import annotations

import numpy as np
import pytest
import small_model

from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.tasks.evaluation import metrics
from ddfa_batch.tasks.geometry import pose

RNG = np.random.default_rng(0)
SQUARE = np.array([[[0.0, 0.0], [40.0, 0.0], [40.0, 10.0], [0.0, 10.0]]])


def test_nme_is_the_mean_distance_over_the_root_of_the_boxs_area() -> None:
    assert metrics.box_size(SQUARE) == pytest.approx(20)
    assert metrics.nme(SQUARE + np.array([3, 4]), SQUARE) == pytest.approx(25)


def test_points_without_a_label_count_neither_for_the_distance_nor_for_the_box() -> None:
    truth = np.concatenate([SQUARE, [[[np.nan, np.nan]]]], axis=1)
    found = np.concatenate([SQUARE + np.array([3, 4]), [[[1e6, 1e6]]]], axis=1)
    assert metrics.nme(found, truth) == pytest.approx(25)
    with pytest.raises(ShapeError, match="labelled point"):
        metrics.nme(found, np.full_like(truth, np.nan))


def test_solid_error_ignores_where_depth_begins_but_not_depth() -> None:
    truth = np.concatenate([SQUARE, np.zeros((1, 4, 1))], axis=2)
    assert metrics.nme_solid(truth + np.array([0, 0, 77]), truth) == pytest.approx(0, abs=1e-9)
    assert metrics.nme_solid(truth + np.array([[0, 0, 5], [0, 0, -5]] * 2), truth) == pytest.approx(25)


def test_stability_is_the_error_of_the_motion_not_of_the_place() -> None:
    truth = SQUARE + np.linspace(0, 9, 4)[:, None, None]
    assert metrics.stability(truth + 5, truth) == pytest.approx([0, 0, 0])
    jitter = truth + np.array([0, 2, 0, 0])[:, None, None] * [1, 0]
    assert metrics.stability(jitter, truth) == pytest.approx([10, 10, 0])


def test_bins_are_of_the_yaw_without_its_sign() -> None:
    np.testing.assert_allclose(metrics.by_yaw(np.array([1.0, 3, 5, 7]), np.array([0, -29, 45, -80])), [2, 5, 7])
    assert np.isnan(metrics.by_yaw(np.array([1.0]), np.array([0.0]))[1:]).all()


def test_the_cumulative_curve_counts_what_was_missed() -> None:
    x, y = metrics.cumulative(np.array([1.0, 2.0, np.inf, 2.5]), 4.0, 5)
    np.testing.assert_allclose(x, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(y, [0, 0.25, 0.5, 0.75, 0.75])


def moved(points: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    rng = np.random.default_rng(seed)
    R = pose.rotation_matrix(*(rng.uniform(-12, 12, 1) for _ in range(3)))[0]
    scale = float(rng.uniform(0.2, 5))
    return scale * points @ R.T + rng.normal(size=3) * 50, scale


@pytest.mark.parametrize("seed", range(3))
def test_alignment_recovers_a_similarity(seed: int) -> None:
    points = RNG.normal(size=(50, 3))
    target, scale = moved(points, seed)
    found = metrics.aligned(points, target)
    assert found.scale == pytest.approx(scale)
    np.testing.assert_allclose(found(points), target, atol=1e-9)
    mirrored = metrics.aligned(points, points * [-1, 1, 1])
    assert np.linalg.det(mirrored.R) == pytest.approx(1)


MESH = small_model.head(60, 81).mean.astype(np.float64)
EYES, NOSE = (25 * 81 + 8, 25 * 81 + 72), 33 * 81 + 40


@pytest.mark.parametrize("seed", range(3))
def test_a_scan_of_the_mesh_itself_has_no_error_wherever_it_stands(seed: int) -> None:
    scan, scale = moved(MESH, seed)
    found = metrics.scan_error(MESH, EYES, NOSE, scan)
    assert found.nme < 1.5  # of the eyes' distance; vertices, between which nothing is measured, are 2 to 3 % apart
    assert found.interocular == pytest.approx(scale * np.linalg.norm(MESH[EYES[0]] - MESH[EYES[1]]), rel=0.05)
    assert 1000 < found.n_points < len(MESH)


def test_a_scan_with_another_nose_has_an_error() -> None:
    scan = MESH.copy()
    near = np.linalg.norm(MESH - MESH[NOSE], axis=1) < 25
    scan[near, 2] += 25
    assert metrics.scan_error(MESH, EYES, NOSE, scan).nme > metrics.scan_error(MESH, EYES, NOSE, MESH).nme + 0.1


def test_a_scan_of_few_points_is_refused() -> None:
    with pytest.raises(ShapeError, match="100 finite points"):
        metrics.scan_error(MESH, EYES, NOSE, MESH[:20])
