"""Whether a crop shows a face, told from what a trained regressor sees in it.

A detector must look at every place of a picture and has little time for each. The regressor looks at few, at 120×120
pixels, and tells faces from what is none by a small head on what its last blocks see, which costs next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ddfa_batch.schemas.arrays import F32, Bools, Floats, check_shape
from ddfa_batch.schemas.errors import TrainingError

#: Hidden numbers of a head, and the share of them that is dropped while it learns.
HIDDEN, DROPPED = 64, 0.5
#: Rounds through all boxes, boxes of a step, AdamW's highest rate, which falls on half a cosine, and its decay.
_ROUNDS, _BATCH, _RATE, _DECAY = 20, 512, 3e-3, 0.1
#: What varies less than this counts for nothing: elsewhere it may vary more.
_FLAT = 1e-3


@dataclass(frozen=True)
class FaceHead:
    """Log odds that a crop shows a face: of a hidden layer on what is seen, and of the detector's own log odds."""

    #: (H, F), of what is seen.
    hidden_weight: F32
    #: (H,), added to it; what is then less than 0 counts as 0.
    hidden_bias: F32
    #: (H,), of the hidden layer.
    weight: F32
    #: Added to all.
    bias: float
    #: Of the detector's log odds.
    trust: float

    def __post_init__(self) -> None:
        check_shape("hidden_weight", self.hidden_weight, len(self.weight), None)
        check_shape("hidden_bias", self.hidden_bias, len(self.weight))

    def __call__(self, seen: Floats, detector_odds: Floats) -> Floats:
        """Log odds (N,) of what is seen (N, F) and the detector's log odds (N,)."""
        hidden = np.maximum(seen @ self.hidden_weight.T + self.hidden_bias, 0)
        return np.asarray(hidden @ self.weight + self.bias + self.trust * detector_odds)


class _HeadNet(nn.Module):
    """A head that learns, of standardised inputs."""

    def __init__(self, n_seen: int) -> None:
        super().__init__()
        self.hidden, self.face = nn.Linear(n_seen, HIDDEN), nn.Linear(HIDDEN, 1)
        self.trust = nn.Parameter(torch.zeros(1))

    def forward(self, seen: Tensor, odds: Tensor) -> Tensor:
        found = functional.dropout(torch.relu(self.hidden(seen)), DROPPED, self.training)
        told: Tensor = self.face(found)[:, 0] + self.trust * odds
        return told


def fit_face_head(seen: Floats, detector_odds: Floats, is_face: Bools, seed: int) -> FaceHead:
    """What tells faces from what is seen (N, F) and the detector's log odds (N,), learnt by AdamW.

    Raises `TrainingError` where there is nothing to tell apart.
    """
    n = len(is_face)
    check_shape("seen", np.asarray(seen), n, None)
    check_shape("detector_odds", np.asarray(detector_odds), n)
    if not 0 < np.count_nonzero(is_face) < n:
        raise TrainingError("A face head needs boxes on faces and boxes on what is none.")
    mean, scale = _standardising(seen)
    odds_mean, odds_scale = _standardising(np.asarray(detector_odds)[:, None])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = _HeadNet(seen.shape[1])
        inputs = _standardised(seen, mean, scale), _standardised(np.asarray(detector_odds), odds_mean, odds_scale)
        _learn(net, *(torch.from_numpy(each) for each in (*inputs, np.asarray(is_face, np.float32))))
    weights = {name: tensor.numpy().astype(np.float64) for name, tensor in net.state_dict().items()}
    hidden = weights["hidden.weight"] * scale
    trust = max(float(weights["trust"][0] * odds_scale[0]), 0.0)
    return FaceHead(
        hidden_weight=hidden.astype(np.float32),
        hidden_bias=(weights["hidden.bias"] - hidden @ mean).astype(np.float32),
        weight=weights["face.weight"][0].astype(np.float32),
        bias=float(weights["face.bias"][0]) - trust * float(odds_mean[0]),
        trust=trust,
    )


def _standardising(values: Floats) -> tuple[Floats, Floats]:
    """Means (F,) of values (N, F), and what makes their deviations (F,) one; 0 where nothing varies."""
    mean, std = values.mean(axis=0, dtype=np.float64), values.std(axis=0)
    return mean, np.where(std > _FLAT, 1 / np.maximum(std, _FLAT), 0.0).astype(np.float64)


def _standardised(values: Floats, mean: Floats, scale: Floats) -> F32:
    return np.asarray((values - mean.astype(np.float32)) * scale.astype(np.float32), np.float32)


def _learn(net: _HeadNet, seen: Tensor, odds: Tensor, truth: Tensor) -> None:
    steps = max(1, len(seen) // _BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=_DECAY)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _ROUNDS * steps)
    for _ in range(_ROUNDS):
        for rows in torch.randperm(len(seen)).tensor_split(steps):
            optimiser.zero_grad()
            loss = functional.binary_cross_entropy_with_logits(net(seen[rows], odds[rows]), truth[rows])
            backward: Any = loss.backward  # untyped in torch's stubs
            backward()
            optimiser.step()
            rate.step()
    net.eval()
