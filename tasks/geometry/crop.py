"""Boxes to square rois, rois to crops: the geometry between the detector and the regressor."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, U8, Floats, check_shape
from ddfa_batch.tasks.geometry.boxes import landmark_boxes
from ddfa_batch.tasks.geometry.picture import Picture
from ddfa_batch.tasks.geometry.similarity import plane_rotations, similarities, warps


def roi_from_boxes(boxes: Floats, scale: float, shift: float) -> F64:
    """Square rois (N, 4) around boxes (N, ≥4), in pixels.

    s = mean of width and height; the centre moves down by `shift`·s, the side is int(`scale`·s): upstream's
    `parse_roi_box_from_bbox`, whose 1.58 and 0.14 fit the boxes of FaceBoxes.
    """
    b = np.asarray(boxes, np.float64)
    check_shape("boxes", b, None, None)
    size = ((b[:, 2] - b[:, 0]) + (b[:, 3] - b[:, 1])) / 2
    centre_x = (b[:, 0] + b[:, 2]) / 2
    centre_y = (b[:, 1] + b[:, 3]) / 2 + shift * size
    half = np.maximum(np.trunc(scale * size), 1) / 2
    return np.stack([centre_x - half, centre_y - half, centre_x + half, centre_y + half], axis=1)


def roi_from_landmarks(landmarks: Floats) -> F64:
    """Square rois (N, 4) around landmarks (N, L, ≥2), in pixels.

    Centred on the landmarks' box; the side is the diagonal of the box's bounding square: upstream's
    `parse_roi_box_from_landmark`. This is what a refinement pass crops.
    """
    around = landmark_boxes(landmarks)
    low, high = around[:, :2], around[:, 2:]
    centre = (low + high) / 2
    half = np.maximum((high - low).max(axis=1) * np.sqrt(2), 1.0)[:, None] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def upright_rois(landmarks: Floats, angles: Floats) -> F64:
    """Square rois (N, 4) for `rotated_crop`, in which heads stand upright, as `roi_from_landmarks` finds them there.

    landmarks (N, L, ≥2) as they lie in the image; angles (N,): radians by which they lean counter-clockwise as seen.
    """
    turns = plane_rotations(np.asarray(angles, np.float64))
    upright = roi_from_landmarks(np.asarray(landmarks[..., :2], np.float64) @ turns.transpose(0, 2, 1))
    middle = np.einsum("nji,nj->ni", turns, (upright[:, :2] + upright[:, 2:]) / 2)
    half = (upright[:, 2:] - upright[:, :2]) / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def crop(image: U8, roi: F64, size: int) -> U8:
    """Cut one square roi (4,) out of image (H, W, 3) and scale it to (size, size, 3), bilinear.

    The roi is rounded to whole pixels and what lies outside the image is black, as upstream's `crop_img`;
    only the part inside the image is ever copied, so a huge roi costs no memory.
    """
    h, w = image.shape[:2]
    x0, y0, x1, y1 = (round(float(v)) for v in roi)
    if x0 >= 0 and y0 >= 0 and x1 <= w and y1 <= h and x1 > x0 and y1 > y0:
        return np.asarray(cv2.resize(image[y0:y1, x0:x1], (size, size), interpolation=cv2.INTER_LINEAR))
    return _crop_over_the_edge(image, x0, y0, x1, y1, size)


#: A roi with a longer side is scaled by one affine warp instead of being padded first (48 MB of black).
_MAX_PADDED_SIDE = 4096


def _crop_over_the_edge(image: U8, x0: int, y0: int, x1: int, y1: int, size: int) -> U8:
    h, w = image.shape[:2]
    width, height = max(x1 - x0, 1), max(y1 - y0, 1)
    if max(width, height) > _MAX_PADDED_SIDE:
        sx, sy = size / width, size / height
        affine = np.array([[sx, 0, (0.5 - x0) * sx - 0.5], [0, sy, (0.5 - y0) * sy - 0.5]])
        return np.asarray(cv2.warpAffine(image, affine, (size, size), flags=cv2.INTER_LINEAR))
    padded = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, w), min(y1, h)
    if right > left and bottom > top:
        padded[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    return np.asarray(cv2.resize(padded, (size, size), interpolation=cv2.INTER_LINEAR))


def outside_share(rois: F64, width: int, height: int) -> F32:
    """Share (N,) of each roi's area that lies beyond an image of width × height pixels."""
    x0, y0, x1, y1 = rois.T
    inside_x = np.maximum(np.minimum(x1, width) - np.maximum(x0, 0), 0)
    inside_y = np.maximum(np.minimum(y1, height) - np.maximum(y0, 0), 0)
    area = np.maximum((x1 - x0) * (y1 - y0), 1e-12)
    return np.minimum(np.maximum(1 - inside_x * inside_y / area, 0), 1).astype(np.float32)


def crops(image: U8 | Picture, rois: F64, size: int, angles: Floats | None = None) -> U8:
    """The crops (N, size, size, 3) of rois (N, 4), each by `rotated_crop` where angles (N,) are not 0.

    Of a `Picture` they are taken from the largest reduction that keeps `size` pixels of each roi's side.
    """
    if not len(rois):
        return np.zeros((0, size, size, 3), np.uint8)
    pixels, reduction = Picture.of(image).at_least(size / float((rois[:, 2] - rois[:, 0]).min()))
    angles = np.zeros(len(rois)) if angles is None else angles
    if reduction > 1:
        return reduced_crops(pixels, rois, angles, size, reduction)
    if angles.all():
        return rotated_crops(pixels, rois, angles, size)
    cut = np.empty((len(rois), size, size, 3), np.uint8)
    for row in np.flatnonzero(angles == 0):
        cut[row] = crop(pixels, rois[row], size)
    if len(leaning := np.flatnonzero(angles)):
        cut[leaning] = rotated_crops(pixels, rois[leaning], angles[leaning], size)
    return cut


def rotated_crop(image: U8, roi: Floats, angle: float, size: int) -> U8:
    """The crop (size, size, 3) of a square roi (4,) that is turned about its middle, bilinear, black outside the image.

    angle: radians by which a head leans counter-clockwise as seen; in the crop it stands upright. What a network says
    of the crop is turned back by `reconstruct.turned_pose`.
    """
    return np.asarray(rotated_crops(image, np.asarray(roi)[None], np.array([angle]), size)[0])


def rotated_crops(image: U8, rois: Floats, angles: Floats, size: int) -> U8:
    """`rotated_crop` of rois (N, 4) and angles (N,): crops (N, size, size, 3)."""
    return warps(image, _turned(rois, angles, size), size)


def reduced_crops(image: U8, rois: Floats, angles: Floats, size: int, reduction: int) -> U8:
    """The same squares of the picture as `crop` or `rotated_crop` cut, (N, size, size, 3), from it at a reduction.

    rois (N, 4) are in pixels of the picture, and rounded to those where the crop is upright. Cubic, since what was
    averaged is softer already: on photographs of 12 megapixels landmarks moved by 0.76 instead of 1.12 px.
    """
    whole = np.where(np.asarray(angles)[:, None] == 0, np.round(rois), rois)
    return warps(image, _turned(whole / reduction, angles, size), size, cv2.INTER_CUBIC)


def _turned(rois: Floats, angles: Floats, size: int) -> F64:
    """Maps (N, 2, 3) from the pixels of rois (N, 4) to those of crops turned by angles (N,), radians."""
    changes = np.zeros((len(rois), 4))
    changes[:, 0] = -np.degrees(angles)
    return similarities(rois, changes, size)
