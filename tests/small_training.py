"""A training of a tiny net on the faces of `training_faces`, small enough for a test."""

from __future__ import annotations

import copy

import numpy as np
import torch
from training_faces import MODEL, STILLS

from ddfa_batch.tasks.training import state
from ddfa_batch.tasks.training.architectures import Architecture
from ddfa_batch.tasks.training.clips import whitening
from ddfa_batch.tasks.training.losses import FaceSpace
from ddfa_batch.tasks.training.mini_batches import make_batch
from ddfa_batch.tasks.training.options import Augmentation, Sampling, TrainConfig
from ddfa_batch.tasks.training.state import TrainingState

NET = Architecture(width=0.0625)
SIZE = 32
CONFIG = TrainConfig(look_ahead=2, iterations=4, warmup=2, sampling=Sampling(2, 2, size=SIZE), learning_rate=1e-3)


def mean_and_std() -> tuple[np.ndarray, np.ndarray]:
    many = make_batch(STILLS, np.arange(6), Sampling(6, 20, size=SIZE), Augmentation(), [0])
    return whitening(many.params)


MEAN, STD = mean_and_std()
SPACE = FaceSpace.of(MODEL, MEAN, STD, SIZE)


def begin(config: TrainConfig = CONFIG) -> TrainingState:
    """A new training."""
    return state.start(NET, config, MEAN, STD)


def weights_of_net(training: TrainingState) -> dict[str, torch.Tensor]:
    """A copy of its net's weights and running statistics."""
    return copy.deepcopy(training.net.state_dict())


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether all are equal to the bit."""
    return all(torch.equal(one[name], other[name]) for name in one)
