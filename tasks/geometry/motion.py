"""Paths of a head through a clip, and what they do to parameters: T and F of the paper's section 2.4.

A `Motion` holds totals since the still, frame by frame, so that every frame is made from the still at once.
This equals the paper's recursion x_j = (T ∘ F)(x_{j−1}): F adds to the head's own yaw and pitch and T acts in the
picture, both about the face's centre, so that the product of all steps up to j is one T and one F of the totals
(tests/geometry/test_motion.py).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, Floats, check_shape
from ddfa_batch.schemas.errors import DdfaError
from ddfa_batch.schemas.parameters import N_POSE, ParameterLayout
from ddfa_batch.tasks.geometry.pose import angles, rotation_and_scale, rotation_matrix

#: Degrees of yaw, either way, at which a head shows its profile; no frame turns further, nor pitches further.
LIMIT = 90.0
#: How many degrees a head may be turned back towards the front, over the still's own |yaw|: as many as leave 10 % of
#: what lies between brows and mouth without a photograph, the median of real ones (benchmarks/turning_back.py).
#: Beyond, noses and eyes are made up of their mirrored selves and of what lies beside them, and look it.
TURNING_BACK = ((15.0, 20.0, 30.0, 45.0, 90.0), (90.0, 60.0, 30.0, 14.0, 10.0))
#: Height of each of the slow waves added to the path, as a share of the range, at most.
_SWAY = (0.06, 0.03)
#: Random numbers a clip draws: one target and `len(_SWAY)` waves for each of six curves. Always as many,
#: so that changing one range leaves the other curves as they were.
_DRAWS = (6, 1 + len(_SWAY))
#: Ranges beyond which nothing can be drawn.
_DRAWABLE = {
    "yaw": (-LIMIT, LIMIT),
    "pitch": (-LIMIT, LIMIT),
    "roll": (-LIMIT, LIMIT),
    "scale": (0.25, 4.0),
    "shift": (-1.0, 1.0),
}
#: Conjugation by this takes y up to y down and back.
_FLIP = np.array([1.0, -1.0, 1.0])


@dataclass(frozen=True)
class MotionLimits:
    """How far and how fast a head may move in a clip.

    Ranges (low, high) are of the total since the still, speeds the most a frame may add. Raises `DdfaError` for a range
    that is reversed, not finite or beyond what can be drawn.
    """

    #: Degrees.
    yaw: tuple[float, float] = (-30.0, 30.0)
    #: Degrees.
    pitch: tuple[float, float] = (-15.0, 15.0)
    #: Degrees.
    roll: tuple[float, float] = (-10.0, 10.0)
    #: A factor.
    scale: tuple[float, float] = (0.92, 1.08)
    #: Shares of the roi's side, both axes.
    shift: tuple[float, float] = (-0.05, 0.05)
    #: Degrees a frame.
    yaw_speed: float = 6.0
    #: Degrees a frame.
    pitch_speed: float = 4.0
    #: Degrees a frame.
    roll_speed: float = 3.0
    #: Share of scale a frame.
    scale_speed: float = 0.03
    #: Share of the roi's side a frame.
    shift_speed: float = 0.02

    def __post_init__(self) -> None:
        for name, (least, most) in _DRAWABLE.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise DdfaError(
                    f"The range of {name} must rise and lie within {least:g}..{most:g}, but is {low:g}..{high:g}."
                )
        for field in fields(self):
            if field.name.endswith("_speed") and not 0 < getattr(self, field.name) < np.inf:
                raise DdfaError(f"{field.name} must be more than 0, but is {getattr(self, field.name):g}.")


@dataclass(frozen=True)
class Motion:
    """Totals since the still, one row a frame."""

    #: (n,) degrees.
    yaw: F64
    #: (n,) degrees.
    pitch: F64
    #: (n,) degrees.
    roll: F64
    #: (n,) a factor.
    scale: F64
    #: (n, 2) pixels of the still, x to the right and y down.
    shift: F64

    def __post_init__(self) -> None:
        n = self.yaw.shape[0]
        for name in ("yaw", "pitch", "roll", "scale"):
            check_shape(name, getattr(self, name), n)
        check_shape("shift", self.shift, n, 2)

    def __len__(self) -> int:
        return int(self.yaw.shape[0])

    def __getitem__(self, rows: slice) -> Motion:
        """Some of the frames."""
        return Motion(self.yaw[rows], self.pitch[rows], self.roll[rows], self.scale[rows], self.shift[rows])

    @staticmethod
    def still(n: int) -> Motion:
        """No motion at all, for n frames."""
        return Motion(np.zeros(n), np.zeros(n), np.zeros(n), np.ones(n), np.zeros((n, 2)))

    def mirrored(self) -> Motion:
        """The motion seen in a mirror that swaps left and right."""
        return Motion(-self.yaw, self.pitch, -self.roll, self.scale, self.shift * [-1.0, 1.0])

    def steps(self) -> Motion:
        """What is added from frame to frame (the Δs of eq. 8); the first row is the first frame's total."""

        def added(total: F64) -> F64:
            return np.diff(total, axis=0, prepend=np.zeros_like(total[:1]))

        ratio = self.scale / np.concatenate([np.ones_like(self.scale[:1]), self.scale[:-1]])
        return Motion(added(self.yaw), added(self.pitch), added(self.roll), ratio, added(self.shift))


