"""A trained backbone's layer for the parameters, fitted anew: for labels of another face model, or of other meaning."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from ddfa_batch.schemas.arrays import F64
from ddfa_batch.tasks.training.state import TrainingState, begun_with
from ddfa_batch.tasks.training.tensor_batch import TensorBatch

#: What the squared weights cost beside a face's squared error, for features of their mean square: where features hardly
#: vary about large means, weights that live on the difference would be lost in rounding.
_RIDGE = 1e-3


def with_new_head(training: TrainingState, batches: Iterable[TensorBatch], mean: F64, std: F64) -> TrainingState:
    """The training begun anew with the whitening mean and std (P,), its parameters a linear answer to its features.

    The layer is the ridge regression of the whitened parameters of `batches` on what the net, or the average of its
    weights, sees in them; the backbone stays.
    """
    net = training.answering
    was_training = net.training
    net.eval()
    seen, wanted = [], []
    with torch.no_grad():
        for batch in batches:
            seen.append(net.features(batch.crops).double().cpu().numpy())
            wanted.append((batch.params.double().cpu().numpy() - mean) / std)
        weight, bias = ridge(np.concatenate(seen), np.concatenate(wanted))
        net.fc_param.weight.copy_(torch.from_numpy(weight.T))
        net.fc_param.bias.copy_(torch.from_numpy(bias))
    net.train(was_training)
    whitening = (tuple(float(x) for x in values) for values in (mean, std))
    return begun_with(net, training.architecture, training.config, *whitening)


def ridge(features: F64, target: F64) -> tuple[F64, F64]:
    """Weight (F, P) and bias (P,) that give target (N, P) of features (N, F), the bias free."""
    middle, centre = features.mean(axis=0), target.mean(axis=0)
    x, y = features - middle, target - centre
    gram = x.T @ x
    gram[np.diag_indices(len(gram))] += _RIDGE * len(x) * np.square(features).mean()
    weight: F64 = np.linalg.solve(gram, x.T @ y)
    return weight, centre - middle @ weight
