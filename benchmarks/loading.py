"""How much of a training's time is spent waiting for mini-batches: real ones against one made in advance.

    python benchmarks/loading.py LABELS [--clips CLIPS] [--model 3ddfa-v2-mb05] [--pixels 60] [--rounds 3]

LABELS is a run of `fit`, CLIPS one of `synth-videos`, as for `ddfa-batch train`. Both ways take the same steps of the
meta-joint method with mb05, in turn; printed is the ratio of their times, median over the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from pathlib import Path

import numpy as np

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.pipeline import training_set
from ddfa_batch.pipeline.local_cluster import usable_cores
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.training import host, meta_joint, state
from ddfa_batch.tasks.training.architectures import Architecture
from ddfa_batch.tasks.training.clips import whitening
from ddfa_batch.tasks.training.losses import FaceSpace
from ddfa_batch.tasks.training.mini_batches import make_batch
from ddfa_batch.tasks.training.options import Sampling, TrainConfig
from ddfa_batch.tasks.training.tensor_batch import TensorBatch

STEPS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--model", default="3ddfa-v2-mb05")
    parser.add_argument("--pixels", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    host.prepare("cpu", usable_cores())
    bundle = find_bundle(arguments.model, default_models_folder())
    clips = training_set.read(arguments.labels, None, arguments.clips, bundle).clips
    sampling = Sampling(32, 2)
    stages = ((1.0, arguments.pixels),) if arguments.pixels < sampling.size else ()
    config = TrainConfig(look_ahead=STEPS, iterations=10**6, sampling=sampling, stages=stages)
    batch = make_batch(clips, np.arange(32), sampling, config.augmentation, [0], arguments.pixels)
    mean, std = whitening(batch.params)
    space = FaceSpace.of(load_morphable(bundle), mean, std, sampling.size)

    def seconds(made: bool) -> float:
        training = state.start(Architecture(width=0.5), config, mean, std)
        batches = itertools.repeat(TensorBatch.of(batch, "cpu")) if made else meta_joint.batches_from(clips, config, 0)
        start = time.perf_counter()
        meta_joint.advance(training, space, batches)
        return time.perf_counter() - start

    seconds(True)
    ratios = [seconds(False) / seconds(True) for _ in range(arguments.rounds)]
    print(
        f"{arguments.pixels} px: real mini-batches take ×{statistics.median(ratios):.2f} of the time of one made in "
        f"advance ({min(ratios):.2f} to {max(ratios):.2f} in {arguments.rounds} rounds)"
    )


if __name__ == "__main__":
    main()