# ------------------------------------------------------------------------------------------------ the paths


def smooth_curve(n: int, target: float, sway: Floats, low: float, high: float, speed: float) -> F64:
    """A path (n,) from 0, at rest, to `target`, at rest, with slow waves `sway` on top.

    Where it would leave low..high (which are widened to hold 0) or exceed `speed` per frame the whole path is
    shrunk, so it stays smooth and then ends short of the target.
    """
    u = np.arange(n) / max(n - 1, 1)
    path = target * u**2 * (3 - 2 * u)
    for k, height in enumerate(sway, start=1):
        path = path + height * (1 - np.cos(2 * np.pi * k * u)) / 2
    low, high = min(low, 0.0), max(high, 0.0)
    fastest = float(np.abs(np.diff(path)).max(initial=0.0))
    shrink = [1.0]
    for reached, allowed in ((path.max(), high), (-path.min(), -low), (fastest, speed)):
        if reached > allowed:
            shrink.append(allowed / reached)
    return np.asarray(path * min(shrink))


def reachable(low: float, high: float, now: float) -> tuple[float, float]:
    """The part of the range low..high of added degrees that an angle of `now` degrees may take within ±90°."""
    least, most = -LIMIT - now, LIMIT - now
    return float(np.clip(low, least, max(most, 0.0))), float(np.clip(high, min(least, 0.0), most))


def most_turned_back(yaw: float) -> float:
    """Degrees by which a head of so much yaw may be turned back towards the front (`TURNING_BACK`)."""
    return float(np.interp(abs(yaw), *TURNING_BACK))


def reachable_yaw(low: float, high: float, now: float) -> tuple[float, float]:
    """As `reachable`; and not further back towards the front than `most_turned_back`."""
    low, high = reachable(low, high, now)
    most = most_turned_back(now)
    if now > 0:
        return max(low, -most), max(high, -most)
    return min(low, most), min(high, most)


def note(limits: MotionLimits, still_angles: Floats) -> str | None:
    """What a clip of a still with yaw, pitch, roll (3,) in degrees should say of its motion, if anything."""
    yaw = float(still_angles[0])
    if reachable_yaw(*limits.yaw, yaw) == reachable(*limits.yaw, yaw):
        return None
    return f"still at {yaw:+.0f}° of yaw: turned back towards the front by at most {most_turned_back(yaw):.0f}°"


def random_motion(rng: np.random.Generator, limits: MotionLimits, n: int, still_angles: Floats, side: float) -> Motion:
    """A smooth random motion of n frames, the first of them at rest on the still.

    still_angles (3,): yaw, pitch, roll of the still in degrees; side: of its roi, in pixels. The angles never leave
    ±90° and a head that looks away is not turned back further than `most_turned_back`. Raises `DdfaError` for fewer
    than one frame.
    """
    if n < 1:
        raise DdfaError(f"A clip needs at least one frame, but {n} were asked for.")
    yaw, pitch = float(still_angles[0]), float(still_angles[1])
    log_scale = (float(np.log(limits.scale[0])), float(np.log(limits.scale[1])))
    ranges_and_speeds = [
        (reachable_yaw(*limits.yaw, yaw), limits.yaw_speed),
        (reachable(*limits.pitch, pitch), limits.pitch_speed),
        (limits.roll, limits.roll_speed),
        (log_scale, limits.scale_speed),
        (limits.shift, limits.shift_speed),
        (limits.shift, limits.shift_speed),
    ]
    curves = []
    for draw, ((low, high), speed) in zip(rng.random(_DRAWS), ranges_and_speeds, strict=True):
        sway = (2 * draw[1:] - 1) * np.array(_SWAY) * (high - low)
        curves.append(smooth_curve(n, low + draw[0] * (high - low), sway, low, high, speed))
    yaws, pitches, rolls, scales, *shifts = curves
    return Motion(yaws, pitches, rolls, np.exp(scales), np.stack(shifts, axis=1) * side)


