"""The built-in morphable model: a face by construction, and identities measured on labels."""

from __future__ import annotations

import numpy as np
import pytest

from ddfa_batch.schemas.arrays import F64
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry.mirroring import FLIP68
from recipes.builtin.face_model.build import build
from recipes.builtin.face_model.design import EXPRESSIONS, N_IDENTITIES
from recipes.builtin.face_model.expressions import expressions
from recipes.builtin.face_model.identities import Measured, measure_identities, principal_modes, without_expressions
from recipes.builtin.face_model.template import Template, build_template

CLOSED, RAISED, SMILE, JAW = map(EXPRESSIONS.index, ("eyes closed", "brows raised", "smile", "jaw open"))


@pytest.fixture(scope="module")
def template() -> Template:
    return build_template()


@pytest.fixture(scope="module")
def actions(template: Template) -> F64:
    return expressions(template)


def normals(vertices: F64, triangles: np.ndarray) -> F64:
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    return np.cross(b - a, c - a)


def test_the_face_has_the_size_of_a_face_and_68_distinct_landmarks(template: Template) -> None:
    assert 5_000 <= len(template.vertices) <= 12_000
    assert len(set(template.landmarks.tolist())) == 68
    marks = template.vertices[template.landmarks]
    assert np.linalg.norm(marks[45] - marks[36]) == pytest.approx(90, abs=2)  # outer corners of the eyes, mm
    assert np.isfinite(template.vertices).all()


def test_mean_topology_and_uv_are_symmetric(template: Template, actions: F64) -> None:
    mirror = template.mirror
    assert (mirror[mirror] == np.arange(len(mirror))).all()
    np.testing.assert_allclose(template.vertices[mirror] * [-1, 1, 1], template.vertices, atol=1e-9)
    np.testing.assert_array_equal(mirror[template.landmarks], template.landmarks[FLIP68])
    np.testing.assert_allclose(template.uv[mirror] * [-1, 1] + [1, 0], template.uv, atol=1e-6)
    triangles = {tuple(sorted(t)) for t in template.triangles.tolist()}
    assert {tuple(sorted(t)) for t in mirror[template.triangles].tolist()} == triangles
    sign = np.where(np.array(EXPRESSIONS) == "jaw to the left", -1, 1)[:, None, None]
    np.testing.assert_allclose(sign * actions[:, mirror] * [-1, 1, 1], actions, atol=1e-4)


def test_winding_is_consistent_and_outwards(template: Template) -> None:
    sides = np.concatenate(
        [template.triangles[:, [0, 1]], template.triangles[:, [1, 2]], template.triangles[:, [2, 0]]]
    )
    assert len(np.unique(sides, axis=0)) == len(sides), "an edge is walked twice in the same direction"
    used = np.unique(template.triangles)
    assert len(used) == len(template.vertices), "a vertex of no triangle"
    normal = normals(template.vertices, template.triangles)
    outwards = (normal * (template.vertices[template.triangles].mean(axis=1) - [0, -20, -100])).sum(axis=1) > 0
    assert outwards.mean() > 0.97  # lids, wings of the nose and the mouth's inside turn away


def test_no_triangle_is_flat(template: Template) -> None:
    assert np.linalg.norm(normals(template.vertices, template.triangles), axis=1).min() > 1e-4


def test_expressions_do_what_they_are_called(template: Template, actions: F64) -> None:
    marks = template.landmarks
    still = template.vertices[marks]

    def opened(mode: int, upper: int, lower: int) -> tuple[float, float]:
        moved = still + actions[mode][marks]
        return still[upper, 1] - still[lower, 1], moved[upper, 1] - moved[lower, 1]

    before, after = opened(JAW, 62, 66)
    assert before < 3
    assert after > 20
    before, after = opened(CLOSED, 43, 47)
    assert before > 5
    assert after < 1
    assert (actions[RAISED][marks[22:27], 1] > 3).all()
    corner = actions[SMILE][marks[54]]
    assert corner[0] > 3
    assert corner[1] > 3
    assert corner[2] < 0
    for mode in (CLOSED, RAISED):
        assert np.abs(actions[mode][marks[:17]]).max() < 0.2, "the jaw stays"
    assert np.abs(actions[:, template.ball]).max() == 0, "eyeballs stay"


