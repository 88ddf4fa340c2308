"""Every kind of picture shows the surface that is nearest, where it is, and nothing elsewhere."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import small_model

from ddfa_batch.schemas.arrays import F32, F64
from ddfa_batch.schemas.config import PICTURE_KINDS
from ddfa_batch.tasks.geometry.pose import rotation_matrix
from ddfa_batch.tasks.rendering import face_pictures
from ddfa_batch.tasks.rendering.face_pictures import FARTHEST, KINDS
from ddfa_batch.tasks.rendering.pictured_faces import PicturedFaces
from ddfa_batch.tasks.rendering.rasteriser import normals
from ddfa_batch.tasks.rendering.topology import Topology

#: Rows and columns of the pictures.
SHAPE = (84, 112, 3)


@cache
def topology() -> Topology:
    return Topology.of(small_model.head())


def scene(*heads: tuple[float, float, float, float], track: int = -1) -> PicturedFaces:
    """Heads of some yaw, x, y and size in a picture."""
    model, n = small_model.head(), len(heads)
    yaw, x, y, size = (np.array(column, np.float64) for column in zip(*heads, strict=True))
    rotation = rotation_matrix(yaw, np.full(n, 10.0), np.full(n, -7.0))
    turned = np.einsum("vk,nik->nvi", model.mean.astype(np.float64), rotation) * [1, -1, 1] / 200
    meshes = (turned * size[:, None, None] + np.stack([x, y, 0 * x], axis=1)[:, None]).astype(np.float32)
    roi = np.stack([x - size, y - size, x + size, y + size], axis=1)
    landmarks = meshes[:, model.landmarks]
    seen = np.arange(68) % 3 > 0
    return PicturedFaces(meshes, landmarks, np.tile(seen, (n, 1)), rotation, roi, np.full(n, track))


#: Two heads that overlap, the larger, and so the nearer, on the right; one of them cut by the picture's edge.
OVERLAPPING = ((35.0, 78.3, 44.1, 80.0), (-50.0, 40.2, 40.7, 55.0))


def cast(mesh: F32, values: F32) -> tuple[F64, np.ndarray]:
    """The slow twin: a ray through the centre of every pixel against every triangle, in double precision."""
    height, width = SHAPE[:2]
    y, x = np.mgrid[:height, :width].astype(np.float64)
    depth, found = np.full((height, width), -np.inf), np.full((height, width, values.shape[1]), np.nan)
    for a, b, c in topology().triangles:
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = mesh[[a, b, c]].astype(np.float64)
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area >= 0:
            continue
        wb = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
        wc = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
        wa = 1 - wb - wc
        z = wa * az + wb * bz + wc * cz
        nearer = (wa >= 0) & (wb >= 0) & (wc >= 0) & (z > depth)
        depth[nearer] = z[nearer]
        mixed = wa[..., None] * values[a] + wb[..., None] * values[b] + wc[..., None] * values[c]
        found[nearer] = mixed[nearer]
    return depth, found


def values_of(kind: str, mesh: F32) -> F32:
    """What a kind shows of each vertex, RGB in [0, 1], written down anew."""
    if kind == "pncc":
        low, high = small_model.head().mean.min(axis=0), small_model.head().mean.max(axis=0)
        return (small_model.head().mean - low) / (high - low)
    if kind == "normals":
        return normals(mesh, topology().triangles) * [0.5, -0.5, 0.5] + 0.5
    z = mesh[:, 2:]
    return np.repeat((FARTHEST + (255 - FARTHEST) * (z - z.min()) / (z.max() - z.min())) / 255, 3, axis=1)


@pytest.mark.parametrize("kind", ["depth", "pncc", "normals"])
def test_values_are_those_of_an_exact_ray_cast(kind: str) -> None:
    faces = scene(*OVERLAPPING)
    expected = np.zeros(SHAPE, np.uint8)
    for i in (1, 0):  # the smaller head is the farther
        _, found = cast(faces.meshes[i], values_of(kind, faces.meshes[i]))
        there = ~np.isnan(found[..., 0])
        expected[there] = np.rint(found[there][:, ::-1] * 255)
    picture = KINDS[kind](np.full(SHAPE, 90, np.uint8), faces, topology())
    assert (expected > 0).any(axis=2).mean() > 0.3
    equal = (np.abs(picture.astype(int) - expected) <= 1).all(axis=2)
    assert equal.mean() >= 0.995


def test_every_kind_that_is_offered_can_be_drawn() -> None:
    assert set(KINDS) == set(PICTURE_KINDS)


@pytest.mark.parametrize("kind", [kind for kind in PICTURE_KINDS if kind != "uv"])
def test_a_kind_draws_faces_and_changes_nothing_it_is_given(kind: str) -> None:
    image = np.full(SHAPE, 90, np.uint8)
    picture = KINDS[kind](image, scene(*OVERLAPPING), topology())
    assert (image == 90).all()
    assert picture.dtype == np.uint8
    assert picture.shape == ((256, 512, 3) if kind == "crop" else SHAPE)
    assert (picture != 90).any() == (kind != "image")


@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_pictures_without_a_face_are_drawn_too(kind: str) -> None:
    nobody = scene(*OVERLAPPING).take(np.zeros(0, np.int64))
    picture = KINDS[kind](np.full(SHAPE, 90, np.uint8), nobody, topology())
    values = kind in ("depth", "pncc", "normals", "uv", "crop")
    assert (picture == (0 if values else 90)).all()


@pytest.mark.parametrize("kind", ["mesh", "landmarks", "wireframe", "dense", "pose", "depth"])
def test_a_face_beside_the_picture_draws_nothing(kind: str) -> None:
    image = np.full(SHAPE, 90, np.uint8)
    picture = KINDS[kind](image, scene((0.0, -500.0, 40.0, 60.0), (0.0, 50.0, 900.0, 60.0)), topology())
    if kind != "pose":  # whose words stay in the picture
        assert (picture == (0 if kind == "depth" else 90)).all()


def test_the_nearer_face_hides_the_farther_whatever_their_order() -> None:
    faces, image = scene(*OVERLAPPING), np.full(SHAPE, 90, np.uint8)
    for kind in ("mesh", "depth", "wireframe"):
        turned = KINDS[kind](image, faces.take(np.array([1, 0])), topology())
        np.testing.assert_array_equal(turned, KINDS[kind](image, faces, topology()))
    alone = face_pictures.mesh(image, faces.take(np.array([0])), topology())
    inner = np.s_[30:58, 75:90]
    np.testing.assert_array_equal(face_pictures.mesh(image, faces, topology())[inner], alone[inner])


def test_the_surface_fades_where_the_mesh_ends() -> None:
    """Over black and over white the middle is the same, and the edge is not."""
    faces = scene((0.0, 56.0, 42.0, 70.0))
    dark, bright = (face_pictures.mesh(np.full(SHAPE, g, np.uint8), faces, topology()) for g in (0, 255))
    difference = np.abs(dark.astype(int) - bright).max(axis=2)
    assert difference[30:54, 45:67].max() == 0
    between = (difference > 20) & (difference < 235)
    assert between.sum() > 100


def test_light_tells_shape() -> None:
    """A nose that stands out is brighter on the side of the key light, and the head is no flat tint."""
    picture = face_pictures.mesh(np.zeros(SHAPE, np.uint8), scene((0.0, 56.0, 42.0, 80.0)), topology())
    grey = picture.mean(axis=2)
    assert grey[38:46, 46:52].mean() > grey[38:46, 60:66].mean() + 10
    assert np.ptp(np.percentile(grey[grey > 0], [5, 95])) > 60


def test_line_widths_follow_the_size_of_the_face() -> None:
    def covered(size: float) -> float:
        image = np.zeros((300, 300, 3), np.uint8)
        return float((face_pictures.landmarks(image, scene((0.0, 150.0, 150.0, size)), topology()) > 60).any(2).sum())

    assert covered(280) > 2.5 * covered(140)


def test_tracks_keep_their_colours() -> None:
    image = np.full(SHAPE, 20, np.uint8)
    first, second = (face_pictures.mesh(image, scene(OVERLAPPING[0], track=t), topology()) for t in (0, 1))
    again = face_pictures.mesh(image, scene((0.0, 30.0, 42.0, 60.0), track=1), topology())
    hues = [(p - np.float64(20)).reshape(-1, 3).mean(axis=0) for p in (first, second, again)]
    hues = [hue / np.linalg.norm(hue) for hue in hues]
    assert hues[1] @ hues[2] > 0.99
    assert hues[0] @ hues[1] < 0.97


def test_pictures_side_by_side_are_as_high_as_the_highest() -> None:
    image = np.full(SHAPE, 90, np.uint8)
    both = face_pictures.side_by_side(image, scene(*OVERLAPPING), topology(), ["image", "crop"])
    assert both.shape == (256, SHAPE[1] + 512, 3)
    assert (both[: SHAPE[0], : SHAPE[1]] == 90).all()
    assert not both[SHAPE[0] :, : SHAPE[1]].any()


def test_an_overlay_paints_the_face_and_nothing_else() -> None:
    image, faces = np.full(SHAPE, 128, np.uint8), scene((0.0, 56.0, 42.0, 70.0))
    for zoom in (1.0, 0.5, 2.0):
        resized, moved = face_pictures.at_size(image, faces, zoom)
        painted = face_pictures.overlay(resized, moved, topology())
        assert painted.shape == (SHAPE[0] * zoom, SHAPE[1] * zoom, 3)
        changed = np.argwhere((painted != 128).any(axis=2)) / zoom
        low, high = faces.meshes[0, :, 1::-1].min(axis=0), faces.meshes[0, :, 1::-1].max(axis=0)
        assert (changed.min(axis=0) > low - 3).all()
        assert (changed.max(axis=0) < high + 3).all()
        assert len(changed) > 0.5 * np.prod(high - low) * zoom**2


def test_a_texture_shows_the_side_that_is_seen_and_mirrors_the_other() -> None:
    """Red on the left of a head turned to the left, blue in its middle: the hidden right cheek is red too."""
    model = small_model.head()
    across, down = np.meshgrid(np.linspace(0, 1, 41), np.linspace(1, 0, 30))
    uv = np.stack([across.ravel(), down.ravel()], axis=1).astype(np.float32)
    unwrapped = Topology.of(replace(model, uv=uv))
    faces = scene((48.0, 100.0, 100.0, 170.0))
    image = np.zeros((200, 200, 3), np.uint8)
    shown = normals(faces.meshes[0], model.triangles)[:, 2] > 0
    cheeks = np.abs(model.mean[:, 0]) > 40
    for x, y, cheek in zip(*faces.meshes[0, shown, :2].T.round().astype(int), cheeks[shown], strict=True):
        image[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4] = (0, 0, 200) if cheek else (200, 0, 0)
    texture = KINDS["uv"](image, faces, unwrapped)
    rows = texture[110:140]
    left, middle, right = (rows[:, c].reshape(-1, 3).mean(axis=0) for c in (slice(20, 40), 128, slice(216, 236)))
    assert left[2] > 150 > left[0]
    assert right[2] > 150 > right[0]
    assert np.asarray(middle)[0] > 100
