"""How the built-in nets' second labels are made: yaw that follows human points, and faces cut out of video frames."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from ddfa_batch.tasks.geometry import pose
from recipes.builtin import frames
from recipes.builtin.turned_depth import YawExcess, turned_depth


def test_turned_depth_is_that_of_the_head_with_less_yaw() -> None:
    rng = np.random.default_rng(0)
    heads = rng.normal(size=(3, 68, 3))
    yaw, roll, less = np.array([40.0, -55.0, 10.0]), np.array([0.0, 20.0, -30.0]), np.array([6.0, -4.0, 2.0])
    before, after = (pose.rotation_matrix(y, np.zeros(3), roll) for y in (yaw, yaw - less))
    assert pose.angles(before)[:, 0] == pytest.approx(yaw)
    middle = heads - heads.mean(axis=1, keepdims=True)
    points = (middle @ before.transpose(0, 2, 1)) * [1, -1, 1] + [50.0, 60.0, 7.0]
    turned = turned_depth(points, before, less)
    np.testing.assert_array_equal(turned[..., :2], points[..., :2])
    np.testing.assert_allclose(turned[..., 2], (middle @ after.transpose(0, 2, 1))[..., 2] + 7, atol=1e-9)


def test_an_excess_of_yaw_is_found_on_both_sides_and_fades_at_the_ends() -> None:
    rng = np.random.default_rng(1)
    human = rng.uniform(-90, 90, 20_000)
    yaw = human + 2.0 * np.sign(human) * (np.abs(human) > 30) + rng.normal(0, 0.5, len(human))
    excess = YawExcess.between(yaw, human)
    assert excess.medians == pytest.approx([0, 0, 2, 2, 2, 2], abs=0.15)
    assert excess.at(np.array([-67.5, 0.0, 67.5, 90.0, 120.0])) == pytest.approx([-2, 0, 2, 0, 0], abs=0.15)


def test_a_face_is_cut_out_as_large_as_asked_with_its_points_where_they_were() -> None:
    image = np.zeros((200, 240, 3), np.uint8)
    corners = np.array([[60, 50], [140, 50], [60, 130], [140, 130]])
    for x, y in corners:
        image[y - 2 : y + 3, x - 2 : x + 3] = 255
    crop, points = frames.cut(image, np.resize(corners, (68, 2)).astype(float), 0.5)
    assert crop.shape == (120, 120, 3)
    assert np.ptp(points, axis=0) == pytest.approx([60, 60])
    for x, y in points[:4]:
        near = crop[round(y) - 4 : round(y) + 5, round(x) - 4 : round(x) + 5, 0].astype(float)
        rows, columns = np.indices(near.shape)
        centre = np.array([(columns * near).sum(), (rows * near).sum()]) / near.sum() + [round(x) - 4, round(y) - 4]
        assert centre == pytest.approx([x, y], abs=0.3)
