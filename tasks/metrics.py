"""Errors of landmarks against labels, with the normalisers named (paper, section 3.1)."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F64, Floats, check_shape

#: The paper's bins of |yaw| in degrees: small, medium and large poses.
YAW_EDGES = (30.0, 60.0)


def nme(found: Floats, truth: Floats) -> F64:
    """Normalised mean error (N,) in % of √(w·h) of the box around the true points.

    found and truth (N, P, ≥2) in pixels; only x and y count.
    """
    check_shape("found", found, *truth.shape[:2], None)
    distance = np.linalg.norm(np.asarray(found, np.float64)[..., :2] - truth[..., :2], axis=2)
    extent = np.ptp(np.asarray(truth, np.float64)[..., :2], axis=1)
    return np.asarray(100 * distance.mean(axis=1) / np.sqrt(extent.prod(axis=1)))


def by_yaw(errors: Floats, yaw: Floats) -> F64:
    """Mean error of small, medium and large poses, (3,); NaN for a bin without faces. Their mean is the paper's."""
    bins = np.digitize(np.abs(yaw), YAW_EDGES)
    return np.array([np.mean(errors[bins == i]) if (bins == i).any() else np.nan for i in range(3)])


def labelled_face(boxes: Floats, centre: Floats) -> int | None:
    """Which of the boxes (N, 4) holds the point `centre` (2,), nearest centre first; None if none does."""
    b = np.asarray(boxes, np.float64)
    holds = ((b[:, :2] <= centre) & (centre <= b[:, 2:])).all(axis=1)
    if not holds.any():
        return None
    distance = np.linalg.norm((b[:, :2] + b[:, 2:]) / 2 - centre, axis=1)
    return int(np.argmin(np.where(holds, distance, np.inf)))
