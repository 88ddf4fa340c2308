"""Which face is which: assignment of faces of one frame to those known of another, by where they are."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F64, I64, Floats, check_shape
from ddfa_batch.tasks.geometry.boxes import landmark_boxes
from ddfa_batch.tasks.inference.assignment import least_total

#: Two faces of one frame whose landmarks are nearer than this on average, as a share of their size, are one.
_SAME_DISTANCE = 0.25
#: A pairing that is not allowed; any allowed cost is below 1.
_FORBIDDEN = 1e3


def landmark_distance(a: Floats, b: Floats) -> F64:
    """Mean distance (N, M) of landmarks a (N, L, ≥2) and b (M, L, ≥2), in units of the faces' sizes.

    A face's size is the mean side of its landmarks' box; of two faces it is the smaller one's.
    """
    a, b = np.asarray(a[..., :2], np.float64), np.asarray(b[..., :2], np.float64)
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1).mean(axis=-1)
    return distance / np.maximum(np.minimum(face_sides(a)[:, None], face_sides(b)[None]), 1e-6)


def face_sides(landmarks: Floats) -> F64:
    """Mean of width and height (N,) of the boxes around landmarks (N, L, ≥2), pixels."""
    boxes = landmark_boxes(landmarks)
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).mean(axis=1))


def assign(cost: Floats, most: float) -> tuple[I64, I64]:
    """Rows and columns of the pairs of least total cost (N, M), no pair above `most` (Hungarian algorithm)."""
    check_shape("cost", cost, None, None)
    if not cost.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    allowed = cost <= most
    rows, columns = least_total(np.where(allowed, cost, _FORBIDDEN))
    kept = allowed[rows, columns]
    return rows[kept], columns[kept]


def match_faces(known: Floats, found: Floats, most: float) -> tuple[I64, I64]:
    """Rows of `known` (N, L, ≥2) and `found` (M, L, ≥2) landmarks that are the same faces, `most` apart."""
    return assign(landmark_distance(known, found), most)


def duplicates(landmarks: Floats, worth: Floats) -> I64:
    """Rows of faces (N, L, ≥2) of one frame that are another, worthier row's face."""
    near = landmark_distance(landmarks, landmarks) < _SAME_DISTANCE
    dropped: list[int] = []
    order = np.argsort(-np.asarray(worth), kind="stable")
    for place, row in enumerate(order):
        better = [other for other in order[:place] if other not in dropped]
        if near[row, better].any():
            dropped.append(int(row))
    return np.array(sorted(dropped), np.int64)