# ---------------------------------------------------------------------------------------------- the algebra


def true_depth(pose: Floats) -> F64:
    """T (N, 3, 4) with its third row, which no picture shows, made perpendicular to the first two.

    A regressor answers the nine numbers of f·R one by one, so that turning the head by its third row would
    shear it. The row becomes f times the cross product of the orthonormal pair nearest to the first two
    (`rotation_and_scale`); the first two rows and the translation stay bit for bit.
    """
    T = np.array(pose, np.float64)
    R, f = rotation_and_scale(T)
    T[:, 2, :3] = f[:, None] * R[:, 2]
    return T


def out_of_plane(pose: Floats, motion: Motion, centre: Floats) -> F64:
    """F: the turns (n, 3, 4), acting on image pixels (y down, z to the viewer), that add yaw φ and pitch γ.

    pose (3, 4) in image pixels; centre (3,) stays where it is. The turn is about the head's own axes: the new
    rotation is R_z(roll) · R_y(−yaw − φ) · R_x(pitch + γ).
    """
    check_shape("pose", pose, 3, 4)
    R, _ = rotation_and_scale((np.asarray(pose, np.float64) * _FLIP[:, None])[None])
    yaw, pitch, roll = angles(R)[0]
    turned = rotation_matrix(yaw + motion.yaw, pitch + motion.pitch, np.full(len(motion), roll))
    Q = _FLIP[:, None] * (turned @ R[0].T) * _FLIP
    return _about(Q, np.asarray(centre, np.float64), np.zeros((len(motion), 3)))


def in_plane(motion: Motion, centre: Floats) -> F64:
    """T of eq. (8), Δs·[R(Δθ) | Δt], as (n, 3, 4) on image pixels, about `centre` (3,); depth is scaled alike.

    Roll is positive counter-clockwise as seen in the picture, which is −Δθ where y points down; the shift of
    `motion` is what `centre` moves by.
    """
    nil, n = np.zeros(len(motion)), len(motion)
    roll = rotation_matrix(nil, nil, motion.roll)
    Q = motion.scale[:, None, None] * (_FLIP[:, None] * roll * _FLIP)
    return _about(Q, np.asarray(centre, np.float64), np.concatenate([motion.shift, np.zeros((n, 1))], axis=1))


def _about(Q: F64, centre: F64, shift: F64) -> F64:
    return np.concatenate([Q, (centre + shift - Q @ centre)[:, :, None]], axis=2)


def compose(outer: Floats, inner: Floats) -> F64:
    """The affine maps (…, 3, 4) that apply `inner` first, then `outer`. Of a T = f·[R | t] as `inner`: T moved."""
    linear = outer[..., :3] @ inner[..., :3]
    shift = outer[..., :3] @ inner[..., 3:] + outer[..., 3:]
    return np.concatenate([linear, shift], axis=-1)


def inverse(affine: Floats) -> F64:
    """The affine maps (…, 3, 4) that undo others."""
    linear = np.linalg.inv(affine[..., :3])
    return np.concatenate([linear, -linear @ affine[..., 3:]], axis=-1)


def apply(affine: Floats, points: Floats) -> F64:
    """Points (…, n, 3) moved by affine maps (…, 3, 4)."""
    return np.asarray(points @ np.swapaxes(affine[..., :3], -1, -2) + affine[..., None, :, 3], np.float64)


def with_pose(layout: ParameterLayout, params: Floats, pose: Floats) -> F32:
    """Parameters (n, P) of one face, its shape and expression from params (P,), its pose T from (n, 3, 4)."""
    check_shape("params", params, layout.size)
    check_shape("pose", pose, None, 3, 4)
    out = np.repeat(np.asarray(params, np.float32)[None], pose.shape[0], axis=0)
    out[:, :N_POSE] = pose.reshape(-1, N_POSE)
    return out
