"""Maps of the picture's plane: turned, scaled and shifted; and the crops they make."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F64, U8, Floats


def plane_rotations(angles: Floats) -> F64:
    """Matrices (N, 2, 2) that turn (x, y) of an image, y down, clockwise as seen by angles (N,), radians."""
    turns = np.empty((len(angles), 2, 2))
    turns[:, 0, 0] = turns[:, 1, 1] = np.cos(angles)
    turns[:, 1, 0] = np.sin(angles)
    turns[:, 0, 1] = -turns[:, 1, 0]
    return turns


def similarity(roi: Floats, degrees: float, log_scale: float, right: float, down: float, size: int) -> F64:
    """Map (2, 3) from image pixels to those of a crop of `size`, of roi (4,) turned, scaled and shifted.

    degrees, counter-clockwise as seen; log_scale > 0 enlarges the face; right and down move it, in
    shares of the crop's side. Without changes it is what `reconstruct.image_pose` undoes.
    """
    changes = np.array([degrees, log_scale, right, down], np.float64)
    return np.asarray(similarities(np.asarray(roi)[None], changes[None], size)[0])


def similarities(rois: Floats, changes: Floats, size: int) -> F64:
    """`similarity` of rois (N, 4) and changes (N, 4): degrees, log_scale, right and down; maps (N, 2, 3)."""
    roi, changes = np.asarray(rois, np.float64), np.asarray(changes, np.float64)
    scale = size / (roi[:, 2] - roi[:, 0]) * np.exp(changes[:, 1])
    angle = np.radians(changes[:, 0])
    turn = plane_rotations(-angle) * scale[:, None, None]
    centre = (roi[:, :2] + roi[:, 2:]) / 2
    target = size * (0.5 + changes[:, 2:])
    shift = target - (turn @ centre[..., None])[..., 0]
    return np.concatenate([turn, shift[..., None]], axis=2)


def warp(image: U8, map_: F64, size: int, interpolation: int = cv2.INTER_LINEAR) -> U8:
    """The crop (size, size, 3) that a map (2, 3) makes; black outside, pixel centres as in `crop`.

    interpolation: OpenCV's number of one; bilinear where nothing is said.
    """
    return np.asarray(warps(image, map_[None], size, interpolation)[0])


def warps(image: U8, maps: F64, size: int, interpolation: int = cv2.INTER_LINEAR) -> U8:
    """`warp` of maps (N, 2, 3): crops (N, size, size, 3)."""
    centred = maps.copy()
    centred[:, :, 2] += ((np.sqrt(np.abs(np.linalg.det(maps[:, :, :2]))) - 1) / 2)[:, None]
    crops = np.empty((len(maps), size, size, *image.shape[2:]), image.dtype)
    for map_, crop in zip(centred, crops, strict=True):
        cv2.warpAffine(image, map_, (size, size), crop, flags=interpolation)
    return crops
