"""How near a net under training comes to labels it is not trained on."""

from __future__ import annotations

import numpy as np
import torch

from ddfa_batch.schemas.arrays import F64
from ddfa_batch.tasks.evaluation.landmark_errors import mean_by_yaw
from ddfa_batch.tasks.geometry.pose import yaw_of
from ddfa_batch.tasks.training import losses
from ddfa_batch.tasks.training.architectures import RegressorNet
from ddfa_batch.tasks.training.branches import targets
from ddfa_batch.tasks.training.clips import Clips
from ddfa_batch.tasks.training.losses import FaceSpace
from ddfa_batch.tasks.training.mini_batches import make_batch
from ddfa_batch.tasks.training.options import Augmentation, Sampling
from ddfa_batch.tasks.training.tensor_batch import TensorBatch

_BLOCK = 128


def landmark_nme(net: RegressorNet, space: FaceSpace, clips: Clips, pixels: int) -> F64:
    """NME (N,) of the photographs' labelled points, % of √(w·h) of the box around the labels' own 68 model points.

    Crops as `process` cuts them with the roi of the labels, `pixels` wide; running statistics.
    """
    sampling = Sampling(1, 1, turned=0.0, size=space.size)
    was_training, device = net.training, space.mean.device
    net.eval()
    errors = []
    for start in range(0, len(clips), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(clips)))
        batch = make_batch(clips, rows, sampling, Augmentation.none(), [0], pixels)
        with torch.no_grad():
            tensors = TensorBatch.of(batch, device)
            z, target = net(tensors.crops)[0], targets(space, tensors)
            found, model = (losses.landmarks(space, v).cpu().numpy().astype(np.float64) for v in (z, target))
        distance = np.linalg.norm(found - batch.landmarks, axis=2)
        size = np.sqrt(np.ptp(model, axis=1).prod(axis=1))
        total = np.maximum(batch.weights.sum(axis=1), 1e-12)
        errors.append(100 * (distance * batch.weights).sum(axis=1) / total / size)
    net.train(was_training)
    return np.concatenate(errors).astype(np.float64) if errors else np.zeros(0)


def mean_of_bins(errors: F64, clips: Clips) -> tuple[float, list[float]]:
    """The mean over the three bins of |yaw| that have faces, and the bins' means (NaN where empty)."""
    bins = mean_by_yaw(errors, yaw_of(clips.poses[:, 0, 0]))
    return float(np.nanmean(bins)), [float(b) for b in bins]