def test_closed_lids_cover_the_eyeball(template: Template, actions: F64) -> None:
    from ddfa_batch.tasks.rendering import rasteriser

    moved = template.vertices + actions[CLOSED]
    picture = ((moved * [1, -1, 1]) * 3 + [320, 320, 0]).astype(np.float32)
    shown = rasteriser.rasterise(picture, template.triangles.astype(np.int32), 640, 640).triangle
    of_ball = template.ball[template.triangles].all(axis=1)
    closed = of_ball[shown[shown >= 0]].sum()
    picture = ((template.vertices * [1, -1, 1]) * 3 + [320, 320, 0]).astype(np.float32)
    shown = rasteriser.rasterise(picture, template.triangles.astype(np.int32), 640, 640).triangle
    assert closed < 0.12 * of_ball[shown[shown >= 0]].sum()


def test_carried_moves_meet_the_landmarks_and_move_eyeballs_whole(template: Template) -> None:
    moves = np.random.default_rng(0).normal(size=(3, 68, 3))
    dense = template.carry(moves)
    np.testing.assert_allclose(dense[:, template.landmarks], moves, atol=1e-6)
    right = template.ball & (template.chart[:, 0] > 0)
    np.testing.assert_allclose(dense[:, right], np.repeat(moves[:, None, 42:48].mean(axis=2), right.sum(), axis=1))


def test_identities_are_found_again_in_labels_made_from_them(template: Template, actions: F64) -> None:
    rng = np.random.default_rng(1)
    neutral, action = template.vertices[template.landmarks], actions[:, template.landmarks]
    wide = np.zeros((1, 68, 3))
    wide[0, :17, 0] = 0.12 * neutral[:17, 0]
    long = np.zeros((1, 68, 3))
    long[0, 4:13, 1] = -6.0
    known = np.concatenate([wide, long])
    n = 300
    shapes = neutral + np.einsum("nk,klc->nlc", rng.normal(size=(n, 2)), known)
    yaw = rng.uniform(-1, 1, n)
    zero, one = np.zeros(n), np.ones(n)
    turn = np.stack([np.stack([np.cos(yaw), zero, -np.sin(yaw)], -1), np.stack([zero, -one, zero], -1)], 1)
    labels = np.einsum("nac,nlc->nla", turn, shapes) + 200 + rng.normal(scale=0.3, size=(n, 68, 2))
    measured = measure_identities(labels, np.ones((n, 68)), neutral, action, count=6, rounds=5)
    assert measured.residual < 0.012
    assert np.abs(measured.offset).mean() < 1
    basis, _ = np.linalg.qr(measured.moves.reshape(6, -1).T)
    for mode in known:
        pure = principal_modes(without_expressions(np.stack([mode, -mode]), action), 1)[1].ravel()
        assert np.linalg.norm(basis.T @ pure) > 0.85 * np.linalg.norm(pure)
    mirrored = measured.moves[:, FLIP68] * [-1, 1, 1]
    parity = np.abs((mirrored * measured.moves).sum(axis=(1, 2)) / np.square(measured.moves).sum(axis=(1, 2)))
    np.testing.assert_allclose(parity, 1, atol=1e-6)


def test_the_built_model_has_the_papers_layout(template: Template) -> None:
    rng = np.random.default_rng(2)
    moves = rng.normal(size=(N_IDENTITIES, 68, 3))
    moves[::2] = (moves + moves[:, FLIP68] * [-1, 1, 1])[::2] / 2
    moves[1::2] = (moves - moves[:, FLIP68] * [-1, 1, 1])[1::2] / 2
    measured = Measured(np.zeros((68, 3)), moves, Prior.unit(50), 0.0)
    model = build(measured, template)
    assert (model.layout.n_shape, model.layout.n_expression) == (40, 10)
    np.testing.assert_allclose(model.basis[:40, model.landmarks], moves, atol=0.05)
    assert model.uv is not None
    assert model.uv.min() >= 0
    assert model.uv.max() <= 1
