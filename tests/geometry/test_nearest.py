"""Nearest points, beside scipy's tree."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from ddfa_batch.tasks.geometry.nearest import Neighbours


@pytest.mark.parametrize("n", [1, 7, 3000])
@pytest.mark.parametrize("away", [0.0, 1e5])
def test_the_nearest_are_those_that_a_search_in_double_precision_finds(n: int, away: float) -> None:
    rng = np.random.default_rng(n)
    points, places = rng.normal(away, 50, (n, 3)), rng.normal(away, 60, (500, 3))
    distance, nearest = cKDTree(points).query(places)
    known = Neighbours(points)
    assert (known.nearest(places) == nearest).all()
    np.testing.assert_allclose(known.distance(places), distance, rtol=1e-12)


def test_a_mesh_finds_itself() -> None:
    points = np.random.default_rng(0).normal(0, 1e5, (5000, 3))
    assert (Neighbours(points).nearest(points) == np.arange(5000)).all()
