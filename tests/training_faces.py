"""Faces to train on, made in code: white dots on black where landmark 30 is, with exact labels."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import small_model

from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry import pose
from ddfa_batch.tasks.geometry.mirroring import FLIP68
from ddfa_batch.tasks.training.clips import Clips, label_stills


def symmetric_head() -> MorphableModel:
    """The small head with landmarks that mirror each other as the 68 do; its bases are not symmetric."""
    model, rng = small_model.head(30, 41), np.random.default_rng(7)
    rows, columns = rng.integers(1, 29, 68), rng.integers(2, 19, 68)
    for i, j in enumerate(FLIP68):
        if i == j:
            columns[i] = 20
        elif i < j:
            rows[j], columns[j] = rows[i], 40 - columns[i]
    return replace(model, landmarks=(rows * 41 + columns).astype(np.int32))


MODEL = symmetric_head()
PRIOR = Prior.unit(50)
MARK = 30


def faces(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Black pictures (n, 160, 200, 3) of faces whose landmark 30 is a white dot, and their landmarks (n, 68, 2)."""
    rng = np.random.default_rng(seed)
    T = np.zeros((n, 3, 4))
    R = pose.rotation_matrix(rng.uniform(-40, 40, n), rng.uniform(-15, 15, n), rng.uniform(-15, 15, n))
    T[:, :, :3] = 0.45 * R
    T[:, 1] *= -1
    T[:, :2, 3] = rng.uniform([95, 75], [105, 85], (n, 2))
    S = MODEL.mean[MODEL.landmarks] + np.einsum(
        "nk,klc->nlc", rng.normal(size=(n, 50)), MODEL.basis[:, MODEL.landmarks]
    )
    labels = (S @ T[:, :, :3].transpose(0, 2, 1) + T[:, None, :, 3])[..., :2]
    images = np.zeros((n, 160, 200, 3), np.uint8)
    for image, face in zip(images, labels, strict=True):
        x, y = face[MARK] * 16
        cv2.circle(image, (round(float(x)), round(float(y))), 5 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    return images, labels


def stills(n: int = 6, seed: int = 0) -> Clips:
    images, labels = faces(n, seed)
    return label_stills([f"{i}.jpg" for i in range(n)], images, labels, MODEL, PRIOR)


STILLS = stills()
