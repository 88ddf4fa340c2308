"""Rois, crops, pose and reconstruction, each against a slow and obvious twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import small_model
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ddfa_batch.schemas.bundle import BundleManifest
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.tasks.geometry import boxes, crop, pose, quality, similarity
from ddfa_batch.tasks.geometry.reconstruct import (
    BLOCK,
    PointBasis,
    image_pose,
    points,
    turned_params,
    turned_pose,
    upright_params,
)

HEAD = small_model.head()
RNG = np.random.default_rng(5)


def params(n: int) -> np.ndarray:
    z = RNG.normal(size=(n, 62)).astype(np.float32)
    return small_model.mean_params() + z * small_model.std_params()


def rois(n: int) -> np.ndarray:
    corner = RNG.uniform(-50, 300, (n, 2))
    return np.concatenate([corner, corner + RNG.uniform(40, 500, (n, 1))], axis=1)


def slow_points(p: np.ndarray, roi: np.ndarray) -> np.ndarray:
    """Equations (1) and (5), then upstream's `similar_transform` without its shift of z, one vertex at a time."""
    T = p[:12].reshape(3, 4).astype(np.float64)
    out = []
    for v in range(0, HEAD.n_vertices, 50):
        s = HEAD.mean[v].astype(np.float64)
        for k in range(50):
            s = s + p[12 + k] * HEAD.basis[k, v]
        x, y, z = T[:, :3] @ s + T[:, 3]
        x, z, y = x - 1, z - 1, 120 - y
        scale_x, scale_y = (roi[2] - roi[0]) / 120, (roi[3] - roi[1]) / 120
        out.append([x * scale_x + roi[0], y * scale_y + roi[1], z * (scale_x + scale_y) / 2])
    return np.array(out)


def test_points_are_the_papers_equations() -> None:
    p, r = params(BLOCK + 3), rois(BLOCK + 3)
    dense = points(PointBasis.of(HEAD), p, r, 120)
    for i in range(len(p)):
        np.testing.assert_allclose(dense[i, ::50], slow_points(p[i], r[i]), rtol=1e-5, atol=2e-3)


def test_landmarks_are_vertices_of_the_mesh() -> None:
    p, r = params(3), rois(3)
    landmarks = points(PointBasis.of(HEAD, HEAD.landmarks), p, r, 120)
    np.testing.assert_allclose(landmarks, points(PointBasis.of(HEAD), p, r, 120)[:, HEAD.landmarks], atol=1e-3)


@pytest.mark.parametrize("which", ["dense", "landmarks"])
def test_a_mesh_has_the_same_bits_wherever_it_stands(which: str) -> None:
    """In a shard, in a picture of its own, or among rebuilt ones: none of 16 rows is rounded otherwise."""
    basis = PointBasis.of(HEAD, HEAD.landmarks if which == "landmarks" else None)
    p, r = params(16), rois(16)
    together = points(basis, p, r, 120)
    for i in range(16):
        assert np.array_equal(points(basis, p[i : i + 1], r[i : i + 1], 120)[0], together[i]), i


def test_a_mesh_has_the_same_bits_whatever_stands_beside_it() -> None:
    p, r = params(2 * BLOCK + 5), rois(2 * BLOCK + 5)
    basis = PointBasis.of(HEAD)
    together = points(basis, p, r, 120)
    for i in (0, BLOCK - 1, BLOCK, 2 * BLOCK + 4):
        assert np.array_equal(points(basis, p[i : i + 1], r[i : i + 1], 120)[0], together[i])


def test_no_faces_give_no_points() -> None:
    assert points(PointBasis.of(HEAD), params(0), rois(0), 120).shape == (0, HEAD.n_vertices, 3)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ShapeError, match=r"params must have shape \(any, 62\), but has \(3, 61\)"):
        points(PointBasis.of(HEAD), params(3)[:, :61], rois(3), 120)
    with pytest.raises(ShapeError, match="rois"):
        points(PointBasis.of(HEAD), params(3), rois(2), 120)


angle = st.floats(-80, 80)


