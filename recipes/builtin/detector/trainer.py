"""The training of the face detector: steps, checkpoints, and a state that can be taken up again."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor

from ddfa_batch.schemas.arrays import F32
from ddfa_batch.tasks.bundles import onnx_graphs
from ddfa_batch.tasks.files.atomic import whole_file
from ddfa_batch.tasks.training import host
from recipes.builtin.detector.batches import CollageBatch, batches
from recipes.builtin.detector.network import FaceDetector, detection_loss, level_of_cells
from recipes.builtin.detector.restarting import unfolded
from recipes.builtin.detector.validation import scores_line, sources, validation_pictures

#: Training steps, and how many lie between two checkpoints, and between two lines about the loss.
STEPS, EVERY, TOLD_EVERY = 28400, 400, 50
#: Peak of the learning rate, the steps to reach it (a tenth of them all, at most), and what it falls to by a cosine.
_RATE, _WARM_UP, _LAST_RATE = 4e-3, 200, 1e-5
#: What a second round begins with, and the share of all steps after which it does.
_SECOND_RATE, _SECOND = 2e-3, 0.7
#: AdamW's, of weights that are no scales and shifts.
_WEIGHT_DECAY = 1e-2
#: Largest norm of a step's gradient.
_CLIP = 10.0
#: How much of the running mean of the weights a step keeps, at most; it is the mean that is used.
_DECAY = 0.998
#: Steps of the tuning that goes on from a trained net, the peak of its learning rate, and the batches whose statistics
#: its normalisations begin with.
TUNING_STEPS, _TUNING_RATE, _N_STATISTICS = 6000, 1e-3, 24
#: Added to the seed, so that tuning sees other collages.
_OTHER_COLLAGES = 1


def train(work: Path, steps: int, seed: int) -> None:
    """Train to `steps`, going on from the checkpoint if there is one; validate and save every `EVERY` steps."""
    host.prepare("cpu", 1)
    cv2.setNumThreads(0)
    _learn(work, work / "detector", DetectorTraining.begin(seed, steps), seed)


def tune(work: Path, start: Path, steps: int, seed: int) -> None:
    """Train the net of the graph `start` on, with what `mine` found it mistakes; into WORK/detector/tuned."""
    host.prepare("cpu", 1)
    cv2.setNumThreads(0)
    folder, seed = work / "detector/tuned", seed + _OTHER_COLLAGES
    folder.mkdir(exist_ok=True)
    training = DetectorTraining.begin(seed, steps)
    if not (folder / "checkpoint.pt").exists():
        some = (batch.pictures for batch in batches(sources(work, "train"), seed, steps, steps + _N_STATISTICS, True))
        training = training.from_net(unfolded(start.read_bytes(), some))
    training.peak = _TUNING_RATE
    _learn(work, folder, training, seed)


def _learn(work: Path, folder: Path, training: DetectorTraining, seed: int) -> None:
    steps = training.steps
    if (folder / "checkpoint.pt").exists():
        training.restore(torch.load(folder / "checkpoint.pt", weights_only=True))
    pictures = validation_pictures(sources(work, "validation"))
    begun, first = time.monotonic(), training.step
    for batch in batches(sources(work, "train"), seed, first, steps, training.peak is not None):
        loss = training.learn(batch)
        if training.step % TOLD_EVERY == 0:
            speed = (time.monotonic() - begun) / (training.step - first)
            seen = f"{training.pictures:,} pictures, {speed:.3f} s a step"
            log(folder, f"step {training.step}, loss {loss:.4f}, {seen}")
        if training.step % EVERY == 0 or training.step == steps:
            content = onnx_graphs.fcos(training.weights())
            (folder / f"step{training.step:06d}.onnx").write_bytes(content)
            log(folder, f"step {training.step}: {scores_line(content, pictures)}")
            with whole_file(folder / "checkpoint.pt") as work_file:
                torch.save(training.state(), work_file)


def log(folder: Path, line: str) -> None:
    """Print a line, and append it to train.log."""
    with (folder / "train.log").open("a") as log:
        log.write(line + "\n")
    print(line, flush=True)


@lru_cache(maxsize=8)
def _cells(side: int) -> tuple[Tensor, Tensor]:
    centres, strides = level_of_cells(side, side)
    return torch.from_numpy(centres), torch.from_numpy(strides)


@dataclass
class DetectorTraining:
    """A training under way: the net, the running mean of its weights, the optimiser, and how far it has come."""

    #: Learns.
    net: FaceDetector
    #: The running mean of its weights, which is what is used.
    mean: FaceDetector
    #: AdamW.
    optimiser: torch.optim.Optimizer
    #: All steps.
    steps: int
    #: Steps done.
    step: int = 0
    #: Pictures seen.
    pictures: int = 0
    #: The peak of the learning rate of a tuning, which is one round; None for two rounds from a fresh net.
    peak: float | None = None

    @staticmethod
    def begin(seed: int, steps: int) -> DetectorTraining:
        """A fresh net, drawn from `seed`, to be trained for `steps` steps."""
        torch.manual_seed(seed)
        net, mean = FaceDetector(), FaceDetector()
        for one in (net, mean):
            to: Any = one.to  # torch's stubs know memory_format for tensors alone
            to(memory_format=torch.channels_last)
        mean.load_state_dict(net.state_dict())
        decayed = [p for p in net.parameters() if p.ndim > 1]
        plain = [p for p in net.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": _WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
        return DetectorTraining(net.train(), mean.eval(), torch.optim.AdamW(groups, _RATE), steps)

    def from_net(self, net: FaceDetector) -> DetectorTraining:
        """The training with another net to begin with."""
        for one in (self.net, self.mean):
            one.load_state_dict(net.state_dict())
        return self

    def next_lr(self) -> float:
        """The learning rate of the step to come."""
        warm = min(1.0, (self.step + 1) / max(1, min(_WARM_UP, self.steps // 10)))
        second = int(self.steps * _SECOND)
        peak, first, last = (_RATE, 0, second) if self.step < second else (_SECOND_RATE, second, self.steps)
        if self.peak is not None:
            peak, first, last = self.peak, 0, self.steps
        fall = (1 + math.cos(math.pi * min(1.0, (self.step - first) / (last - first)))) / 2
        return warm * (_LAST_RATE + (peak - _LAST_RATE) * fall)

    def learn(self, batch: CollageBatch) -> float:
        """One step; its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.next_lr()
        pictures = torch.from_numpy(batch.pictures).permute(0, 3, 1, 2).float().div_(255)
        levels = self.net(pictures.contiguous(memory_format=torch.channels_last))
        loss = detection_loss(
            levels, torch.from_numpy(batch.owner), torch.from_numpy(batch.boxes), *_cells(batch.pictures.shape[1])
        )
        self.optimiser.zero_grad()
        backward: Any = loss.backward  # untyped in torch's stubs
        backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), _CLIP)
        self.optimiser.step()
        self.step += 1
        self.pictures += len(batch.pictures)
        self._average()
        return float(loss.detach())

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(_DECAY, self.step / (self.step + 10))
        for mean, now in zip(self.mean.state_dict().values(), self.net.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(now, 1 - keep)

    def weights(self) -> dict[str, F32]:
        """The running mean of the weights, as `networks.fcos` takes them."""
        return {name: tensor.float().numpy().copy() for name, tensor in self.mean.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        return {
            "net": self.net.state_dict(),
            "mean": self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "pictures": self.pictures,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.pictures = state["step"], state["pictures"]
