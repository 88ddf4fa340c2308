"""Boxes x0, y0, x1, y1 of an image: around landmarks, their size and overlap, suppression, and quarter turns."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, Floats

#: So many candidates are looked at before, and so many boxes kept after, non-maximum suppression (FaceBoxes.PyTorch).
_MOST_CANDIDATES, _MOST_KEPT = 5000, 750


def landmark_boxes(landmarks: Floats) -> F64:
    """Boxes (N, 4) around landmarks (N, L, ≥2), in pixels: what a detector trained on landmarks answers."""
    points = np.asarray(landmarks[..., :2], np.float64)
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def box_sizes(boxes: Floats) -> F64:
    """√(width · height) (N,) of boxes (N, 4): the size of a face by which errors are normalised; 0 of empty boxes."""
    sides = np.clip(np.asarray(boxes[:, 2:], np.float64) - boxes[:, :2], 0, None)
    return np.asarray(np.sqrt(sides[:, 0] * sides[:, 1]))


def labelled_boxes(points: Floats) -> F64:
    """Boxes (N, 4) around those of the points (N, L, ≥2) that are labelled, not NaN; NaN around none."""
    xy = np.asarray(points[..., :2], np.float64)
    xy = np.where(np.isnan(xy).any(axis=2, keepdims=True), np.nan, xy)
    return np.concatenate([np.fmin.reduce(xy, axis=1), np.fmax.reduce(xy, axis=1)], axis=1)


def labelled_sizes(points: Floats) -> F64:
    """√(w·h) (N,) in pixels of the box around the labelled ones of points (N, L, ≥2); NaN without any."""
    return box_sizes(labelled_boxes(points))


def overlap(a: Floats, b: Floats) -> F64:
    """Intersection over union (…,) of boxes a (…, 4) with boxes b (…, 4); 0 where both are empty.

    Leading axes broadcast: `overlap(a, b)` goes row by row, `overlap(a[:, None], b)` is every one of a with all of b.
    """
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    shared = sides[..., 0] * sides[..., 1]
    areas = [(box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (a, b)]
    return np.asarray(shared / np.maximum(areas[0] + areas[1] - shared, 1e-12), np.float64)


def non_maximum_suppression(boxes: F32, scores: F32, iou: float, plus_one: float = 0.0) -> I64:
    """Indices of the boxes (N, 4) that survive greedy suppression, best first.

    A box falls if its intersection over union with a better one that stands is at least `iou`. One
    vectorised pass per surviving box. `plus_one` = 1 counts pixels as upstream does (x1 − x0 + 1).
    """
    order = np.argsort(-scores, kind="stable")[:_MOST_CANDIDATES]
    x0, y0, x1, y1 = np.ascontiguousarray(boxes[order].T)
    area = (x1 - x0 + plus_one) * (y1 - y0 + plus_one)
    left = np.arange(len(order))
    kept: list[int] = []
    while left.size and len(kept) < _MOST_KEPT:
        best, rest = left[0], left[1:]
        kept.append(int(order[best]))
        if not rest.size:
            break
        width = np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest]) + plus_one
        height = np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest]) + plus_one
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        left = rest[shared < iou * np.maximum(area[best] + area[rest] - shared, 1e-9)]
    return np.array(kept, np.int64)


def rotate_boxes(boxes: Floats, degrees: int, height: int, width: int) -> F64:
    """Boxes (N, 4) in an image of height × width, of boxes in that image turned clockwise by 90, −90 or 180 degrees."""
    x0, y0, x1, y1 = boxes.astype(np.float64).T
    back = {
        90: [y0, height - x1, y1, height - x0],
        -90: [width - y1, x0, width - y0, x1],
        180: [width - x1, height - y1, width - x0, height - y0],
    }
    return np.stack(back[degrees], axis=1)
