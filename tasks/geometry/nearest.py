"""Nearest points in space: OpenCV's k-d tree, exact, with distances in double precision."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, Floats, check_shape

#: flann's `KDTREE_SINGLE`, one tree of few dimensions, and as many leaves visited as the exact answer takes.
_TREE: dict[str, bool | int | float | str] = {"algorithm": 4}
_EXACT: dict[str, bool | int | float | str] = {"checks": -1}


class Neighbours:
    """Points (N, 3) that others are compared with. Which is nearest is told in single precision about their middle."""

    def __init__(self, points: Floats) -> None:
        check_shape("points", points, None, 3)
        self._points = np.asarray(points, np.float64)
        self._middle = self._points.mean(axis=0)
        #: flann keeps a pointer to them.
        self._single = self._about_middle(self._points)
        self._tree = cv2.flann.Index(self._single, _TREE)

    def nearest(self, places: Floats) -> I64:
        """The row of the point nearest to each place (M, 3): (M,)."""
        check_shape("places", places, None, 3)
        rows, _ = self._tree.knnSearch(self._about_middle(places), 1, params=_EXACT)
        return np.asarray(rows[:, 0], np.int64)

    def distance(self, places: Floats) -> F64:
        """How far the nearest point is from each place (M, 3): (M,), in the points' unit."""
        return np.asarray(np.linalg.norm(self._points[self.nearest(places)] - places, axis=1))

    def _about_middle(self, places: Floats) -> F32:
        return np.ascontiguousarray(places - self._middle, np.float32)
