"""Face profiling: the still stays itself, labels land on the mesh, nothing is left empty."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic_head as sh
from hypothesis import given, settings
from hypothesis import strategies as st

from ddfa_batch.schemas.arrays import F64, U8
from ddfa_batch.schemas.errors import DdfaError
from ddfa_batch.tasks.geometry import crop, motion, pose
from ddfa_batch.tasks.geometry.motion import Motion
from ddfa_batch.tasks.rendering import face_profiling, rasteriser, stills
from ddfa_batch.tasks.rendering.rasteriser import Viewport
from ddfa_batch.tasks.rendering.surface import Surface

MODEL = sh.head()


def a_motion(yaw: float = 0, pitch: float = 0, roll: float = 0, scale: float = 1, x: float = 0, y: float = 0) -> Motion:
    return Motion(*(np.array([float(a)]) for a in (yaw, pitch, roll, scale)), np.array([[x, y]], np.float64))


def a_still(
    image: U8, yaw: float = 0, pitch: float = 0, roll: float = 0, x: float = 100, y: float = 100
) -> stills.Still:
    R = pose.rotation_matrix(*(np.array([float(a)]) for a in (yaw, pitch, roll)))[0]
    return stills.prepare(sh.surface(), image, sh.image_pose_of(R, x=x, y=y), MODEL.mean)


def one_frame(still: stills.Still, m: Motion, viewport: Viewport) -> U8:
    return face_profiling.frames(sh.surface(), still, m, [viewport])[0]


@pytest.mark.parametrize("yaw", [0, 30, -65])
def test_without_motion_the_still_is_itself(yaw: float) -> None:
    image = sh.photograph()
    got = one_frame(a_still(image, yaw, 5, -8), Motion.still(1), Viewport.of_image(image))
    assert np.abs(got.astype(int) - image).max() <= 1


def test_without_motion_a_crop_is_the_crop() -> None:
    image, roi = sh.photograph(), np.array([31.0, 22.0, 177.0, 168.0])
    got = one_frame(a_still(image, 20), Motion.still(1), Viewport.of_roi(roi, 120))
    assert np.abs(got.astype(int) - crop.crop(image, roi, 120)).max() <= 1


def seen_vertices(still: stills.Still, label: F64) -> list[int]:
    """Some vertices that still and frame both show without doubt."""
    fragments = rasteriser.rasterise(label.astype(np.float32), MODEL.triangles, sh.SIZE, sh.SIZE)
    x, y = np.clip(np.rint(label[:, :2]), 0, sh.SIZE - 1).astype(int).T
    facing = rasteriser.normals(label.astype(np.float32), MODEL.triangles)[:, 2]
    seen = (facing > 0.5) & (label[:, 2] > fragments.depth[y, x] - 1.5)
    seen[MODEL.triangles[np.isin(MODEL.triangles, np.flatnonzero(still.doubt > 0)).any(axis=1)]] = False
    found = np.flatnonzero(seen)
    return [int(v) for v in found[np.linspace(0, len(found) - 1, 8).astype(int)]]


@pytest.mark.parametrize(
    "m", [a_motion(25, -8, 5, 1.05, 4, -3), a_motion(-40, 12, -12, 0.9), a_motion(0, 15), a_motion(70)]
)
def test_labels_land_on_the_picture(m: Motion) -> None:
    """A texture that carries its own coordinates is found where the label's mesh says, to half a pixel."""
    plain = a_still(sh.photograph(), 10, 3, 4)
    label = motion.apply(face_profiling.poses(plain, m)[0], MODEL.mean)
    y, x = np.mgrid[: sh.SIZE, : sh.SIZE]
    for vertex in seen_vertices(plain, label):
        # blue and green rise by 8 levels a pixel, and are 128 just where the still shows this vertex
        u, v, _ = plain.mesh[vertex].astype(float)
        image = np.stack([128 + 8 * (x - u), 128 + 8 * (y - v), 0 * x + 128], axis=-1)
        still = a_still(np.clip(np.rint(image), 0, 255).astype(np.uint8), 10, 3, 4)
        frame = one_frame(still, m, Viewport.of_image(still.image)).astype(float)
        at = label[vertex, :2]
        near = np.hypot(x - at[0], y - at[1]) < 1.8
        design = np.column_stack([frame[near][:, :2] - 128, np.ones(near.sum())])
        where = np.linalg.lstsq(design, np.column_stack([x[near], y[near]]), rcond=None)[0][2]
        assert np.hypot(*(where - at)) < 0.5