@given(yaw=angle, pitch=angle, roll=st.floats(-179, 179), f=st.floats(0.01, 50))
@settings(max_examples=200, deadline=None)
def test_angles_and_scale_come_back_from_the_matrix_they_make(yaw: float, pitch: float, roll: float, f: float) -> None:
    R = pose.rotation_matrix(*(np.array([a]) for a in (yaw, pitch, roll)))
    T = np.concatenate([f * R, np.zeros((1, 3, 1))], axis=2)
    found, scale = pose.rotation_and_scale(T)
    np.testing.assert_allclose(found, R, atol=1e-9)
    np.testing.assert_allclose(scale, f, rtol=1e-9)
    np.testing.assert_allclose(pose.angles(found)[0], [yaw, pitch, roll], atol=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=12, max_size=12))
@settings(max_examples=200, deadline=None)
def test_the_rotation_is_proper_whatever_the_network_says(values: list[float]) -> None:
    R, _ = pose.rotation_and_scale(np.array(values).reshape(1, 3, 4))
    np.testing.assert_allclose(R[0] @ R[0].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(R[0]) == pytest.approx(1)
    assert np.isfinite(pose.angles(R)).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_angles_give_back_any_rotation_whatever_way_the_head_looks(seed: int) -> None:
    R = Rotation.random(1, rng=np.random.default_rng(seed)).as_matrix()
    found = pose.angles(R)
    np.testing.assert_allclose(pose.rotation_matrix(*found.T), R, atol=1e-6)
    viewer = np.abs(R[0, 2])
    if R[0, 2, 2] > 0:
        assert np.abs(found[0, :2]).max() <= 90
    elif viewer[1] <= max(viewer[0], viewer[2]):
        assert abs(found[0, 0]) >= 90 >= abs(found[0, 1])
    else:
        assert abs(found[0, 1]) >= 90 >= abs(found[0, 0])


@given(st.integers(0, 2**32 - 1), st.floats(-180, 180))
@settings(max_examples=100, deadline=None)
def test_yaw_and_pitch_do_not_tell_how_the_picture_is_turned(seed: int, turn: float) -> None:
    R = Rotation.random(1, rng=np.random.default_rng(seed)).as_matrix()
    turned = pose.rotation_matrix(np.zeros(1), np.zeros(1), np.array([turn])) @ R
    np.testing.assert_allclose(pose.angles(turned)[0, :2], pose.angles(R)[0, :2], atol=1e-6)


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (20, -10), (-35, 25), (10, 175), (5, -90)])
def test_angles_go_on_where_a_head_turns_beyond_profile(side: int, pitch: float, roll: float) -> None:
    yaw = side * np.array([80, 88, 89.5, 90.5, 93, 100, 120, 150.0])
    same = np.ones_like(yaw)
    found = pose.angles(pose.rotation_matrix(yaw, pitch * same, roll * same))
    np.testing.assert_allclose(found, np.stack([yaw, pitch * same, roll * same], axis=1), atol=1e-6)


@pytest.mark.parametrize("yaw", [0.0, 30.0, -40.0])
def test_angles_go_on_where_a_head_nods_beyond_the_vertical(yaw: float) -> None:
    pitch = np.array([-110, -95, -89, 89, 95, 110.0])
    found = pose.angles(pose.rotation_matrix(np.full(6, yaw), pitch, np.full(6, 12.0)))
    np.testing.assert_allclose(found, np.stack([np.full(6, yaw), pitch, np.full(6, 12.0)], axis=1), atol=1e-6)


def test_a_head_upside_down_is_rolled_and_not_turned_round() -> None:
    R = pose.rotation_matrix(np.array([10.0]), np.array([15.0]), np.array([178.0]))
    np.testing.assert_allclose(pose.angles(R), [[10, 15, 178]], atol=1e-6)


@pytest.mark.parametrize("yaw", [90.0, -90.0])
def test_in_profile_the_roll_is_zero_and_the_matrix_is_kept(yaw: float) -> None:
    R = pose.rotation_matrix(np.array([yaw]), np.array([20.0]), np.array([30.0]))
    found = pose.angles(R)
    assert found[0, 2] == 0
    np.testing.assert_allclose(pose.rotation_matrix(*found.T), R, atol=1e-6)


