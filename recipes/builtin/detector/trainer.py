"""The training of the face detector: batches of collages, steps, and a state that can be taken up again."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from queue import Empty, Full
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ddfa_batch.schemas.arrays import F32, I64, U8
from ddfa_batch.schemas.errors import TrainingError
from recipes.builtin.detector.collage import Sources, collage
from recipes.builtin.detector.network import FaceDetector, detection_loss, level_of_cells, owners

#: (side in pixels, pictures) of batch after batch: about as many pixels each, and faces up to the largest side. First
#: many small pictures; from step `_LATER` on more large ones, which alone show large faces as rare as they are.
BATCHES = ((256, 24), (256, 24), (384, 10), (256, 24), (256, 24), (640, 4), (256, 24), (384, 10))
LATER_BATCHES = ((256, 24), (448, 6), (448, 6), (640, 3))
_LATER = 3000
#: Peak of the learning rate, the steps to reach it (a tenth of them all, at most), and what it falls to by a cosine.
_RATE, _WARM_UP, _LAST_RATE = 4e-3, 200, 1e-5
#: What a second round begins with, and the share of all steps after which it does.
_SECOND_RATE, _SECOND = 2e-3, 0.7
_WEIGHT_DECAY = 1e-2
#: Largest norm of a step's gradient.
_CLIP = 10.0
#: How much of the running mean of the weights a step keeps, at most; it is the mean that is used.
_DECAY = 0.998
#: Batches made ahead, and how long one may take, seconds.
_AHEAD, _PATIENCE = 6, 600.0


@dataclass(frozen=True)
class Batch:
    """Pictures (B, S, S, 3) BGR uint8, owners (B, N) of their cells, and boxes (B, K, 4) in pixels, padded with 0."""

    pictures: U8
    owner: I64
    boxes: F32


def make_batch(sources: Sources, seed: int, step: int) -> Batch:
    """The batch of a step: a function of the seed and the step alone."""
    batches = BATCHES if step < _LATER else LATER_BATCHES
    side, n = batches[step % len(batches)]
    rng = np.random.default_rng([seed, step])
    drawn = [collage(sources, side, rng) for _ in range(n)]
    boxes = np.zeros((n, max(1, *(len(b) for _, b, _ in drawn)), 4), np.float32)
    for row, (_, found, _) in zip(boxes, drawn, strict=True):
        row[: len(found)] = found
    owner = np.stack([owners(b, ignored, side, side) for _, b, ignored in drawn])
    return Batch(np.stack([picture for picture, _, _ in drawn]), owner, boxes)


@contextmanager
def loader(sources: Sources, seed: int, first: int, last: int) -> Iterator[Iterator[Batch]]:
    """The batches of steps first … last − 1, made ahead in a process of its own."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue(_AHEAD)
    worker = context.Process(target=_work, args=(sources, seed, first, last, queue), daemon=True)
    worker.start()

    def batches() -> Iterator[Batch]:
        for _ in range(first, last):
            try:
                yield queue.get(timeout=_PATIENCE)
            except Empty:
                raise TrainingError("The process that makes the detector's training pictures ended.") from None

    try:
        yield batches()
    finally:
        worker.terminate()
        worker.join()


def _work(sources: Sources, seed: int, first: int, last: int, queue: Any) -> None:
    cv2.setNumThreads(0)
    parent = os.getppid()
    for step in range(first, last):
        batch = make_batch(sources, seed, step)
        while os.getppid() == parent:  # killed, it ends nobody
            try:
                queue.put(batch, timeout=1.0)
                break
            except Full:
                continue


@lru_cache(maxsize=8)
def _cells(side: int) -> tuple[Tensor, Tensor]:
    centres, strides = level_of_cells(side, side)
    return torch.from_numpy(centres), torch.from_numpy(strides)


@dataclass
class Training:
    """A training under way: the net, the running mean of its weights, the optimiser, and how far it has come."""

    net: FaceDetector
    mean: FaceDetector
    optimiser: torch.optim.Optimizer
    steps: int
    step: int = 0
    pictures: int = 0

    @staticmethod
    def begin(seed: int, steps: int) -> Training:
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
        return Training(net.train(), mean.eval(), torch.optim.AdamW(groups, _RATE), steps)

    def rate(self) -> float:
        """The learning rate of the step to come."""
        warm = min(1.0, (self.step + 1) / max(1, min(_WARM_UP, self.steps // 10)))
        second = int(self.steps * _SECOND)
        peak, first, last = (_RATE, 0, second) if self.step < second else (_SECOND_RATE, second, self.steps)
        fall = (1 + math.cos(math.pi * min(1.0, (self.step - first) / (last - first)))) / 2
        return warm * (_LAST_RATE + (peak - _LAST_RATE) * fall)

    def learn(self, batch: Batch) -> float:
        """One step; its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        pictures = torch.from_numpy(batch.pictures).permute(0, 3, 1, 2).float().div_(255)
        levels = self.net(pictures.contiguous(memory_format=torch.channels_last))
        loss = detection_loss(
            levels, torch.from_numpy(batch.owner), torch.from_numpy(batch.boxes), *_cells(batch.pictures.shape[1])
        )
        self.optimiser.zero_grad()
        loss.backward()
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
        return {"net": self.net.state_dict(), "mean": self.mean.state_dict(), "optimiser": self.optimiser.state_dict(),
                "step": self.step, "pictures": self.pictures}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.pictures = state["step"], state["pictures"]
