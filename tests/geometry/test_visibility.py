"""Visibility without rendering, against a z-buffer of the same head."""

from __future__ import annotations

import numpy as np
import pytest
import small_model

from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import builtin_folder, load_bundle
from ddfa_batch.tasks.geometry import pose
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points
from ddfa_batch.tasks.geometry.visibility import Occlusion, visible

HEAD = small_model.head(rows=60, columns=81)
OCCLUSION = Occlusion.of(HEAD)
SIZE = 120


def slow_visible(mesh: np.ndarray, triangles: np.ndarray, landmarks: np.ndarray, margin: float) -> np.ndarray:
    """For each landmark, every triangle of the head: does one lie before it at its place in the picture?"""
    seen = np.ones(len(landmarks), bool)
    a, b, c = (mesh[triangles[:, i]] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    for i, p in enumerate(mesh[landmarks]):
        with np.errstate(divide="ignore", invalid="ignore"):
            u = ((b[:, 0] - p[0]) * (c[:, 1] - p[1]) - (b[:, 1] - p[1]) * (c[:, 0] - p[0])) / area
            v = ((c[:, 0] - p[0]) * (a[:, 1] - p[1]) - (c[:, 1] - p[1]) * (a[:, 0] - p[0])) / area
            depth = u * a[:, 2] + v * b[:, 2] + (1 - u - v) * c[:, 2]
            inside = (u >= 0) & (v >= 0) & (u + v <= 1)
        own = (triangles == landmarks[i]).any(axis=1)
        around = area[own].sum()
        seen[i] = around < 0 and not (inside & ~own & (depth > p[2] + margin)).any()
    return seen


def turned(yaw: float, pitch: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    R = pose.rotation_matrix(np.array([yaw]), np.array([pitch]), np.array([10.0]))[0]
    p = np.zeros((1, 62), np.float32)
    p[0, :12] = np.concatenate([0.4 * R, [[60], [60], [0]]], axis=1).ravel()
    roi = np.array([[0.0, 0, 240, 240]])
    mesh = points(PointBasis.of(HEAD), p, roi, SIZE)[0]
    around = points(PointBasis.of(HEAD, OCCLUSION.vertices), p, roi, SIZE)
    scale = np.array([0.8], np.float32)
    return mesh, visible(OCCLUSION, around, mesh[HEAD.landmarks][None], scale)[0], scale


@pytest.mark.parametrize("yaw", [-70, -40, 0, 20, 55, 85])
@pytest.mark.parametrize("pitch", [-20, 0, 25])
def test_the_few_vertices_decide_as_a_z_buffer_does(yaw: float, pitch: float) -> None:
    mesh, fast, scale = turned(yaw, pitch)
    slow = slow_visible(mesh, HEAD.triangles, HEAD.landmarks, margin=float(0.5 * OCCLUSION.cell * scale[0]))
    assert (fast == slow).mean() >= 0.97


def test_a_frontal_face_shows_everything_and_a_profile_one_side() -> None:
    assert turned(0, 0)[1].mean() > 0.95
    _, seen, _ = turned(80, 0)  # the nose points to the left, so the head's left side in the image is turned away
    x = HEAD.mean[HEAD.landmarks, 0]
    assert seen[x > 30].mean() > 0.9
    assert seen[x < -30].mean() < 0.2


#: Landmarks of the head's left half as the picture of a frontal face shows it, and of its middle from brow to chin.
LEFT = [*range(8), *range(17, 22), *range(36, 42), 31, 32, 48, 49, 50, 58, 59, 60, 61, 67]
MIDDLE = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]


@pytest.fixture(scope="module")
def builtin() -> MorphableModel:
    return load_morphable(load_bundle(builtin_folder()))


@pytest.mark.parametrize("yaw", [-86.0, -90.0, -93.0])
@pytest.mark.parametrize("roll", [0.0, 100.0])
def test_a_profile_shows_the_near_side_and_its_outline(builtin: MorphableModel, yaw: float, roll: float) -> None:
    """Landmarks on the outline are seen, whether the head is turned a little less or a little more than a profile."""
    occlusion = Occlusion.of(builtin)
    R = pose.rotation_matrix(np.array([yaw]), np.array([5.0]), np.array([roll]))[0]
    p = np.zeros((1, builtin.layout.size), np.float32)
    p[0, :12] = np.concatenate([0.4 * R, [[60], [60], [0]]], axis=1).ravel()
    whole = np.array([[0.0, 0, SIZE, SIZE]])
    around = points(PointBasis.of(builtin, occlusion.vertices), p, whole, SIZE)
    landmarks = points(PointBasis.of(builtin, builtin.landmarks), p, whole, SIZE)
    seen = visible(occlusion, around, landmarks, np.array([0.4], np.float32))[0]
    right = np.setdiff1d(np.arange(68), [*LEFT, *MIDDLE])
    assert seen[LEFT].mean() > 0.8
    assert seen[MIDDLE].mean() >= 0.7
    assert not seen[right].any()


def slow_choice(model: MorphableModel, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """`Occlusion.of`, triangle by triangle and cell by cell: the triangles around each landmark, the occluders."""
    side = float(np.ptp(model.mean, axis=0).max()) / cells
    landmarks = model.landmarks.tolist()
    around = [[t for t in model.triangles.tolist() if v in t] for v in landmarks]
    most = max(1, *map(len, around))
    corners = [found + [[v] * 3] * (most - len(found)) for v, found in zip(landmarks, around, strict=True)]
    taken: dict[tuple[int, ...], int] = {}
    for vertex, point in enumerate(model.mean):
        taken.setdefault(tuple(np.floor(point / side).astype(int).tolist()), vertex)
    used = set(model.triangles.ravel().tolist())
    return np.array(corners), np.array(sorted(v for v in taken.values() if v in used))


def test_the_vertices_that_decide_are_those_of_the_loops() -> None:
    corners, occluders = slow_choice(HEAD, 24)
    np.testing.assert_array_equal(OCCLUSION.corners, corners)
    np.testing.assert_array_equal(OCCLUSION.occluders, occluders)