@pytest.mark.parametrize(
    ("turned", "moved"),
    [
        ({"yaw": 30.0}, "nose goes left"),
        ({"pitch": 30.0}, "nose goes down"),
        ({"roll": 30.0}, "the head's right goes up"),
    ],
)
def test_the_signs_of_the_angles_are_what_the_columns_say(turned: dict[str, float], moved: str) -> None:
    R = pose.rotation_matrix(*(np.array([turned.get(a, 0.0)]) for a in ("yaw", "pitch", "roll")))
    p = np.zeros((1, 62), np.float32)
    p[0, :12] = np.concatenate([0.4 * R[0], np.array([[60], [60], [0]])], axis=1).ravel()
    image = points(PointBasis.of(HEAD), p, np.array([[0.0, 0, 120, 120]]), 120)[0]
    nose = int(np.argmax(HEAD.mean[:, 2]))
    right = int(np.argmax(HEAD.mean[:, 0]))
    centre = np.array([59.0, 60.0])
    assert {
        "nose goes left": image[nose, 0] < centre[0] - 5,
        "nose goes down": image[nose, 1] > centre[1] + 5,
        "the head's right goes up": image[right, 1] < centre[1] - 5,
    }[moved]


def slow_roi(box: np.ndarray) -> list[float]:
    """Upstream's `parse_roi_box_from_bbox`, line by line."""
    left, top, right, bottom = box[:4]
    old_size = (right - left + bottom - top) / 2
    center_x = right - (right - left) / 2.0
    center_y = bottom - (bottom - top) / 2.0 + old_size * 0.14
    size = int(old_size * 1.58)
    x, y = center_x - size / 2, center_y - size / 2
    return [x, y, x + size, y + size]


def test_roi_of_a_box_is_upstreams() -> None:
    corner = RNG.uniform(-20, 500, (50, 2))
    given = np.concatenate([corner, corner + RNG.uniform(5, 400, (50, 2))], axis=1)
    np.testing.assert_allclose(crop.roi_from_boxes(given, 1.58, 0.14), [slow_roi(b) for b in given])


def test_roi_of_landmarks_has_the_diagonal_of_their_square_as_side() -> None:
    landmarks = np.array([[[10, 20, 5], [50, 100, 7], [30, 60, 9.0]]])
    roi = crop.roi_from_landmarks(landmarks)[0]
    np.testing.assert_allclose(roi[2:] - roi[:2], 80 * np.sqrt(2))
    np.testing.assert_allclose((roi[:2] + roi[2:]) / 2, [30, 60])


def slow_crop(image: np.ndarray, roi: np.ndarray, size: int) -> np.ndarray:
    """Pad by hand, pixel by pixel, then the same resize."""
    import cv2

    x0, y0, x1, y1 = (round(v) for v in roi.tolist())
    padded = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
    for y in range(y0, y1):
        for x in range(x0, x1):
            if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
                padded[y - y0, x - x0] = image[y, x]
    return np.asarray(cv2.resize(padded, (size, size)))


@pytest.mark.parametrize("roi", [(5, 5, 45, 45), (-10, -7, 30, 33), (40, 30, 90, 80), (-20, -20, 100, 100)])
def test_crop_is_black_outside_the_image(roi: tuple[float, ...]) -> None:
    image = RNG.integers(1, 255, (60, 70, 3)).astype(np.uint8)
    np.testing.assert_array_equal(crop.crop(image, np.array(roi) + 0.3, 24), slow_crop(image, np.array(roi) + 0.3, 24))


def test_a_roi_far_outside_is_black_and_a_huge_one_takes_no_memory() -> None:
    image = np.full((60, 70, 3), 200, np.uint8)
    assert not crop.crop(image, np.array([500.0, 500, 600, 600]), 120).any()
    huge = crop.crop(image, np.array([-5e5, -5e5, 5e5, 5e5]), 120)
    assert huge.shape == (120, 120, 3)


def test_outside_share() -> None:
    shares = crop.outside_share(np.array([[0.0, 0, 10, 10], [-5, 0, 5, 10], [-20, -20, -10, -10]]), 100, 100)
    np.testing.assert_allclose(shares, [0, 0.5, 1])


