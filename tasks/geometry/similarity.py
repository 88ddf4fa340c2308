"""Maps of the picture's plane: turned, scaled and shifted; and the crops they make."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F64, U8, Floats


def rotation(angle: float) -> F64:
    """The matrix (2, 2) that turns (x, y) of an image, y down, clockwise as seen by so many radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


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
    c, s = scale * np.cos(np.radians(changes[:, 0])), scale * np.sin(np.radians(changes[:, 0]))
    turn = np.stack([c, s, -s, c], axis=1).reshape(-1, 2, 2)
    centre = (roi[:, :2] + roi[:, 2:]) / 2
    target = size * (0.5 + changes[:, 2:])
    shift = target - (turn @ centre[..., None])[..., 0]
    return np.concatenate([turn, shift[..., None]], axis=2)


def warp(image: U8, map_: F64, size: int, interpolation: int = cv2.INTER_LINEAR) -> U8:
    """The crop (size, size, 3) that a map (2, 3) makes; black outside, pixel centres as in `crop`.

    interpolation: OpenCV's number of one; bilinear where nothing is said.
    """
    centred = map_.copy()
    centred[:, 2] += (np.sqrt(np.abs(np.linalg.det(map_[:, :2]))) - 1) / 2
    return np.asarray(cv2.warpAffine(image, centred, (size, size), flags=interpolation))
