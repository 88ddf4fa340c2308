"""What the face model that is shipped promises: a head in every view whose expressions do what they are called."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ddfa_batch.schemas.arrays import F32
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle, find_bundle
from ddfa_batch.tasks.geometry import pose
from ddfa_batch.tasks.geometry.mirroring import FLIP68
from ddfa_batch.tasks.geometry.visibility import Occlusion, visible
from ddfa_batch.tasks.rendering.exposure import exposure
from ddfa_batch.tasks.rendering.rasteriser import Fragments, rasterise
from ddfa_batch.tasks.rendering.surface import Surface

#: Pixels a millimetre, and the side of pictures.
ZOOM, SIZE = 3.0, 900


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    bundle = find_bundle(BUILTIN, Path())
    if bundle.manifest.topology != "builtin_v2":
        pytest.skip(f"the face model shipped is {bundle.manifest.topology}")
    return bundle


@pytest.fixture(scope="module")
def model(shipped: Bundle) -> MorphableModel:
    return load_morphable(shipped)


def placed(shape: F32, yaw: float = 0.0, pitch: float = 0.0) -> F32:
    """A shape (V, 3) in mm as a picture of SIZE pixels shows it."""
    turn = pose.rotation_matrix(np.array([yaw]), np.array([pitch]), np.zeros(1))[0]
    return np.asarray(shape @ turn.T * [ZOOM, -ZOOM, ZOOM] + [SIZE / 2, SIZE / 2, 0], np.float32)


def shown(model: MorphableModel, shape: F32) -> Fragments:
    return rasterise(placed(shape), model.triangles, SIZE, SIZE)


def test_it_is_symmetric_and_every_edge_is_used_once_each_way(model: MorphableModel) -> None:
    mirror = Surface.of(model).mirror
    np.testing.assert_allclose(model.mean[mirror], model.mean * [-1, 1, 1], atol=1e-3)
    np.testing.assert_array_equal(model.landmarks[FLIP68], mirror[model.landmarks])
    edges = np.stack([model.triangles, np.roll(model.triangles, -1, axis=1)], axis=2).reshape(-1, 2)
    assert max(Counter(map(tuple, edges.tolist())).values()) == 1


def test_from_before_one_sees_outsides_only(model: MorphableModel) -> None:
    """Turned over, the mesh shows its insides: at every pixel of the face they lie behind what it shows as it is."""
    front, back = shown(model, model.mean), rasterise(placed(model.mean), model.triangles[:, ::-1], SIZE, SIZE)
    both = (front.triangle >= 0) & (back.triangle >= 0)
    assert (front.depth[both] >= back.depth[both] - 0.1).mean() > 0.995
    assert (back.triangle >= 0).sum() <= 1.01 * (front.triangle >= 0).sum()


def test_landmarks_come_in_the_markups_order(model: MorphableModel) -> None:
    x, y, z = model.mean[model.landmarks].T
    for row in (range(17), range(17, 22), range(22, 27), range(31, 36), range(48, 55), range(60, 65)):
        assert (np.diff(x[list(row)]) > 0).all(), "from the image's left to its right"
    assert (np.diff(y[27:31]) < 0).all()
    assert np.argmax(z) == 30
    assert np.argmin(y) == 8
    for inner, outer, upper, lower in ((39, 36, 37, 41), (42, 45, 44, 46)):
        assert abs(x[inner]) < abs(x[upper]) < abs(x[outer])
        assert y[upper] > y[lower]
    assert y[51] > y[62] > y[66] > y[57]
    assert y[17:27].min() > y[36:48].max()


def moved(shipped: Bundle, model: MorphableModel, name: str) -> tuple[F32, F32]:
    """The neutral head and the head that performs an expression."""
    mode = model.basis[model.n_shape + shipped.manifest.expression_names.index(name)]
    return model.mean, model.mean + mode


@pytest.mark.parametrize(
    ("name", "upper", "lower", "least", "most"),
    [
        ("jaw_open", 62, 66, 20, 50),
        ("upper_lip_raised", 51, 57, 3, 15),
        ("lower_lip_lowered", 62, 66, 3, 15),
        ("eyes_closed", 44, 46, -10, -4),
        ("eyes_closed", 37, 41, -10, -4),
        ("brows_raised", 24, 44, 2, 10),
        ("brows_lowered", 22, 43, -10, -1.5),
        ("mouth_corners_down", 48, 57, -10, -1.5),
        ("smile", 54, 57, 1, 12),
    ],
)
def test_an_expression_moves_what_it_names(
    shipped: Bundle, model: MorphableModel, name: str, upper: int, lower: int, least: float, most: float
) -> None:
    before, after = (head[model.landmarks, 1] for head in moved(shipped, model, name))
    assert least < (after[upper] - after[lower]) - (before[upper] - before[lower]) < most


def test_lips_pucker_and_smiles_widen(shipped: Bundle, model: MorphableModel) -> None:
    for name, low, high in (("lips_puckered", -25, -5), ("smile", 4, 25)):
        before, after = (head[model.landmarks, 0] for head in moved(shipped, model, name))
        assert low < (after[54] - after[48]) - (before[54] - before[48]) < high


def test_closed_lids_cover_the_eyeballs(shipped: Bundle, model: MorphableModel) -> None:
    parts = _parts(model)
    ball = np.isin(
        parts, [parts[np.argmin(np.linalg.norm(model.mean - [side * 29, 0, 2], axis=1))] for side in (-1, 1)]
    )
    of_ball = ball[model.triangles].all(axis=1)
    assert 100 < ball.sum() < 1000, "two eyeballs"
    open_, closed = (shown(model, head).triangle for head in moved(shipped, model, "eyes_closed"))
    assert of_ball[open_[open_ >= 0]].sum() > 1000
    assert of_ball[closed[closed >= 0]].sum() < 0.1 * of_ball[open_[open_ >= 0]].sum()


def _parts(model: MorphableModel) -> np.ndarray:
    """Which connected part each vertex (V,) belongs to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = model.triangles.ravel(), np.roll(model.triangles, 1, axis=1).ravel()
    return np.asarray(connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(model.n_vertices,) * 2))[1])


