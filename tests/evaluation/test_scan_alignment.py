"""Meshes against scans that are the mesh itself, moved, or moved and changed."""

from __future__ import annotations

import numpy as np
import pytest
import small_model

from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.tasks.evaluation import scan_alignment
from ddfa_batch.tasks.geometry import pose

MESH = small_model.head(60, 81).mean.astype(np.float64)
EYES, NOSE = (25 * 81 + 8, 25 * 81 + 72), 33 * 81 + 40


def moved(points: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    rng = np.random.default_rng(seed)
    R = pose.rotation_matrix(*(rng.uniform(-12, 12, 1) for _ in range(3)))[0]
    scale = float(rng.uniform(0.2, 5))
    return scale * points @ R.T + rng.normal(size=3) * 50, scale


@pytest.mark.parametrize("seed", range(3))
def test_umeyama_recovers_a_similarity(seed: int) -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    target, scale = moved(points, seed)
    found = scan_alignment.umeyama(points, target)
    assert found.scale == pytest.approx(scale)
    np.testing.assert_allclose(found(points), target, atol=1e-9)


def test_umeyama_never_mirrors() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    assert np.linalg.det(scan_alignment.umeyama(points, points * [-1, 1, 1]).R) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_a_scan_of_the_mesh_itself_has_no_error_wherever_it_stands(seed: int) -> None:
    scan, scale = moved(MESH, seed)
    found = scan_alignment.scan_error(MESH, EYES, NOSE, scan)
    assert found.nme < 1.5  # of the eyes' distance; vertices, between which nothing is measured, are 2 to 3 % apart
    assert found.interocular == pytest.approx(scale * np.linalg.norm(MESH[EYES[0]] - MESH[EYES[1]]), rel=0.05)
    assert 1000 < found.n_points < len(MESH)


def test_a_scan_with_another_nose_has_an_error() -> None:
    scan = MESH.copy()
    near = np.linalg.norm(MESH - MESH[NOSE], axis=1) < 25
    scan[near, 2] += 25
    same = scan_alignment.scan_error(MESH, EYES, NOSE, MESH).nme
    assert scan_alignment.scan_error(MESH, EYES, NOSE, scan).nme > same + 0.1


def test_a_scan_of_few_points_is_refused() -> None:
    with pytest.raises(ShapeError, match="100 finite points"):
        scan_alignment.scan_error(MESH, EYES, NOSE, MESH[:20])


def test_a_scan_without_a_face_is_refused() -> None:
    far = np.concatenate([np.zeros((99, 3)), [[1e6, 0, 0]]])
    with pytest.raises(ShapeError, match="upright face"):
        scan_alignment.scan_error(MESH, (0, 0), NOSE, far)
