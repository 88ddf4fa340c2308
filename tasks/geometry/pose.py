"""What T = f·[R | t] says of the head: a proper rotation, named angles, scale and translation."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F64, Bools, Floats, check_shape


def rotation_and_scale(pose: Floats) -> tuple[F64, F64]:
    """R (N, 3, 3), proper, and f (N,) of T (N, 3, 4) under scaled orthographic projection (eq. 2).

    Only the two rows that reach the image count: R's first two rows are the orthonormal pair nearest to
    them (polar decomposition), the third is their cross product; f is the mean of the singular values.
    A degenerate T (zero, or parallel rows) gives some proper rotation and the f it has.
    """
    top, s = _orthonormal_rows(pose)
    a, b = top[:, 0], top[:, 1]
    # np.cross, which spends most of its time on what a vector might be
    third = np.stack([a[:, i] * b[:, j] - a[:, j] * b[:, i] for i, j in ((1, 2), (2, 0), (0, 1))], axis=1)
    return np.concatenate([top, third[:, None]], axis=1), s.mean(axis=1)


def _orthonormal_rows(pose: Floats) -> tuple[F64, F64]:
    """R's first two rows (N, 2, 3) and the singular values (N, 2) of T (N, 3, 4), as `rotation_and_scale` has them."""
    check_shape("pose", pose, None, 3, 4)
    u, s, vt = np.linalg.svd(np.asarray(pose[:, :2, :3], np.float64), full_matrices=False)
    return u @ vt, s


def rotations(vectors: Floats) -> F64:
    """Proper rotations (N, 3, 3) about the directions of vectors (N, 3) by their lengths, radians (Rodrigues)."""
    check_shape("vectors", vectors, None, 3)
    v = np.asarray(vectors, np.float64)
    x, y, z = v.T
    none = np.zeros_like(x)
    K = np.stack([none, -z, y, z, none, -x, -y, x, none], axis=1).reshape(-1, 3, 3)
    angle = np.linalg.norm(v, axis=1)[:, None, None]
    # sin(a)/a and (1 − cos(a))/a², which are 1 and 1/2 at 0
    return np.asarray(np.eye(3) + np.sinc(angle / np.pi) * K + np.sinc(angle / (2 * np.pi)) ** 2 / 2 * (K @ K))


def upright(pose: Floats) -> F64:
    """T (N, 3, 4) in image pixels, whose y points down, with y up as `rotation_and_scale` and `angles` want it."""
    return np.asarray(pose, np.float64) * np.array([1.0, -1.0, 1.0])[:, None]


def angles(rotation: Floats) -> F64:
    """Yaw, pitch, roll (N, 3) in degrees of R (N, 3, 3) = R_z(roll) · R_y(−yaw) · R_x(pitch).

    Yaw is positive when the nose points to the image's left, as in 300W-LP and AFLW2000-3D and in
    upstream's `matrix2angle`; pitch when the nose points down; roll when the head is tilted
    counter-clockwise as seen in the image. At ±90° yaw, where only pitch ∓ roll is defined, roll is 0.

    Two triples give the same R: (yaw, pitch, roll) and (180° − yaw, pitch ± 180°, roll ± 180°). It is the one with
    yaw and pitch within ±90° as long as the face looks towards the viewer. Where it looks away, one of the two has to
    pass 90°: pitch if the viewer mostly sees crown or chin, yaw otherwise, so that a head that turns or nods beyond
    90° has angles that go on, and those of profiles keep their pitch within ±90°. How the picture is turned in its
    plane has no say in it.
    """
    check_shape("rotation", rotation, None, 3, 3)
    R = np.asarray(rotation, np.float64)
    yaw = np.arcsin(np.clip(R[:, 2, 0], -1, 1))
    pitch = np.arctan2(R[:, 2, 1], R[:, 2, 2])
    roll = np.arctan2(R[:, 1, 0], R[:, 0, 0])
    beyond = _yaw_beyond_90(R)
    yaw = np.where(beyond, np.copysign(np.pi, yaw) - yaw, yaw)
    pitch = np.where(beyond, _opposite(pitch), pitch)
    roll = np.where(beyond, _opposite(roll), roll)
    locked = np.hypot(R[:, 0, 0], R[:, 1, 0]) < 1e-6
    pitch = np.where(locked, np.arctan2(-R[:, 1, 2], R[:, 1, 1]), pitch)
    roll = np.where(locked, 0.0, roll)
    return np.degrees(np.stack([yaw, pitch, roll], axis=1))


def _yaw_beyond_90(R: F64) -> Bools:
    """Whether the face looks away from the viewer, who does not mostly see crown or chin."""
    right, up, forward = R[:, 2].T  # where the viewer is, in the head's frame
    return np.asarray((forward < 0) & (np.abs(up) <= np.maximum(np.abs(right), np.abs(forward))))


def _opposite(angle: F64) -> F64:
    """Angles 180° away, in radians, within ±180°."""
    return angle - np.copysign(np.pi, angle)


#: A head's axis shorter than this in the picture, as a share of its length, does not tell where the head leans.
_FORESHORTENED = 0.3


def in_plane_angle(pose: Floats) -> F64:
    """Radians (N,) by which the head's upward axis leans counter-clockwise as seen, of T (N, 3, 4), y up.

    Unlike roll, it is known in profile too. 0 where that axis points so much towards the camera or away from it that it
    says nothing.
    """
    right, up = _orthonormal_rows(pose)[0][:, :, 1].T
    return np.asarray(np.where(np.hypot(right, up) < _FORESHORTENED, 0.0, np.arctan2(-right, up)), np.float64)


def yaw_of(poses: Floats) -> F64:
    """Yaw (N,) in degrees of poses T (N, 3, 4) in image pixels, y down."""
    return angles(rotation_and_scale(upright(poses))[0])[:, 0]


def rotation_matrix(yaw: Floats, pitch: Floats, roll: Floats) -> F64:
    """R (N, 3, 3) of angles (N,) in degrees: the inverse of `angles`."""
    y, x, z = (np.radians(np.asarray(a, np.float64)) for a in (yaw, pitch, roll))
    one, nil = np.ones_like(x), np.zeros_like(x)

    def stack(rows: list[list[F64]]) -> F64:
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    about_x = stack([[one, nil, nil], [nil, np.cos(x), -np.sin(x)], [nil, np.sin(x), np.cos(x)]])
    about_y = stack([[np.cos(y), nil, -np.sin(y)], [nil, one, nil], [np.sin(y), nil, np.cos(y)]])
    about_z = stack([[np.cos(z), -np.sin(z), nil], [np.sin(z), np.cos(z), nil], [nil, nil, one]])
    return np.asarray(about_z @ about_y @ about_x)