@settings(deadline=None, max_examples=25)
@given(
    st.floats(-80, 80),
    st.floats(-30, 30),
    st.floats(-30, 30),
    st.floats(0.7, 1.4),
    st.floats(-30, 30),
    st.sampled_from([0, 40, -60]),
)
def test_no_pixel_stays_empty(
    yaw: float, pitch: float, roll: float, scale: float, shift: float, still_yaw: float
) -> None:
    white = np.full((sh.SIZE, sh.SIZE, 3), 255, np.uint8)
    still = a_still(white, still_yaw, 5, 0)
    m = a_motion(float(np.clip(still_yaw + yaw, -90, 90)) - still_yaw, pitch, roll, scale, shift, -shift)
    assert one_frame(still, m, Viewport.of_image(white)).min() >= 254
    assert one_frame(still, m, Viewport.of_roi(np.array([40, 40, 160, 160.0]), 50)).min() >= 254


@pytest.mark.parametrize(("x", "y"), [(5, 100), (195, 30), (100, 230), (-40, -40)])
def test_a_face_over_the_edge_leaves_no_hole(x: float, y: float) -> None:
    white = np.full((sh.SIZE, sh.SIZE, 3), 255, np.uint8)
    got = one_frame(a_still(white, 10, x=x, y=y), a_motion(40, 10, 10, 1.1, 5, 5), Viewport.of_image(white))
    assert got.min() >= 254


@pytest.mark.parametrize("m", [a_motion(35, 8, 6, 1.05, 6, 2), a_motion(-60, -10)])
def test_mirrored_motion_gives_mirrored_pictures(m: Motion) -> None:
    image = sh.photograph(5)
    flipped = np.ascontiguousarray(image[:, ::-1])
    here = one_frame(a_still(image, 15, 4, 7, x=92), m, Viewport.of_image(image))
    there = one_frame(a_still(flipped, -15, 4, -7, x=199 - 92), m.mirrored(), Viewport.of_image(image))
    difference = np.abs(here[:, ::-1].astype(int) - there).max(axis=2)
    assert (difference <= 2).mean() > 0.995
    assert np.median(difference) == 0


def test_the_border_stays_where_it_is_when_the_head_turns() -> None:
    image = sh.photograph(6)
    got = one_frame(a_still(image), a_motion(60, 15), Viewport.of_image(image)).astype(int)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        assert np.abs(got[edge] - image[edge]).mean() < 12


def test_a_similarity_moves_the_whole_picture() -> None:
    image = sh.photograph(7)
    got = one_frame(a_still(image), a_motion(x=3, y=-2), Viewport.of_image(image))
    assert np.abs(got[10:-10, 10:-10].astype(int) - image[12:-8, 7:-13]).max() <= 1


def test_what_was_hidden_takes_the_colour_of_the_other_side() -> None:
    """A head turned away by 50° whose seen side is red: turned back, its other side is red, not background."""
    image = np.full((sh.SIZE, sh.SIZE, 3), (200, 0, 0), np.uint8)
    still = a_still(image, 50)
    face = rasteriser.rasterise(still.mesh, MODEL.triangles, sh.SIZE, sh.SIZE).triangle >= 0
    image[face] = (0, 0, 200)
    still = a_still(image, 50)
    m = a_motion(-50)
    got = one_frame(still, m, Viewport.of_image(image))
    label = motion.apply(face_profiling.poses(still, m)[0], MODEL.mean).astype(np.float32)
    shown = rasteriser.rasterise(label, MODEL.triangles, sh.SIZE, sh.SIZE).triangle >= 0
    assert (got[shown][:, 2] > 150).mean() > 0.97


def test_mirror_maps_every_vertex_to_the_other_side() -> None:
    mirror = sh.surface().mirror
    np.testing.assert_allclose(MODEL.mean[mirror], MODEL.mean * [-1, 1, 1], atol=1)


def test_a_face_that_shows_nothing_is_still_a_picture() -> None:
    image = sh.photograph()
    behind = pose.rotation_matrix(np.array([180.0]), np.zeros(1), np.zeros(1))[0]
    still = stills.prepare(sh.surface(), image, sh.image_pose_of(behind), MODEL.mean)
    assert one_frame(still, Motion.still(1), Viewport.of_image(image)).shape == image.shape


def test_shape_is_the_mean_plus_the_basis() -> None:
    alpha = np.arange(6, dtype=np.float32)
    want: F64 = MODEL.mean + sum(a * b for a, b in zip(alpha, MODEL.basis, strict=True))
    np.testing.assert_allclose(stills.face_shape(MODEL, sh.params(alpha)), want, rtol=1e-5, atol=0.1)


