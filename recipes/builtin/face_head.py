"""Whether a crop shows a face, told from what a trained regressor sees in it.

A detector must look at every place of a picture and has little time for each. The regressor looks at few, at 120×120
pixels, and tells faces from what is none by a linear head on its last features, which costs nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ddfa_batch.schemas.arrays import Bools, Floats, check_shape
from ddfa_batch.schemas.errors import TrainingError
from ddfa_batch.tasks.training.export import FaceHead

#: What the squared weights of standardised features cost: features are many and alike.
_RIDGE = 1e-3
#: Iterations of L-BFGS.
_ROUNDS = 300
#: Added to deviations, so that a feature that never varies divides by no 0.
_FLAT = 1e-6


def fit_face_head(features: Floats, detector_odds: Floats, is_face: Bools) -> FaceHead:
    """Logistic regression of what is a face on features (N, F) and the detector's log odds (N,), by L-BFGS.

    Raises `TrainingError` where there is nothing to tell apart.
    """
    n = len(is_face)
    check_shape("features", np.asarray(features), n, None)
    check_shape("detector_odds", np.asarray(detector_odds), n)
    if not 0 < np.count_nonzero(is_face) < n:
        raise TrainingError("A face head needs boxes on faces and boxes on what is none.")
    seen = np.column_stack([features, detector_odds]).astype(np.float64)
    mean, std = seen.mean(axis=0), seen.std(axis=0) + _FLAT
    x, y = torch.from_numpy((seen - mean) / std), torch.from_numpy(np.asarray(is_face, np.float64))
    weight = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_ROUNDS, line_search_fn="strong_wolfe")

    def cost() -> torch.Tensor:
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(x @ weight + bias, y) + _RIDGE * weight.square().sum()
        backward: Any = loss.backward  # untyped in torch's stubs
        backward()
        return loss

    step: Any = optimiser.step  # untyped in torch's stubs
    step(cost)
    of_seen = weight.detach().numpy() / std
    offset = float(bias.detach()) - float(of_seen @ mean)
    return FaceHead(of_seen[:-1].astype(np.float32), offset, max(float(of_seen[-1]), 0.0))