def test_an_open_mouth_shows_its_dark_inside_and_no_background(shipped: Bundle, model: MorphableModel) -> None:
    _, head = moved(shipped, model, "jaw_open")
    lips = placed(head)[model.landmarks]
    x, y = np.rint((lips[62, :2] + lips[66, :2]) / 2).astype(int)
    around = shown(model, head).triangle[y - 20 : y + 21, x - 15 : x + 16]
    assert (around >= 0).all()
    inside = model.triangles[np.unique(around)]
    assert np.median(exposure(model)[inside]) < 0.3


def test_landmarks_are_called_visible_as_rays_say(shipped: Bundle, model: MorphableModel) -> None:
    occlusion, rng = Occlusion.of(model), np.random.default_rng(0)
    k = model.n_shape
    std = np.array(shipped.manifest.param_std)[-len(model.basis) :]
    agreed = []
    for _ in range(24):
        alpha = np.zeros(len(model.basis))
        alpha[:k] = 0.7 * std[:k] * rng.normal(size=k)
        shape = np.asarray(model.mean + np.tensordot(alpha, model.basis, axes=1), np.float32)
        picture = placed(shape, rng.uniform(-80, 80), rng.uniform(-20, 20))
        marks = picture[model.landmarks]
        told = visible(occlusion, picture[occlusion.vertices][None], marks[None], np.array([ZOOM], np.float32))[0]
        depth = rasterise(picture, model.triangles, SIZE, SIZE).depth
        x, y = np.rint(marks[:, :2]).astype(int).T
        near = np.stack([depth[y + dy, x + dx] for dy in (-2, 0, 2) for dx in (-2, 0, 2)])
        agreed.append(told == (near.min(axis=0) < marks[:, 2] + 1.5 * ZOOM))
    assert np.mean(agreed) > 0.9
