"""Errors of landmarks, meshes and videos against labels, with the normalisers named (paper, section 3.1)."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F64, Floats, check_shape
from ddfa_batch.tasks.geometry.boxes import labelled_sizes

#: The paper's bins of |yaw| in degrees: small, medium and large poses.
YAW_EDGES = (30.0, 60.0)


def nme(found: Floats, truth: Floats, size: Floats | None = None) -> F64:
    """Normalised mean error (N,) in % of size (N,), by default √(w·h) of the box around the true points.

    found and truth (N, P, ≥2) in pixels; only x and y count. A true point that is NaN does not count; an answer that is
    NaN where a point is labelled is infinitely wrong. NaN for a face without labelled points, or without a size.
    """
    check_shape("found", found, *truth.shape[:2], None)
    distance = np.linalg.norm(np.asarray(found, np.float64)[..., :2] - truth[..., :2], axis=2)
    labelled = np.isfinite(truth[..., :2]).all(axis=2)
    distance = np.where(np.isfinite(distance), distance, np.inf)
    return _percent(np.where(labelled, distance, 0).sum(axis=1), labelled.sum(axis=1), truth, size)


def nme_3d(found: Floats, truth: Floats) -> F64:
    """As `nme`, in three dimensions (N, P, 3), all points labelled.

    The mean depths are made equal first: no picture shows where depth begins.
    """
    check_shape("found", found, *truth.shape[:2], 3)
    difference = np.asarray(found, np.float64) - truth
    difference[..., 2] -= difference[..., 2].mean(axis=1, keepdims=True)
    distance = np.linalg.norm(difference, axis=2)
    return _percent(distance.sum(axis=1), np.full(len(truth), truth.shape[1]), truth, None)


def _percent(total: Floats, counts: Floats, truth: Floats, size: Floats | None) -> F64:
    """100 · total / counts / size, (N,); NaN where nothing was counted, or the size is 0 or unknown."""
    size = np.asarray(labelled_sizes(truth) if size is None else size, np.float64)
    check_shape("size", size, len(truth))
    measurable = (counts > 0) & (size > 0)
    divisor = np.where(measurable, counts * size, np.nan)
    return np.asarray(100 * total / divisor)


def stability(found: Floats, truth: Floats) -> F64:
    """Error (n − 1,) in % of √(w·h) of the motion between adjacent frames of one video: ‖Δp − Δq‖, meaned over points.

    found and truth (n, P, ≥2) in pixels, frame after frame; Δp and Δq are what the points move by since the frame
    before, and the box is that of the true points (section 3.1). Points that are not labelled in both frames do not
    count; NaN for a pair without any.
    """
    check_shape("found", found, *truth.shape[:2], None)
    moved = np.diff(np.asarray(found, np.float64)[..., :2], axis=0)
    return nme(moved, np.diff(truth[..., :2], axis=0), labelled_sizes(truth)[1:])


def mean_by_yaw(errors: Floats, yaw: Floats) -> F64:
    """Mean error of small, medium and large poses, (3,); NaN for a bin without faces. Their mean is the paper's."""
    bins = np.digitize(np.abs(yaw), YAW_EDGES)
    return np.array([np.mean(errors[bins == i]) if (bins == i).any() else np.nan for i in range(3)])


def match_box(boxes: Floats, centre: Floats) -> int | None:
    """Which of the boxes (N, 4) holds the point `centre` (2,), nearest centre first; None if none does."""
    b = np.asarray(boxes, np.float64)
    holds = ((b[:, :2] <= centre) & (centre <= b[:, 2:])).all(axis=1)
    if not holds.any():
        return None
    distance = np.linalg.norm((b[:, :2] + b[:, 2:]) / 2 - centre, axis=1)
    return int(np.argmin(np.where(holds, distance, np.inf)))


def cumulative(errors: Floats, most: float, steps: int = 200) -> tuple[F64, F64]:
    """Cumulative error distribution: thresholds (steps,) from 0 to `most`, and the share of `errors` (N,) up to each.

    An error of infinity stands for a face that was missed.
    """
    thresholds = np.linspace(0, most, steps)
    ordered = np.sort(np.asarray(errors, np.float64))
    return thresholds, np.searchsorted(ordered, thresholds, side="right") / max(len(ordered), 1)
