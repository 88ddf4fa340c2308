"""Meshes, landmarks and boxes drawn over pictures, for people to judge."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I32, U8, Bools, Floats
from ddfa_batch.tasks.geometry.similarity import similarity, warp
from ddfa_batch.tasks.rendering.rasteriser import lambert
from ddfa_batch.tasks.rendering.sheets import resized

#: BGR of a mesh, of landmarks that can be seen, and of those the head hides.
SKIN, SEEN, HIDDEN = (255, 196, 132), (80, 220, 60), (60, 60, 240)
#: BGR of labelled points, of answered ones, and of a roi.
TRUTH, ANSWER, ROI = (80, 220, 80), (60, 60, 255), (200, 200, 60)
#: Where the light of a mesh comes from, and how much of the photograph it covers.
_LIGHT, _OPACITY = np.array([-0.5, -0.6, 0.6]), 0.5
#: The 68 points as lines: first, last, and whether the line is closed (iBUG markup).
_STROKES = [
    (0, 16, False),
    (17, 21, False),
    (22, 26, False),
    (27, 30, False),
    (31, 35, False),
    (36, 41, True),
    (42, 47, True),
    (48, 59, True),
    (60, 67, True),
]
#: Drawn at this multiple of the size wanted and scaled down, for smooth edges.
_FINER = 2
#: Bits of a pixel's fraction that OpenCV is told of.
_SHIFT = 4
#: What `compared` shows around the points, as a multiple of their extent; the least it shows, pixels.
_AROUND, _LEAST = 1.25, 8.0
#: Height of the line of text below a comparison, pixels; BGR of the text and of what it stands on.
_CAPTION, _INK, _DARK = 18, (230, 230, 230), (24, 24, 24)


def overlay(image: U8, meshes: F32, triangles: I32, landmarks: F32, visible: Bools, zoom: float = 1.0) -> U8:
    """The image at `zoom`, with the meshes (N, V, 3) and landmarks (N, 68, 3) of its faces, in its pixels, drawn in.

    Landmarks that can be seen, visible (N, 68), are green, the others red. The smallest face is drawn first.
    """
    height, width = (max(1, round(side * zoom)) for side in image.shape[:2])
    fine = resized(image, width * _FINER, height * _FINER)
    scale = np.array([fine.shape[1] / image.shape[1], fine.shape[0] / image.shape[0]], np.float32)
    scale = np.append(scale, scale.mean()).astype(np.float32)
    for i in np.argsort(np.ptp(landmarks[:, :, 1], axis=1)):
        mesh = ((meshes[i] + [0.5, 0.5, 0]) * scale - [0.5, 0.5, 0]).astype(np.float32)
        fine = lambert(fine, mesh, triangles, SKIN, _LIGHT, _OPACITY)
        _draw_strokes(fine, ((landmarks[i, :, :2] + 0.5) * scale[:2] - 0.5).astype(np.float64), visible[i])
    return resized(fine, width, height)


def _draw_strokes(image: U8, points: F64, visible: Bools) -> None:
    """Draw 68 points (68, 2) and the lines between them into an image, as thick as suits the face's size."""
    size = float(np.ptp(points[:, 1]))
    thick, radius = max(1, round(size / 120)), max(_FINER * 0.6, size / 80)
    fine = np.rint(points * 2**_SHIFT).astype(np.int32)
    for first, last, closed in _STROKES:
        ends = [*range(first, last + 1), *([first] if closed else [])]
        for a, b in pairwise(ends):
            colour = SEEN if visible[a] and visible[b] else HIDDEN
            cv2.line(image, fine[a].tolist(), fine[b].tolist(), colour, thick, cv2.LINE_AA, _SHIFT)
    _draw_points(image, points, radius, [SEEN if seen else HIDDEN for seen in visible])


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
