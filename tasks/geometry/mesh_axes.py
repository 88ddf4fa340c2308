"""The axes a mesh is written in: right-handed, y up and z to the viewer, or y down and z away from him."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F64, Floats, check_shape

#: How axes are told.
Y_UP, Y_DOWN = "x right, y up, z towards the viewer", "x right, y down, z away from the viewer"
#: Millimetres a unit of the models, by what they call it.
MILLIMETRES = {"mm": 1.0, "millimetre": 1.0, "cm": 10.0, "centimetre": 10.0, "m": 1000.0, "micrometre": 1e-3}


def from_model(unit: str, y_down: bool) -> F64:
    """The affine map (3, 4) from the model's axes and unit to a canonical frame in millimetres, if they are known."""
    flip = np.diag([1.0, -1.0, -1.0]) if y_down else np.eye(3)
    return np.concatenate([flip * MILLIMETRES.get(unit, 1.0), np.zeros((3, 1))], axis=1)


def from_image(height: int, y_down: bool) -> F64:
    """The affine map (3, 4) from image pixels (y down, z towards the viewer: left-handed) to right-handed axes.

    With y up the origin is the centre of the picture's lowest left pixel.
    """
    if y_down:
        return np.concatenate([np.diag([1.0, 1.0, -1.0]), np.zeros((3, 1))], axis=1)
    return np.concatenate([np.diag([1.0, -1.0, 1.0]), [[0.0], [height - 1.0], [0.0]]], axis=1)


def inverse(affine: Floats) -> F64:
    """The inverse (3, 4) of an affine map (3, 4)."""
    check_shape("affine", affine, 3, 4)
    turn = np.linalg.inv(np.asarray(affine[:, :3], np.float64))
    return np.concatenate([turn, -turn @ affine[:, 3:]], axis=1)


def after(second: Floats, first: Floats) -> F64:
    """The affine map (3, 4) that does `first`, then `second`."""
    check_shape("second", second, 3, 4)
    check_shape("first", first, 3, 4)
    return np.concatenate([second[:, :3] @ first[:, :3], second[:, :3] @ first[:, 3:] + second[:, 3:]], axis=1)


def quaternions(rotation: Floats) -> F64:
    """Unit quaternions (N, 4), x y z w, of rotations (N, 3, 3), each on the side of the one before it."""
    check_shape("rotation", rotation, None, 3, 3)
    R = np.asarray(rotation, np.float64)
    # the largest of four forms of the same answer is the one that does not divide by something small
    trace = np.trace(R, axis1=1, axis2=2)
    forms = np.stack([1 + 2 * R[:, i, i] - trace for i in range(3)] + [1 + trace], axis=1)
    best = forms.argmax(axis=1)
    skew = np.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], axis=1)
    full = np.zeros((len(R), 4, 4))
    full[:, :3, :3] = R + np.swapaxes(R, 1, 2)
    full[:, np.arange(3), np.arange(3)] = forms[:, :3]
    full[:, :3, 3] = full[:, 3, :3] = skew
    full[:, 3, 3] = forms[:, 3]
    q = full[np.arange(len(R)), best]
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    for i in range(1, len(q)):
        if q[i] @ q[i - 1] < 0:
            q[i] = -q[i]
    return q
