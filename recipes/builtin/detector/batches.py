"""The detector's mini-batches: collages, made ahead in a process of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ddfa_batch.schemas.arrays import F32, I64, U8
from recipes.builtin.detector.collage import collage
from recipes.builtin.detector.network import owners
from recipes.builtin.detector.pictures import Sources

#: (side in pixels, pictures) of batch after batch: about as many pixels each, and faces up to the largest side. First
#: many small pictures; from step `_LATER` on more large ones, which alone show large faces as rare as they are.
BATCHES = ((256, 24), (256, 24), (384, 10), (256, 24), (256, 24), (640, 4), (256, 24), (384, 10))
LATER_BATCHES = ((256, 24), (448, 6), (448, 6), (640, 3))
_LATER = 3000
#: Batches made ahead, and how long one may take, seconds.
_AHEAD, _PATIENCE = 6, 600.0


@dataclass(frozen=True)
class CollageBatch:
    """B collages, with what each of their N cells answers for."""

    #: (B, S, S, 3), BGR.
    pictures: U8
    #: (B, N), of the cells, as `network.owners` tells.
    owner: I64
    #: (B, K, 4), pixels, padded with 0.
    boxes: F32


def make_batch(sources: Sources, seed: int, step: int, tuning: bool = False) -> CollageBatch:
    """The batch of a step: a function of the seed and the step alone; of all sizes from the first where `tuning`."""
    batches = LATER_BATCHES if tuning or step >= _LATER else BATCHES
    side, n = batches[step % len(batches)]
    rng = np.random.default_rng([seed, step])
    drawn = [collage(sources, side, rng) for _ in range(n)]
    boxes = np.zeros((n, max(1, *(len(b) for _, b, _ in drawn)), 4), np.float32)
    for row, (_, found, _) in zip(boxes, drawn, strict=True):
        row[: len(found)] = found
    owner = np.stack([owners(b, ignored, side, side) for _, b, ignored in drawn])
    return CollageBatch(np.stack([picture for picture, _, _ in drawn]), owner, boxes)


class CollageBatches(Dataset[CollageBatch]):
    """All batches of a training, by step."""

    def __init__(self, sources: Sources, seed: int, tuning: bool) -> None:
        self._sources, self._seed, self._tuning = sources, seed, tuning

    def __getitem__(self, step: int) -> CollageBatch:
        return make_batch(self._sources, self._seed, step, self._tuning)


def batches(sources: Sources, seed: int, first: int, last: int, tuning: bool = False) -> Iterator[CollageBatch]:
    """The batches of steps first … last − 1, made ahead in a process of its own, which shares the sources' memory."""
    loader: DataLoader[CollageBatch] = DataLoader(
        CollageBatches(sources, seed, tuning),
        batch_size=None,
        sampler=range(first, last),
        num_workers=1,
        prefetch_factor=_AHEAD,
        worker_init_fn=_one_thread,
        multiprocessing_context="fork",
        timeout=_PATIENCE,
        generator=torch.Generator(),  # else the loader draws from the one that draws weights
    )
    return iter(loader)


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)
