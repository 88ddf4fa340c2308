"""Moving a picture into another: similarities, warps, masks and blending."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, U8, Floats
from recipes.builtin.detector.pictures import (
    Layer,
    boxes_of,
)


def similarity_about(scale: float, angle: float, centre: Floats, place: Floats) -> F32:
    """The matrix (2, 3) that scales and turns (degrees) about `centre`, and moves that to `place`."""
    a = np.deg2rad(angle)
    linear = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    shift = np.asarray(place) - linear @ np.asarray(centre)
    return np.concatenate([linear, shift[:, None]], axis=1).astype(np.float32)


def moved_points(points: F32, matrix: F32) -> F32:
    """Points (K, P, 2) under a matrix (2, 3)."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


def bounds_of(width: int, height: int, matrix: F32) -> F32:
    """The upright box x0, y0, x1, y1 around a picture of width × height under a matrix (2, 3)."""
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float32)
    return np.asarray(boxes_of(moved_points(corners, matrix))[0])


def warp(image: U8, matrix: F32, width: int, height: int, border: int, colour: Sequence[int]) -> U8:
    """`image` under a matrix (2, 3), in a frame of width × height; averaged first where that makes it much smaller."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    while scale < 0.6 and min(image.shape[:2]) >= 4:
        h, w = image.shape[0] // 2, image.shape[1] // 2
        image = np.asarray(cv2.resize(image[: h * 2, : w * 2], (w, h), interpolation=cv2.INTER_AREA))
        # The centre of pixel 0 of the smaller image is at 0.5 of the larger.
        matrix = matrix @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]], np.float32)
        scale *= 2
    return np.asarray(
        cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=colour)
    )


def paste_mask(patch: Layer, box: F32, rng: np.random.Generator) -> U8:
    """What of the patch is pasted (h, w), 0..255: all of it, with soft edges, or an oval around the face."""
    h, w = patch.image.shape[:2]
    kind = rng.random()
    if kind < 0.35:
        return np.full((h, w), 255, np.uint8)
    if kind < 0.75:
        return soft_edged(h, w, rng.uniform(0.03, 0.15))
    y, x = np.mgrid[:h, :w].astype(np.float32)
    cx, cy = (box[:2] + box[2:]) / 2
    rx, ry = (box[2:] - box[:2]) / 2 * rng.uniform(1.15, 1.6)
    radius = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / (ry * 1.1)) ** 2)
    return np.asarray(np.clip((1.15 - radius) / rng.uniform(0.05, 0.3), 0, 1) * 255, np.uint8)


def soft_edged(height: int, width: int, share: float) -> U8:
    """A mask (height, width), 0..255, that falls off towards the edges over this share of the shorter side."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    edge = np.minimum(np.minimum(x + 1, width - x), np.minimum(y + 1, height - y))
    return np.asarray(np.clip(edge / (share * min(height, width)), 0, 1) * 255, np.uint8)


def blend(image: U8, patch: U8, mask: U8, matrix: F32, frame: F32) -> U8:
    """`image` with the patch moved by `matrix` laid over it through its mask; `frame` is where it comes to lie."""
    height, width = image.shape[:2]
    x0, y0 = (int(v) for v in np.clip(np.floor(frame[:2]), 0, (width, height)))
    x1, y1 = (int(v) for v in np.clip(np.ceil(frame[2:]) + 1, 0, (width, height)))
    if x1 <= x0 or y1 <= y0:
        return image
    local = matrix - np.array([[0, 0, x0], [0, 0, y0]], np.float32)
    over = warp(patch, local, x1 - x0, y1 - y0, cv2.BORDER_REPLICATE, [0, 0, 0])
    share = warp(mask, local, x1 - x0, y1 - y0, cv2.BORDER_CONSTANT, [0, 0, 0]).astype(np.float32)[..., None] / 255
    below = image[y0:y1, x0:x1].astype(np.float32)
    image[y0:y1, x0:x1] = (below + (over - below) * share + 0.5).astype(np.uint8)
    return image