def test_image_pose_leaves_its_argument_alone() -> None:
    p = params(2)
    before = p.copy()
    image_pose(p[:, :12].reshape(-1, 3, 4), rois(2), 120)
    np.testing.assert_array_equal(p, before)


def test_overlap_of_boxes_row_by_row() -> None:
    a = np.array([[0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2], [1, 1, 1, 1]], float)
    b = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [1, 1, 1, 1]], float)
    np.testing.assert_allclose(boxes.overlap(a, b), [1, 1 / 3, 0, 0])
    marks = RNG.normal(size=(3, 68, 3))
    around = boxes.landmark_boxes(marks)
    np.testing.assert_array_equal(around[:, :2], marks[..., :2].min(axis=1))
    np.testing.assert_array_equal(around[:, 2:], marks[..., :2].max(axis=1))


# ------------------------------------------------------------------------------------------------ heads that lean


@given(lean=st.floats(-170, 170), yaw=st.floats(-90, 90), pitch=st.floats(-70, 70))
@settings(max_examples=100, deadline=None)
def test_a_head_leans_as_it_is_turned_in_the_picture_in_profile_too(lean: float, yaw: float, pitch: float) -> None:
    upright = pose.rotation_matrix(np.array([yaw]), np.array([0.0]), np.array([0.0]))
    R = pose.rotation_matrix(np.array([0.0]), np.array([0.0]), np.array([lean])) @ upright
    T = np.concatenate([0.4 * R, np.ones((1, 3, 1))], axis=2)
    assert np.degrees(pose.in_plane_angle(T)[0]) == pytest.approx(lean, abs=1e-6)
    nodding = pose.rotation_matrix(np.array([0.0]), np.array([pitch]), np.array([lean]))
    T = np.concatenate([nodding, np.ones((1, 3, 1))], axis=2)
    assert np.degrees(pose.in_plane_angle(T)[0]) == pytest.approx(lean)


def test_a_head_seen_from_below_leans_nowhere() -> None:
    R = pose.rotation_matrix(np.array([0.0]), np.array([-85.0]), np.array([40.0]))
    assert pose.in_plane_angle(np.concatenate([R, np.ones((1, 3, 1))], axis=2)).tolist() == [0.0]


@pytest.mark.parametrize("lean", [0.3, -1.2, 2.5, np.pi / 2])
def test_what_is_seen_in_a_turned_crop_lies_where_it_is_in_the_image(lean: float) -> None:
    """A bright spot of the image, found in the turned crop and carried back as a network's answer would be."""
    y, x = np.mgrid[:300, :400]
    spot = np.array([230.0, 140.0])
    image = np.repeat((255 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 200))[..., None], 3, 2).astype(
        np.uint8
    )
    roi = np.array([170.0, 60.0, 350.0, 240.0])
    seen = crop.rotated_crop(image, roi, lean, 120)[..., 0].astype(np.float64)
    rows, columns = np.mgrid[:120, :120]
    found = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
    # As an upright crop, whose pixel centres upstream takes half a pixel of the crop too far (see `image_pose`).
    label = found - (120 / 180 - 1) / 2
    T = np.zeros((1, 3, 4))
    T[0, :2, 3] = label[0] + 1, 120 - label[1]
    back = image_pose(turned_pose(T, np.array([lean]), 120), roi[None], 120)[0, :2, 3]
    np.testing.assert_allclose(back, spot, atol=0.15)


def test_points_turn_about_the_rois_middle() -> None:
    p, r = params(5), rois(5)
    leans = np.array([0.4, -0.7, 3.0, 0.0, np.pi / 2])
    turned = p.copy()
    turned[:, :12] = turned_pose(p[:, :12].reshape(-1, 3, 4), leans, 120).reshape(-1, 12)
    basis = PointBasis.of(HEAD, HEAD.landmarks)
    before, after = points(basis, p, r, 120), points(basis, turned, r, 120)
    middle = (r[:, None, :2] + r[:, None, 2:]) / 2
    # Clockwise in the image, whose y points down, is what `plane_rotations` does: back is its transpose.
    back = similarity.plane_rotations(leans)
    np.testing.assert_allclose(after[..., :2], (before[..., :2] - middle) @ back + middle, atol=0.01)
    np.testing.assert_allclose(after[..., 2], before[..., 2], atol=1e-3)


