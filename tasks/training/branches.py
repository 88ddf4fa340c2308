"""One step of a look-ahead's branch: the loss it minimises, its update, and its error on meta-test."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddfa_batch.tasks.training import distractors, losses
from ddfa_batch.tasks.training.architectures import RegressorNet
from ddfa_batch.tasks.training.losses import FaceSpace
from ddfa_batch.tasks.training.options import TrainConfig
from ddfa_batch.tasks.training.tensor_batch import TensorBatch


def targets(space: FaceSpace, batch: TensorBatch) -> Tensor:
    """Whitened parameters (B, P) of a batch."""
    return (batch.params - space.mean) / space.std


def total_loss(space: FaceSpace, config: TrainConfig, branch: str, net: RegressorNet, batch: TensorBatch) -> Tensor:
    """The branch's loss plus its landmark terms, each scaled to the same size (Algorithm 1, line 8)."""
    with torch.autocast(space.mean.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        seen = net.features(_shown(batch))
    z, answer = net.heads(seen[: len(batch.crops)])
    target, squared = targets(space, batch), config.distance == "squared"
    vdc = losses.vdc if squared else losses.vdc_unsquared
    if branch == "vdc":
        main = vdc(space, z, target) / space.vdc_unit ** (1 if squared else 0.5)
    elif branch == "fwpdc":
        main = losses.fwpdc(space, z, target) / space.fwpdc_unit
    else:
        main = losses.vanilla_joint(space, z, target, config.beta, vdc) / space.fwpdc_unit
    labels, weights = batch.landmarks, batch.weights
    total = main
    if config.steadiness > 0:
        change = losses.unsteadiness(space, z, labels, weights, config.sampling.frames)
        total = total + config.steadiness * losses.balanced(main, change)
    if "lmk" in config.landmarks:
        constraint = losses.landmark_constraint if squared else losses.landmark_distance
        total = total + config.landmark_weight * losses.balanced(main, constraint(space, z, labels, weights))
    if "lrr" in config.landmarks:
        regression = losses.landmark_regression if squared else losses.landmark_regression_distance
        extra = losses.balanced(main, regression(answer, labels, weights, space.size))
        total = total + config.landmark_weight * extra
    if config.face_weight > 0 and batch.distractors is not None:
        total = total + config.face_weight * distractors.face_loss(net.face_odds(seen), len(batch.crops))
    return total


def _shown(batch: TensorBatch) -> Tensor:
    """All crops at once: normalisations see faces and distractors in one proportion, as their running statistics."""
    return batch.crops if batch.distractors is None else torch.cat([batch.crops, batch.distractors])


def vertex_error(space: FaceSpace, net: RegressorNet, batch: TensorBatch) -> float:
    """Root of the mean squared distance of all vertices of a batch, px, with running statistics."""
    was_training = net.training
    net.eval()
    with torch.no_grad():
        z, _ = net(batch.crops)
        error = float(losses.vdc(space, z, targets(space, batch)).sqrt())
    net.train(was_training)
    return error if math.isfinite(error) else math.inf


@dataclass
class Branch:
    """One look-ahead: its own net and optimiser, and the losses of its steps."""

    #: What it minimises.
    name: str
    #: Its own.
    net: RegressorNet
    #: Its own.
    optimiser: torch.optim.Optimizer
    #: The moving average of the net's weights, its own; None where there is none.
    average: RegressorNet | None = None
    #: Of every step so far.
    losses: list[float] = field(default_factory=list)

    def step(self, space: FaceSpace, config: TrainConfig, batch: TensorBatch, rate: float) -> None:
        """One update. Once a loss is not finite the branch stands still."""
        if self.losses and not math.isfinite(self.losses[-1]):
            return
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss = total_loss(space, config, self.name, self.net, batch)
        self.losses.append(float(loss.detach()))
        if not math.isfinite(self.losses[-1]):
            return
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), config.clip)
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
            if self.average is not None:
                follow(self.average, self.net, config.ema)
        else:
            self.losses[-1] = math.inf


def follow(average: RegressorNet, net: RegressorNet, kept: float) -> None:
    """Move an average's weights and running statistics towards the net's: kept · average + (1 − kept) · net."""
    mine, theirs = average.state_dict(), net.state_dict()
    counted = [name for name, tensor in theirs.items() if not tensor.is_floating_point()]
    with torch.no_grad():
        weights = [(mine[name], theirs[name]) for name in theirs if name not in counted]
        torch._foreach_lerp_([a for a, _ in weights], [b for _, b in weights], 1 - kept)
        for name in counted:
            mine[name].copy_(theirs[name])


@contextmanager
def side_by_side(n: int) -> Iterator[list[ThreadPoolExecutor]]:
    """A thread of its own for each of n branches, which share torch's threads: two on one core each are faster than
    one after the other on two, and a branch's numbers do not depend on the other.
    """
    threads = torch.get_num_threads()
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                ThreadPoolExecutor(1, "branch", initializer=torch.set_num_threads, initargs=(max(1, threads // n),))
            )
            for _ in range(n)
        ]
    torch.set_num_threads(threads)
