"""Paths stay within their limits; T and F on parameters are T and F on vertices."""

import numpy as np
import pytest
import synthetic_head as sh
from hypothesis import given, settings
from hypothesis import strategies as st

from ddfa_batch.schemas.arrays import F64
from ddfa_batch.schemas.errors import DdfaError
from ddfa_batch.tasks.geometry import motion, pose
from ddfa_batch.tasks.geometry.motion import Motion, MotionLimits
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, crop_pose, image_pose, points

MODEL = sh.head()
LAYOUT = MODEL.layout
ROI = np.array([[20.0, 30.0, 170.0, 180.0]])

angle = st.floats(-60, 60)
turn, shift = st.floats(-25, 25), st.floats(-40, 40)
a_frame = st.tuples(turn, turn, st.floats(-90, 90), st.floats(0.5, 2), shift, shift)
motions = st.builds(
    lambda rows: Motion(*np.array([r[:4] for r in rows]).T, np.array([r[4:] for r in rows])),
    st.lists(a_frame, min_size=1, max_size=5),
)


def a_pose(yaw: float, pitch: float, roll: float) -> F64:
    R = pose.rotation_matrix(*(np.array([a]) for a in (yaw, pitch, roll)))[0]
    return sh.image_pose_of(R, x=90, y=110)


def centre_of(T: F64) -> F64:
    return np.asarray(T[:, :3] @ np.array([0.0, 5_000.0, 30_000.0]) + T[:, 3])


@settings(deadline=None)
@given(angle, angle, angle, motions)
def test_moving_parameters_moves_vertices(yaw: float, pitch: float, roll: float, m: Motion) -> None:
    T = a_pose(yaw, pitch, roll)
    affine = motion.compose(motion.in_plane(m, centre_of(T)), motion.out_of_plane(T, m, centre_of(T)))
    n = len(m)
    rois = np.repeat(ROI, n, axis=0)
    p0 = motion.with_pose(LAYOUT, sh.params(np.full(6, 0.7, np.float32)), crop_pose(T[None], ROI, 120))[0]
    moved = motion.with_pose(LAYOUT, p0, crop_pose(motion.compose(affine, T), rois, 120))
    basis = PointBasis.of(MODEL, MODEL.landmarks)
    still = points(basis, p0[None], ROI, 120)[0]
    np.testing.assert_allclose(points(basis, moved, rois, 120), motion.apply(affine, still), atol=2e-3)


@settings(deadline=None)
@given(angle, angle, angle, motions)
def test_totals_are_the_papers_recursion(yaw: float, pitch: float, roll: float, m: Motion) -> None:
    T = a_pose(yaw, pitch, roll)
    # the heads stay within the angles where yaw, pitch and roll are unique
    m = Motion(np.clip(m.yaw, -60 - yaw, 60 - yaw), np.clip(m.pitch, -60 - pitch, 60 - pitch), m.roll, m.scale, m.shift)
    steps = m.steps()
    now, c = T, centre_of(T)
    for j in range(len(m)):
        step = steps[j : j + 1]
        F_j = motion.out_of_plane(now, step, c)[0]
        T_j = motion.in_plane(step, c)[0]
        now = motion.compose(T_j, motion.compose(F_j, now))
        c = centre_of(now)
        total = motion.compose(motion.in_plane(m, centre_of(T))[j], motion.out_of_plane(T, m, centre_of(T))[j])
        np.testing.assert_allclose(now, motion.compose(total, T), atol=1e-6)


@settings(deadline=None)
@given(angle, angle, angle, motions)
def test_the_head_turns_by_what_was_asked(yaw: float, pitch: float, roll: float, m: Motion) -> None:
    T = a_pose(yaw, pitch, roll)
    c = centre_of(T)
    moved = motion.compose(motion.compose(motion.in_plane(m, c), motion.out_of_plane(T, m, c)), T)
    R, f = pose.rotation_and_scale(moved * np.array([1, -1, 1])[:, None])
    wanted = pose.rotation_matrix(yaw + m.yaw, pitch + m.pitch, roll + m.roll)
    np.testing.assert_allclose(R, wanted, atol=1e-6)
    np.testing.assert_allclose(f, sh.F * m.scale, rtol=1e-6)
    np.testing.assert_allclose([centre_of(t)[:2] - c[:2] for t in moved], m.shift, atol=1e-6)


@settings(deadline=None)
@given(angle, angle, angle, motions)
def test_mirrored_motion_mirrors_vertices(yaw: float, pitch: float, roll: float, m: Motion) -> None:
    def moved(T: F64, m: Motion, points: F64) -> F64:
        c = T[:, :3] @ np.array([0.0, 5_000.0, 30_000.0]) + T[:, 3]
        affine = motion.compose(motion.in_plane(m, c), motion.out_of_plane(T, m, c))
        return motion.apply(motion.compose(affine, T), points)

    vertices = MODEL.mean[MODEL.landmarks].astype(np.float64)
    there = moved(a_pose(yaw, pitch, roll), m, vertices)
    mirror = a_pose(-yaw, pitch, -roll)
    mirror[0, 3] = 200 - mirror[0, 3]
    here = moved(mirror, m.mirrored(), vertices * [-1, 1, 1])
    np.testing.assert_allclose(here, there * [-1, 1, 1] + [200, 0, 0], atol=1e-6)


def test_crop_pose_undoes_image_pose() -> None:
    T = np.random.default_rng(0).normal(size=(3, 3, 4))
    rois = np.array([[0, 0, 120, 120], [-30, 12, 200, 242], [5.5, 7.25, 95.5, 97.25]])
    np.testing.assert_allclose(crop_pose(image_pose(T, rois, 120), rois, 120), T, atol=1e-12)