def test_an_upright_roi_is_that_of_the_picture_with_the_head_upright() -> None:
    landmarks = RNG.uniform(100, 200, (3, 68, 3))
    np.testing.assert_allclose(crop.upright_rois(landmarks, np.zeros(3)), crop.roi_from_landmarks(landmarks))
    height = 300  # turned clockwise, (x, y) comes to (height − y, x)
    upright = np.stack([height - landmarks[..., 1], landmarks[..., 0]], axis=-1)
    expected = crop.roi_from_landmarks(upright)
    found = crop.upright_rois(landmarks, np.full(3, np.pi / 2))
    x0, y0, x1, y1 = expected.T
    np.testing.assert_allclose(found, np.stack([y0, height - x1, y1, height - x0], axis=1))
    assert crop.upright_rois(landmarks[:0], np.zeros(0)).shape == (0, 4)


def test_a_quarter_turned_crop_is_the_crop_of_the_turned_image() -> None:
    image = RNG.integers(0, 256, (200, 300, 3)).astype(np.uint8)
    roi = np.array([40.0, -20.0, 160.0, 100.0])
    upright = np.array([200 - roi[3], roi[0], 200 - roi[1], roi[2]])  # clockwise
    expected = crop.crop(np.ascontiguousarray(np.rot90(image, -1)), upright, 120)
    # About pixel 150, 40, as upstream's frame has it, not about the pixels' common corner: one column on.
    found = crop.rotated_crop(image, roi, np.pi / 2, 120)
    np.testing.assert_allclose(found[:, 1:].astype(int), expected[:, :-1], atol=2)
    both = crop.crops(image, np.stack([roi, roi]), 120, np.array([0.0, np.pi / 2]))
    np.testing.assert_array_equal(both[0], crop.crop(image, roi, 120))
    np.testing.assert_array_equal(both[1], crop.rotated_crop(image, roi, np.pi / 2, 120))


# ------------------------------------------------------------------------------------------------ quality


def manifest() -> BundleManifest:
    mean, std = small_model.mean_params(), small_model.std_params()
    return BundleManifest(
        name="small",
        version="1",
        licence="MIT",
        provenance="",
        n_shape=40,
        n_expression=10,
        input_size=120,
        input_mean=127.5,
        input_std=128.0,
        param_mean=tuple(mean.tolist()),
        param_std=tuple(std.tolist()),
        topology="small_head",
        default_detector=None,
    )


def test_param_distance_is_that_of_the_upright_crop_however_the_head_is_rolled() -> None:
    p = params(6)
    upright = upright_params(p, HEAD.layout, 120)
    z = (upright - small_model.mean_params()) / small_model.std_params()
    expected = quality.param_distance(p, manifest())
    np.testing.assert_allclose(expected, np.sqrt((z**2).mean(axis=1)), rtol=1e-5)
    for angle in (0.1, 1.0, -2.5):
        rolled = turned_params(p, np.full(6, angle), HEAD.layout, 120)
        np.testing.assert_allclose(quality.param_distance(rolled, manifest()), expected, rtol=1e-3)
    assert quality.param_distance(p[:0], manifest()).shape == (0,)


def test_a_statistic_that_does_not_vary_counts_as_it_is() -> None:
    constant = replace(manifest(), param_std=(0.0,) * 62)
    upright = upright_params(params(2), HEAD.layout, 120)
    expected = np.sqrt(np.square(upright - small_model.mean_params()).mean(axis=1))
    np.testing.assert_allclose(quality.param_distance(upright, constant), expected, rtol=1e-4)


def test_the_size_of_a_face_is_that_of_its_box() -> None:
    marks = RNG.uniform(0, 100, (4, 68, 3)).astype(np.float32)
    sides = np.ptp(marks[..., :2], axis=1)
    np.testing.assert_allclose(quality.face_size(marks), np.sqrt(sides.prod(axis=1)), rtol=1e-6)
    np.testing.assert_array_equal(boxes.box_sizes(np.array([[0, 0, 4, 9], [5, 5, 3, 9]])), [6, 0])
