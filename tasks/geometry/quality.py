"""Numbers a user can filter faces on."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, U8, Floats
from ddfa_batch.schemas.bundle import BundleManifest
from ddfa_batch.tasks.geometry.boxes import box_sizes, landmark_boxes
from ddfa_batch.tasks.geometry.reconstruct import upright_params


def sharpness(crop: U8) -> float:
    """Variance of the Laplacian of the grey crop (H, W, 3): small for blurred or enlarged faces."""
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return float(deviation[0, 0] ** 2)


def face_size(landmarks: Floats) -> F32:
    """√(width · height) in pixels, (N,), of the box around landmarks (N, 68, ≥2)."""
    return box_sizes(landmark_boxes(landmarks)).astype(np.float32)


def param_distance(params: Floats, manifest: BundleManifest) -> F32:
    """RMS (N,) of the whitened parameters (p − μ)/σ (paper, section 2.1): about 1 within the training set.

    It is measured where the network answers and its training set lies, in the crop in which the head stands upright:
    params (N, P), which are of the crop not turned, are turned first. So it does not tell how a head is rolled.
    """
    z = upright_params(params, manifest.layout, manifest.input_size).astype(np.float64) - np.array(manifest.param_mean)
    std = np.array(manifest.param_std)
    return np.asarray(np.sqrt(np.mean((z / np.where(std > 0, std, 1)) ** 2, axis=1)), np.float32)