def test_true_depth_leaves_the_picture_alone() -> None:
    T = np.random.default_rng(1).normal(size=(4, 3, 4))
    out = motion.true_depth(T)
    np.testing.assert_array_equal(out[:, :2], T[:, :2])
    np.testing.assert_array_equal(out[:, 2, 3], T[:, 2, 3])
    R, f = pose.rotation_and_scale(T)
    np.testing.assert_allclose(out[:, 2, :3], f[:, None] * R[:, 2])


def test_true_depth_keeps_a_proper_rotation() -> None:
    T = a_pose(40, -10, 20)[None] * np.array([1, -1, 1])[:, None]
    np.testing.assert_allclose(motion.true_depth(T), T, atol=1e-12)


@given(st.integers(0, 2**31), st.integers(1, 40), st.floats(-89, 89), st.floats(-60, 60))
@settings(deadline=None)
def test_paths_respect_limits(seed: int, n: int, yaw: float, pitch: float) -> None:
    limits = MotionLimits(yaw=(-50, 40), pitch=(-20, 30), shift=(0.0, 0.1))
    m = motion.random_motion(np.random.default_rng(seed), limits, n, np.array([yaw, pitch, 3.0]), 100.0)
    assert len(m) == n
    slack = 1e-9
    for name in ("yaw", "pitch", "roll"):
        path, (low, high), speed = getattr(m, name), getattr(limits, name), getattr(limits, f"{name}_speed")
        assert path[0] == 0
        assert path.min() >= low - slack and path.max() <= high + slack
        assert np.abs(np.diff(path)).max(initial=0) <= speed + slack
    assert (m.scale >= limits.scale[0] - slack).all() and (m.scale <= limits.scale[1] + slack).all()
    assert (m.shift >= -slack).all() and (m.shift <= 10 + slack).all()
    assert (np.abs(yaw + m.yaw) <= 90 + slack).all() and (np.abs(pitch + m.pitch) <= 90 + slack).all()
    assert (np.sign(yaw) * m.yaw >= -motion.most_turned_back(yaw) - slack).all()


def test_a_path_rises_to_its_target_and_rests_there() -> None:
    path = motion.smooth_curve(11, 20.0, np.zeros(2), -30, 30, 90)
    assert path[0] == 0 and path[-1] == 20
    assert (np.diff(path) > 0).all()
    steps = np.diff(path)
    assert steps[0] < steps[5] > steps[-1]


def test_the_same_seed_draws_the_same_motion() -> None:
    def draw() -> Motion:
        return motion.random_motion(np.random.default_rng(5), MotionLimits(), 9, np.zeros(3), 120.0)

    for a, b in zip(vars(draw()).values(), vars(draw()).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_range_leaves_the_other_curves_alone() -> None:
    def draw(limits: MotionLimits) -> Motion:
        return motion.random_motion(np.random.default_rng(5), limits, 9, np.zeros(3), 120.0)

    a, b = draw(MotionLimits()), draw(MotionLimits(yaw=(0, 0)))
    assert not b.yaw.any()
    np.testing.assert_array_equal(a.pitch, b.pitch)
    np.testing.assert_array_equal(a.shift, b.shift)


def test_the_further_a_head_looks_away_the_less_it_turns_back() -> None:
    degrees = [motion.most_turned_back(yaw) for yaw in range(91)]
    assert degrees == sorted(degrees, reverse=True)
    assert degrees[0] == 90 and degrees[30] == 30 and degrees[45] == 14 and degrees[90] == 10
    assert motion.most_turned_back(-45) == motion.most_turned_back(45)


@pytest.mark.parametrize(
    ("yaw", "allowed", "range_"),
    [
        (0.0, (-30, 30), (-30, 30)),
        (30.0, (-30, 30), (-30, 30)),
        (-45.0, (-30, 30), (-30, 14)),
        (45.0, (-30, 30), (-14, 30)),
        (45.0, (-30, -20), (-14, -14)),
        (80.0, (-30, 30), (-98 / 9, 10)),
        (-60.0, (0, 20), (0, 38 / 3)),
        (60.0, (0, 20), (0, 20)),
    ],
)
def test_a_still_that_looks_away_turns_back_only_so_far_and_its_clip_says_so(
    yaw: float, allowed: tuple[float, float], range_: tuple[float, float]
) -> None:
    assert motion.reachable_yaw(*allowed, yaw) == pytest.approx(range_)
    said = motion.note(MotionLimits(yaw=allowed), np.array([yaw, 0, 0]))
    if motion.reachable(*allowed, yaw) == pytest.approx(range_):
        assert said is None
    else:
        assert said is not None and f"{yaw:+.0f}°" in said and "at most" in said


@pytest.mark.parametrize(
    "bad",
    [
        {"yaw": (-91.0, 0.0)},
        {"pitch": (10.0, -10.0)},
        {"scale": (0.0, 1.0)},
        {"roll": (0.0, float("nan"))},
        {"yaw_speed": 0.0},
        {"shift_speed": float("inf")},
    ],
)
def test_impossible_limits_are_refused(bad: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(DdfaError, match=next(iter(bad))):
        MotionLimits(**bad)  # type: ignore[arg-type]


def test_a_clip_needs_a_frame() -> None:
    with pytest.raises(DdfaError, match="at least one frame"):
        motion.random_motion(np.random.default_rng(0), MotionLimits(), 0, np.zeros(3), 1.0)
