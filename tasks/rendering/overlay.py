"""Points and boxes drawn over pictures, for people to judge."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F64, U8, Bools, Floats
from ddfa_batch.tasks.geometry.similarity import similarity, warp

#: BGR of landmarks that can be seen, and of those the head hides.
SEEN, HIDDEN = (80, 220, 60), (60, 60, 240)
#: BGR of labelled points, of answered ones, and of a roi.
TRUTH, ANSWER, ROI = (80, 220, 80), (60, 60, 255), (200, 200, 60)
#: Bits of a pixel's fraction that OpenCV is told of.
_SHIFT = 4
#: What `compared` shows around the points, as a multiple of their extent; the least it shows, pixels.
_AROUND, _LEAST = 1.25, 8.0
#: Height of the line of text below a comparison, pixels; BGR of the text and of what it stands on.
_CAPTION, _INK, _DARK = 18, (230, 230, 230), (24, 24, 24)


def _draw_points(image: U8, points: Floats, radius: float, colours: list[tuple[int, int, int]]) -> None:
    """Draw points (n, 2) into an image, each in its colour; those that are NaN are left out."""
    for point, colour in zip(points, colours, strict=True):
        if np.isfinite(point).all():
            x, y = np.rint(point * 2**_SHIFT).astype(int).tolist()
            cv2.circle(image, (x, y), round(radius * 2**_SHIFT), colour, -1, cv2.LINE_AA, _SHIFT)


def with_landmarks(image: U8, landmarks: Floats, visible: Bools, roi: Floats) -> U8:
    """The image with landmarks (68, ≥2), green where they can be seen, and the roi (4,) they were found in."""
    marked = image.copy()
    thick = max(1, round(max(image.shape[:2]) / 200))
    x0, y0, x1, y1 = (round(float(v)) for v in roi)
    cv2.rectangle(marked, (x0, y0), (x1, y1), ROI, thick)
    _draw_points(marked, landmarks[:, :2], thick + 1, [SEEN if seen else HIDDEN for seen in visible])
    return marked


def compared(image: U8, truth: F64, answer: F64, text: str, side: int = 240) -> U8:
    """A square (side, side, 3) around labelled points (n, ≥2), green, and answered ones, red; a line of text below."""
    both = np.concatenate([truth[:, :2], answer[:, :2]])
    both = both[np.isfinite(both).all(axis=1)]
    low, high = both.min(axis=0), both.max(axis=0)
    extent = max(float((high - low).max()) * _AROUND, _LEAST)
    corner, zoom = (low + high) / 2 - extent / 2, side / extent
    square = np.concatenate([corner, corner + extent])
    tile = warp(image, similarity(square, 0, 0, 0, 0, side), side)
    for points, colour in ((truth, TRUTH), (answer, ANSWER)):
        _draw_points(tile, (points[:, :2] - corner + 0.5) * zoom - 0.5, 2, [colour] * len(points))
    cv2.rectangle(tile, (0, side - _CAPTION), (side, side), _DARK, -1)
    cv2.putText(tile, text, (4, side - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)
    return tile