def test_a_face_that_is_not_finite_is_refused() -> None:
    T = sh.image_pose_of(np.eye(3))
    T[0, 0] = np.nan
    with pytest.raises(DdfaError, match="not finite"):
        stills.prepare(sh.surface(), sh.photograph(), T, MODEL.mean)


def test_an_open_mouth_keeps_what_is_in_it() -> None:
    """A hole within the face is lined with the still's own pixels, not with what lies beyond the face."""
    centre = MODEL.mean[MODEL.triangles].mean(axis=1)
    mouth = (np.hypot(centre[:, 0] / 25_000, (centre[:, 1] + 45_000) / 12_000) < 1) & (centre[:, 2] > 0)
    opened = replace(MODEL, triangles=MODEL.triangles[~mouth])
    surface = Surface.of(opened)
    assert len(surface.lined) > 4
    image = np.full((sh.SIZE, sh.SIZE, 3), (200, 0, 0), np.uint8)
    T = sh.image_pose_of(np.eye(3))
    face = rasteriser.rasterise(motion.apply(T, MODEL.mean).astype(np.float32), MODEL.triangles, sh.SIZE, sh.SIZE)
    image[face.triangle >= 0] = (0, 0, 200)
    still = stills.prepare(surface, image, T, MODEL.mean)
    got = face_profiling.frames(surface, still, a_motion(20, 5), [Viewport.of_image(image)])[0]
    label = motion.apply(face_profiling.poses(still, a_motion(20, 5))[0], MODEL.mean).astype(np.float32)
    x, y = np.rint(label[np.unique(MODEL.triangles[mouth])][:, :2]).astype(int).T
    assert got[y, x, 2].min() > 150


def edge_step(still: stills.Still, m: Motion) -> float:
    """Greatest grey level by which neighbouring pixels differ near where the surface ends, of a frame of `still`."""
    frame = one_frame(still, m, Viewport.of_image(still.image)).astype(int)[..., 2]
    moved = motion.apply(face_profiling.poses(still, m)[0], MODEL.mean).astype(np.float32)
    normal = rasteriser.normals(moved, MODEL.triangles)[:, 2]
    rim = np.flatnonzero(sh.surface().rim[: len(MODEL.mean)] & (normal > 0.25))
    x, y = np.rint(moved[rim, :2]).astype(int).T
    steps = np.maximum(np.abs(np.diff(frame, axis=0))[:, :-1], np.abs(np.diff(frame, axis=1))[:-1])
    return float(max(steps[b - 2 : b + 3, a - 2 : a + 3].max() for a, b in zip(x, y, strict=True)))


def test_where_the_mesh_ends_the_picture_does_not_step() -> None:
    """Skin without a mark on a darker ground, turned by 40°: the edge that comes into view fades into the ground."""
    image = np.full((sh.SIZE, sh.SIZE, 3), (60, 60, 60), np.uint8)
    plain = a_still(image)
    image[rasteriser.rasterise(plain.mesh, MODEL.triangles, sh.SIZE, sh.SIZE).triangle >= 0] = 200
    with_skirt = a_still(image)
    assert edge_step(with_skirt, a_motion(40)) < 70
    bare = replace(sh.surface().skirt, opacity=np.zeros_like(sh.surface().skirt.opacity))
    without = face_profiling.frames(
        replace(sh.surface(), skirt=bare), with_skirt, a_motion(40), [Viewport.of_image(image)]
    )[0]
    assert np.abs(np.diff(without.astype(int)[..., 2], axis=1)).max() > 120


def test_a_skirt_goes_on_where_the_surface_ends() -> None:
    """Half an ellipsoid's edge is a circle around z: its skirt leads backwards and inwards, as the whole would."""
    skirt = sh.surface().skirt
    edge, out = MODEL.mean[skirt.edge], skirt.offset
    far = skirt.opacity == 0
    length = np.linalg.norm(out[far], axis=1)
    assert length.min() > 0.1 * 100_000 and np.ptp(length) < 1
    assert (out[far][:, 2] < 0).all()
    assert ((edge[far] * out[far])[:, :2].sum(axis=1) < 0).mean() > 0.9
    assert (skirt.opacity[: skirt.opacity.size // 4] == 1).all()


def test_a_closed_surface_has_no_skirt() -> None:
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
    closed = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32)
    basis, landmarks = np.zeros((6, 4, 3), np.float32), np.zeros(68, np.int32)
    model = replace(MODEL, mean=corners, basis=basis, triangles=closed, landmarks=landmarks)
    assert Surface.of(model).skirt.triangles.size == 0
