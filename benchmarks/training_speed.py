"""How many crops a second a machine makes for a training, and learns from.

    python benchmarks/training_speed.py LABELS [--model builtin] [--device auto] [--stills 512] [--steps 20]

LABELS is a run of `fit`, as for `ddfa-batch train`. Mini-batches are made on the host and on the device; a net of each
width learns from one made in advance, in each precision, with VDC and the landmark terms.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.pipeline import training_set
from ddfa_batch.pipeline.local_cluster import usable_cores
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.training import device_batches, host, mini_batches, state
from ddfa_batch.tasks.training.architectures import Architecture
from ddfa_batch.tasks.training.branches import Branch
from ddfa_batch.tasks.training.clips import whitening
from ddfa_batch.tasks.training.device_batches import DeviceClips
from ddfa_batch.tasks.training.losses import FaceSpace
from ddfa_batch.tasks.training.options import PRECISIONS, Augmentation, Sampling, TrainConfig
from ddfa_batch.tasks.training.tensor_batch import TensorBatch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--stills", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    device = host.prepare(arguments.device, usable_cores())
    bundle = find_bundle(arguments.model, default_models_folder())
    clips = training_set.read(arguments.labels, None, None, bundle).clips
    sampling, augmentation = Sampling(arguments.stills, 1), Augmentation()
    rows = np.random.default_rng(0).integers(len(clips), size=arguments.stills)
    there = DeviceClips.of(clips, device)
    batch = device_batches.make_batch(there, rows, sampling, augmentation, [0])
    mean, std = whitening(batch.params.cpu().numpy())
    space = FaceSpace.of(load_morphable(bundle), mean, std, sampling.size, device=device)

    def told(what: str, step: Callable[[int], object]) -> None:
        for i in range(3):
            step(i)
        _wait(device)
        start = time.perf_counter()
        for i in range(arguments.steps):
            step(i)
        _wait(device)
        print(f"{what}: {arguments.stills * arguments.steps / (time.perf_counter() - start):,.0f} crops/s", flush=True)

    def on_host(i: int) -> TensorBatch:
        return TensorBatch.of(mini_batches.make_batch(clips, rows, sampling, augmentation, [i]), device)

    told("made on the host", on_host)
    told(f"made on {device}", lambda i: device_batches.make_batch(there, rows, sampling, augmentation, [i]))
    for width in (0.5, 1.0):
        for precision in PRECISIONS:
            config = TrainConfig(method="vdc", landmarks="lrr+lmk", distance="plain", ema=0.998, precision=precision)
            begun = state.start(Architecture(width=width), config, mean, std, device)
            branch = Branch("vdc", begun.net.train(), begun.optimiser, begun.average)
            told(f"learnt, x{width:g}, {precision}", lambda _, b=branch, c=config: b.step(space, c, batch, 1e-4))


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
