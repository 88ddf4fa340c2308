"""The recipe of the face model: subdivision, drawn heads, what photographs say of them; on a drawn checkout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import drawn_makehuman
import numpy as np
import pytest

from ddfa_batch.schemas.arrays import F64, I64
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.geometry.mirroring import FLIP68
from recipes.builtin.head_model.build import Amounts, Built, build
from recipes.builtin.head_model.expressions import EXPRESSIONS
from recipes.builtin.head_model.heads import details_of, random_weights
from recipes.builtin.head_model.identities import spread
from recipes.builtin.head_model.photographs import Gaussian, learn
from recipes.builtin.head_model.region import rim_distance
from recipes.builtin.head_model.source import read_base
from recipes.builtin.head_model.subdivision import subdivide

CUBE = np.array([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])
SIDES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("makehuman")
    drawn_makehuman.write(folder)
    return folder


@pytest.fixture(scope="module")
def built(checkout: Path) -> Built:
    rng = np.random.default_rng(0)
    face = load_morphable(find_bundle(BUILTIN, Path()))
    labels = face.mean[face.landmarks] * [1, -1, 1] + rng.normal(size=(8, 68, 3))
    return build(checkout, [labels, labels[:4, :, :2]], Amounts(heads=50, rounds=1))


def edges_of(triangles: I64) -> Counter[tuple[int, int]]:
    return Counter(tuple(edge) for edge in np.stack([triangles, np.roll(triangles, -1, 1)], 2).reshape(-1, 2).tolist())


def area_vectors(points: F64, triangles: I64) -> F64:
    a, b, c = (points[triangles[:, i]] for i in range(3))
    return np.cross(b - a, c - a) / 2


def test_a_cube_is_divided_as_catmull_and_clark_say() -> None:
    """Corners to 5/9, middles of edges to (1 + 1/2)/2, middles of sides stay: F/3 + 2E/3 with k = 3."""
    whole = subdivide(SIDES, 8, np.ones(6, np.bool_))
    points = whole.matrix @ CUBE
    assert points.shape == (8 + 6 + 12, 3)
    np.testing.assert_allclose(points[:8], CUBE * 5 / 9)
    np.testing.assert_allclose(np.abs(points[8:14]).max(axis=1), 1)
    np.testing.assert_allclose(np.sort(np.abs(points[14:]), axis=1), np.tile([0, 0.75, 0.75], (12, 1)))
    np.testing.assert_allclose(whole.matrix.sum(axis=1), 1)


@pytest.mark.parametrize("finer", [[True] * 6, [True] + [False] * 5, [False] * 6, [True, False, True] * 2])
def test_whatever_is_divided_the_surface_stays_closed_and_turned_outwards(finer: list[bool]) -> None:
    whole = subdivide(SIDES, 8, np.array(finer))
    edges = edges_of(whole.triangles)
    assert all(edges[b, a] == n == 1 for (a, b), n in edges.items())
    points = whole.matrix @ CUBE
    vectors = area_vectors(points, whole.triangles)
    np.testing.assert_allclose(vectors.sum(axis=0), 0, atol=1e-12)
    assert ((points[whole.triangles].mean(axis=1) * vectors).sum(axis=1) > -1e-12).all()
    assert (np.linalg.norm(vectors, axis=1) > 1e-3).all(), "no sliver"


def test_the_model_is_symmetric_and_cut_at_the_rim(built: Built) -> None:
    model, mirror = built.model, built.mirror
    np.testing.assert_array_equal(model.mean[mirror], model.mean * [-1, 1, 1])
    np.testing.assert_array_equal(model.landmarks[FLIP68], mirror[model.landmarks])
    flipped = {tuple(sorted(t)) for t in mirror[model.triangles].tolist()}
    assert flipped == {tuple(sorted(t)) for t in model.triangles.tolist()}
    for mode in model.basis:
        turned = mode[mirror] * [-1, 1, 1]
        assert min(np.abs(turned - mode).max(), np.abs(turned + mode).max()) == 0
    edges = edges_of(model.triangles.astype(np.int64))
    assert max(edges.values()) == 1, "no triangle is turned over"


def test_the_model_has_the_papers_layout_and_names(built: Built) -> None:
    model = built.model
    assert (model.layout.n_shape, model.layout.n_expression) == (40, len(EXPRESSIONS))
    assert len(built.prior.mean) == 50
    assert model.uv is not None
    assert 0 <= model.uv.min() <= model.uv.max() <= 1
    assert (np.isfinite(model.basis)).all()
    assert 0.9 < built.identities_kept <= 1


def test_the_rim_runs_over_forehead_and_neck() -> None:
    assert rim_distance(np.array([0.0, -20.0, 10.0])) > 0.99
    for beyond in ([0.0, 95.0, -60.0], [0.0, -150.0, -40.0], [0.0, 0.0, -120.0]):
        assert rim_distance(np.array(beyond)) < 0


def test_heads_are_blends_of_targets_that_are_there(checkout: Path) -> None:
    details = details_of(checkout)
    assert sum("volume" in name for detail in details for name in detail.above) == 4, "both halves, and either"
    rng = np.random.default_rng(0)
    for _ in range(20):
        weights = random_weights(details, rng)
        macro = [w for name, w in weights.items() if name.startswith("macrodetails/") and "universal" not in name]
        assert sum(macro) == pytest.approx(1)
        assert min(weights.values()) >= 0
        assert all((checkout / f"makehuman/data/targets/{name}.target").exists() for name in weights)


def test_a_motion_of_landmarks_is_spread_smoothly() -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(-50, 50, size=(400, 3))
    marks = np.arange(68)
    moves = np.zeros((1, 68, 3))
    moves[0, :, 1] = 2.0
    dense = spread(moves, points, marks)[0]
    assert np.abs(dense[marks] - moves[0]).mean() < 0.2
    far = np.append(points, [[500.0, 0, 0]], axis=0)
    assert np.abs(spread(moves, far, marks)[0, -1]).max() < 1e-6


def test_photographs_enlarge_what_they_show_more_of() -> None:
    """Labels drawn with one coefficient three times as strong as thought, and another never: both are found."""
    rng = np.random.default_rng(2)
    neutral = rng.normal(size=(68, 3)) * 40
    basis = rng.normal(size=(3, 68, 3)) * 4
    beta = rng.normal(size=(60, 3)) * [3.0, 1.0, 0.0]
    shapes = neutral + np.tensordot(beta, basis, axes=1)
    labels = shapes * [1, -1, 1] + 200
    start = Gaussian(np.zeros(3), np.eye(3))
    found, residual = learn(start, neutral, basis, [np.arange(3)], [labels, labels[:30, :, :2]], np.zeros(3, bool), 5)
    deviation = np.sqrt(np.diag(found.covariance))
    assert residual < 0.02
    assert 2.0 < deviation[0] < 3.8
    assert 0.7 < deviation[1] < 1.3
    assert deviation[2] < 0.5


def test_faces_that_fit_no_head_are_told(built: Built) -> None:
    far = np.random.default_rng(3).uniform(0, 100, size=(4, 68, 2))
    neutral = built.model.mean[built.model.landmarks].astype(float)
    with pytest.raises(InputError, match="None of the 4 labelled faces could be fitted"):
        learn(
            Gaussian(np.zeros(1), np.eye(1)), neutral, np.zeros((1, 68, 3)), [np.arange(1)], [far], np.zeros(1, bool), 1
        )


def test_a_folder_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"base\.obj cannot be read .* name the folder of a checkout of MakeHuman"):
        read_base(tmp_path)
