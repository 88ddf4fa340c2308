"""What every detector does before and after its network: scale the picture, hold its planes, drop twins."""

from __future__ import annotations

import threading

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks.geometry.boxes import non_maximum_suppression

#: Intersection over union from which two boxes are of one face (FaceBoxes.PyTorch).
_NMS_IOU = 0.3


def scale_to_fit(height: int, width: int, fit: tuple[int, int], pass_scale: float = 1.0) -> float:
    """By what a picture is scaled so as to be no higher than fit[0] and no wider than fit[1], times `pass_scale`.

    It is exactly upstream's arithmetic (FaceBoxes.py), so that boxes agree to the last digit.
    """
    scale = 1.0
    if height > fit[0]:
        scale = fit[0] / height
    if width * scale > fit[1]:
        scale *= fit[1] / (width * scale)
    return scale * pass_scale


def scaled_to_fit(image: U8, fit: tuple[int, int], pass_scale: float = 1.0) -> tuple[U8, float]:
    """A copy scaled as `scale_to_fit` says, and its scale; the image itself if it fits."""
    h, w = image.shape[:2]
    scale = scale_to_fit(h, w, fit, pass_scale)
    if scale == 1.0:
        return image, scale
    size = (max(int(scale * w), 1), max(int(scale * h), 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)), scale


class InputPlanes(threading.local):
    """The network's input of the picture before, (1, 3, H, W), kept for the next one of its size: one for each thread.

    A worker's detector serves all of its threads, and sessions may run at once; what they read must not be shared.
    """

    def __init__(self) -> None:
        self._planes = np.empty((1, 3, 0, 0), np.float32)
        self._channels = [np.empty((0, 0), np.uint8)] * 3

    def of(self, height: int, width: int) -> F32:
        """Planes (1, 3, height, width) to write to; they hold what they held before."""
        if self._planes.shape[2:] != (height, width):
            self._planes = np.empty((1, 3, height, width), np.float32)
        return self._planes

    def channels(self, image: U8) -> list[U8]:
        """Blue, green and red (H, W) of an image (H, W, 3), each in one piece; the next call writes over them."""
        if self._channels[0].shape != image.shape[:2]:
            self._channels = [np.empty(image.shape[:2], np.uint8) for _ in range(3)]
        cv2.split(image, self._channels)
        return self._channels


def best_boxes(boxes: F32, scores: F32, score_threshold: float, plus_one: float = 0.0) -> Detections:
    """Suppress overlaps, then keep what is strictly better than `score_threshold` and a real box."""
    sound = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if not sound.all():
        boxes, scores = boxes[sound], scores[sound]
    kept = non_maximum_suppression(boxes, scores, _NMS_IOU, plus_one)
    kept = kept[scores[kept] > score_threshold]
    return Detections(np.ascontiguousarray(boxes[kept], np.float32), np.asarray(scores[kept], np.float32))
