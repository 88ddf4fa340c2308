"""Numbers a user can filter faces on."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, U8, Floats


def sharpness(crop: U8) -> float:
    """Variance of the Laplacian of the grey crop (H, W, 3): small for blurred or enlarged faces."""
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return float(deviation[0, 0] ** 2)


def face_size(landmarks: Floats) -> F32:
    """√(width · height) in pixels, (N,), of the box around landmarks (N, 68, ≥2)."""
    extent = np.ptp(landmarks[..., :2], axis=1)
    return np.sqrt(extent[:, 0] * extent[:, 1]).astype(np.float32)


def param_distance(params: Floats, mean: Floats, std: Floats) -> F32:
    """RMS (N,) of the whitened parameters (p − μ)/σ (paper, section 2.1): about 1 within the training set."""
    z = (np.asarray(params, np.float64) - mean) / np.where(std > 0, std, 1)
    return np.sqrt(np.mean(z * z, axis=1)).astype(np.float32)
