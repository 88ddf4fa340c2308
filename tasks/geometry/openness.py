"""How far eyes and mouth are open, from the 68 landmarks."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F32, Floats, check_shape
from ddfa_batch.schemas.morphable import N_LANDMARKS

#: Corners, then pairs of an upper and a lower landmark (iBUG markup): the person's right eye, left eye, the inner lips.
_RIGHT_EYE = ((36, 39), ((37, 41), (38, 40)))
_LEFT_EYE = ((42, 45), ((43, 47), (44, 46)))
_MOUTH = ((60, 64), ((61, 67), (62, 66), (63, 65)))


def openness(landmarks: Floats) -> tuple[F32, F32, F32]:
    """Right eye, left eye and mouth of landmarks (N, 68, 3): the mean gap by the distance of the corners, (N,) each.

    Soukupová and Čech's eye aspect ratio (2016) in three dimensions, so that turning the head changes nothing.
    """
    check_shape("landmarks", landmarks, None, N_LANDMARKS, 3)
    right, left, mouth = (_ratio(landmarks, *part) for part in (_RIGHT_EYE, _LEFT_EYE, _MOUTH))
    return right, left, mouth


def _ratio(landmarks: Floats, corners: tuple[int, int], pairs: tuple[tuple[int, int], ...]) -> F32:
    points = landmarks.astype(np.float64)
    width = np.linalg.norm(points[:, corners[0]] - points[:, corners[1]], axis=1)
    gaps = np.mean([np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in pairs], axis=0)
    return np.asarray(gaps / np.maximum(width, 1e-9), np.float32)
