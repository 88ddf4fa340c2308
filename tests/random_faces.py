"""Random faces of a small face model: what fitting their landmarks should find again."""

from __future__ import annotations

import numpy as np
import small_model

from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry import pose

MODEL = small_model.head()
PRIOR = Prior.unit(50)


def faces(
    model: MorphableModel, prior: Prior, n: int, seed: int, pixels: float = 180.0
) -> tuple[np.ndarray, np.ndarray]:
    """Random poses in the image (n, 3, 4), y down, and the 68 points (n, 68, 3) of random faces in them."""
    rng = np.random.default_rng(seed)
    alpha = prior.mean + rng.normal(size=(n, len(prior.std))) * prior.std
    R = pose.rotation_matrix(rng.uniform(-75, 75, n), rng.uniform(-30, 30, n), rng.uniform(-45, 45, n))
    height = np.ptp(model.mean[model.landmarks, 1])
    T = np.zeros((n, 3, 4))
    T[:, :, :3] = R * (pixels / height * rng.uniform(0.8, 1.25, n))[:, None, None]
    T[:, :, 3] = rng.uniform(-50, 400, (n, 3))
    T[:, 1] *= -1
    S = model.mean[model.landmarks] + np.einsum("nk,klc->nlc", alpha, model.basis[:, model.landmarks])
    return T, S @ T[:, :, :3].transpose(0, 2, 1) + T[:, None, :, 3]
