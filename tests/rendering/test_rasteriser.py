"""The rasteriser against its slow twin, and what it paints."""

import cv2
import numpy as np
import pytest
import synthetic_head as sh

from ddfa_batch.schemas.arrays import F32, F64, I32
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.tasks.geometry import crop, motion, pose
from ddfa_batch.tasks.rendering import rasteriser


def twin(vertices: F32, triangles: I32, width: int, height: int) -> tuple[I32, F64]:
    """The nearest front-facing triangle at every pixel, one triangle and all pixels at a time."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    index, depth = np.full((height, width), -1, np.int32), np.full((height, width), -np.inf)
    for t, corners in enumerate(triangles):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = vertices[corners].astype(np.float64)
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area >= 0:
            continue
        wb = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
        wc = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
        z = az + wb * (bz - az) + wc * (cz - az)
        shown = (wb >= -1e-9) & (wc >= -1e-9) & (wb + wc <= 1 + 1e-9) & (z > depth)
        index[shown], depth[shown] = t, z[shown]
    return index, depth


def turned_head(yaw: float, pitch: float, size: int) -> F32:
    R = pose.rotation_matrix(np.array([yaw]), np.array([pitch]), np.zeros(1))[0]
    T = sh.image_pose_of(R, sh.F * size / sh.SIZE, size / 2 + 0.3, size / 2 - 0.2)
    return motion.apply(T, sh.head().mean).astype(np.float32)


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (35, 10), (-70, -25)])
def test_it_equals_its_twin(yaw: float, pitch: float) -> None:
    vertices = turned_head(yaw, pitch, 64)
    fast = rasteriser.rasterise(vertices, sh.head().triangles, 64, 56)
    index, depth = twin(vertices, sh.head().triangles, 64, 56)
    np.testing.assert_array_equal(fast.triangle >= 0, index >= 0)
    shown = index >= 0
    np.testing.assert_allclose(fast.depth[shown], depth[shown], atol=1e-3)
    assert (fast.triangle == index).mean() > 0.999  # two triangles may share an edge and a depth


def test_random_triangles_equal_the_twin() -> None:
    rng = np.random.default_rng(3)
    vertices = rng.uniform(-30, 70, (60, 3)).astype(np.float32)
    triangles = rng.permutation(60).reshape(20, 3).astype(np.int32)
    fast = rasteriser.rasterise(vertices, triangles, 40, 30)
    index, _ = twin(vertices, triangles, 40, 30)
    np.testing.assert_array_equal(fast.triangle, index)


def test_a_fan_leaves_no_crack() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 40))[::-1]
        ring = np.stack([500 * np.cos(angle) + 20, 500 * np.sin(angle) + 20, 0 * angle], axis=1)
        vertices = np.concatenate([[[*rng.uniform(5, 35, 2), 0]], ring]).astype(np.float32)
        k = np.arange(40)
        triangles = np.stack([np.zeros(40, int), 1 + k, 1 + (k + 1) % 40], axis=1).astype(np.int32)
        assert (rasteriser.rasterise(vertices, triangles, 41, 41).triangle >= 0).all()


def test_pixels_on_an_edge_belong_to_the_mesh() -> None:
    square = np.array([[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0]], np.float32)
    fragments = rasteriser.rasterise(square, np.array([[0, 2, 1], [0, 3, 2]], np.int32), 6, 6)
    np.testing.assert_array_equal(fragments.triangle[:5, :5] >= 0, True)
    np.testing.assert_array_equal(fragments.triangle[5], -1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_wild_vertex_draws_nothing_wild(bad: float) -> None:
    vertices = turned_head(0, 0, 32)
    vertices[5] = bad
    fragments = rasteriser.rasterise(vertices, sh.head().triangles, 32, 32)
    assert fragments.triangle.max() < len(sh.head().triangles)


def test_texture_is_bilinear_and_mirrored_beyond_the_edge() -> None:
    image = sh.photograph(1, 20)
    quad = np.array([[0, 0, 0], [29, 0, 0], [29, 29, 0], [0, 29, 0]], np.float32)
    triangles = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    uv = quad[:, :2] * 1.3 - 9.4
    fragments = rasteriser.rasterise(quad, triangles, 30, 30)
    none = np.zeros(4, np.float32)
    got = rasteriser.textured(fragments, quad, triangles, image, uv, np.zeros((4, 3), np.float32), none)
    x = (np.arange(30) * 1.3 - 9.4).astype(np.float32)
    wide = cv2.copyMakeBorder(image, 20, 20, 20, 20, cv2.BORDER_REFLECT_101).astype(np.float64)
    for i, v in enumerate(x + 20):
        for j, u in enumerate(x + 20):
            a, b, p, q = int(u), int(v), u % 1, v % 1
            top = wide[b, a] * (1 - p) + wide[b, a + 1] * p
            bottom = wide[b + 1, a] * (1 - p) + wide[b + 1, a + 1] * p
            assert np.abs(got[i, j] - (top * (1 - q) + bottom * q)).max() <= 0.51


def test_weight_mixes_in_the_colours() -> None:
    quad = np.array([[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0]], np.float32)
    triangles = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    fragments = rasteriser.rasterise(quad, triangles, 5, 5)
    weight = np.array([0, 1, 1, 0], np.float32)
    black, light = np.zeros((5, 5, 3), np.uint8), np.full((4, 3), 200, np.float32)
    got = rasteriser.textured(fragments, quad, triangles, black, quad[:, :2], light, weight)
    np.testing.assert_array_equal(got[2, :, 0], [0, 50, 100, 150, 200])


def test_only_what_lies_before_others_is_drawn() -> None:
    square = np.array([[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0]], np.float32)
    triangles = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    behind = rasteriser.rasterise(square, triangles, 9, 5)
    for depth, shown in ((1, 25 + 20), (-1, 20)):
        wide = square * [2, 1, 1] + [0, 0, depth]
        over = rasteriser.rasterise(wide.astype(np.float32), triangles, 9, 5, before=behind)
        assert (over.triangle >= 0).sum() == shown


def test_paint_mixes_with_what_is_there() -> None:
    square = np.array([[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0]], np.float32)
    triangles = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    picture = np.full((5, 5, 3), 100, np.uint8)
    opacity, all_colours = np.array([0, 1, 1, 0], np.float32), np.ones(4, np.float32)
    rasteriser.paint(
        rasteriser.rasterise(square, triangles, 5, 5),
        square,
        triangles,
        image=np.zeros((5, 5, 3), np.uint8),
        uv=square[:, :2],
        colours=np.full((4, 3), 200, np.float32),
        weight=all_colours,
        opacity=opacity,
        picture=picture,
    )
    np.testing.assert_array_equal(picture[2, :, 0], [100, 125, 150, 175, 200])


def test_a_viewport_of_a_roi_is_the_crop() -> None:
    image = sh.photograph(2, 150)
    roi = np.array([20.4, 31.0, 100.2, 110.7])
    view = rasteriser.Viewport.of_roi(roi, 60)
    corners = np.array([[-5, -5, 0], [200, -5, 0], [200, 200, 0], [-5, 200, 0]], np.float32)
    placed = motion.apply(view.affine, corners).astype(np.float32)
    triangles = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    fragments = rasteriser.rasterise(placed, triangles, 60, 60)
    colours, weight = np.zeros((4, 3), np.float32), np.zeros(4, np.float32)
    got = rasteriser.textured(fragments, placed, triangles, image, corners[:, :2], colours, weight)
    assert np.abs(got.astype(int) - crop.crop(image, roi, 60)).max() <= 1


def test_normals_point_out() -> None:
    vertices = turned_head(0, 0, 200)
    out = rasteriser.normals(vertices, sh.head().triangles)
    centre = np.array([100, 100, 0])
    assert ((vertices - centre) * out).sum(axis=1).min() > 0
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)


def test_lambert_lights_the_side_the_light_comes_from() -> None:
    black = np.zeros((100, 100, 3), np.uint8)
    lit = rasteriser.lambert(black, turned_head(0, 0, 100), sh.head().triangles, (200, 200, 200), [-1.0, 0, 0.5], 1.0)
    assert lit[50, 30:45].mean() > lit[50, 55:70].mean() > 20
    assert not lit[:5].any()


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeError, match="vertices"):
        rasteriser.rasterise(np.zeros((3, 2), np.float32), np.zeros((1, 3), np.int32), 4, 4)
