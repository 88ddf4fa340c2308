"""Which loss learns most from the same mini-batches: several nets from one start, side by side, and their errors.

    python benchmarks/distances.py LABELS CLIPS START [--pixels 60] [--iterations 15] [--learning-rate 1e-3] [--seed 11]

LABELS is a run of `fit`, CLIPS one of `synth-videos`, START a checkpoint of a training on them. Every five iterations
of 100 steps: NME of the held-out photographs' labelled points, % of their size, mean of the bins of yaw, and median.
"""

from __future__ import annotations

import argparse
import copy
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from ddfa_batch.pipeline import training_set
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import load_bundle
from ddfa_batch.tasks.training import host, meta_joint, state, validation
from ddfa_batch.tasks.training.branches import Branch
from ddfa_batch.tasks.training.clips import is_validation
from ddfa_batch.tasks.training.losses import FaceSpace
from ddfa_batch.tasks.training.options import Sampling, TrainConfig

#: What is compared: the branch, and how landmarks and distances count.
VARIANTS = {
    "fwpdc, squared, lrr": ("fwpdc", "lrr", "squared"),
    "vdc, squared, lrr": ("vdc", "lrr", "squared"),
    "vdc, plain, lrr": ("vdc", "lrr", "plain"),
    "vdc, plain, lrr+lmk": ("vdc", "lrr+lmk", "plain"),
}
#: Iterations between two looks at the held-out photographs.
EVERY = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("start", type=Path)
    parser.add_argument("--pixels", type=int, default=60)
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=11)
    wanted = parser.parse_args()
    host.prepare("cpu", 1)
    start = state.load(wanted.start)
    bundle = load_bundle(Path(open_run(wanted.labels).run.model.folder))
    found = training_set.read(wanted.labels, None, wanted.clips, bundle).clips
    held = is_validation(found.names, 0.1)
    train, held_out = found.take(~held), found.take(held)
    del found
    space = FaceSpace.of(load_morphable(bundle), np.array(start.mean), np.array(start.std), start.config.sampling.size)
    config = TrainConfig(
        iterations=wanted.iterations,
        learning_rate=wanted.learning_rate,
        seed=wanted.seed,
        stages=((1.0, wanted.pixels),),
        sampling=Sampling(frames=2, size=space.size),
    )
    branches = {}
    for name, (branch, landmarks, distance) in VARIANTS.items():
        own = replace(config, landmarks=landmarks, distance=distance)
        alone = replace(start, net=copy.deepcopy(start.answering), average=None)
        begun = state.start_from(alone, start.architecture, own)
        branches[name] = own, Branch(branch, begun.net.train(), begun.optimiser)
    batches, clock = meta_joint.batches_from(train, config, 0), time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        for i in range(config.iterations):
            for j in range(config.look_ahead):
                batch, rate = next(batches), config.lr_at(i * config.look_ahead + j)
                steps = [pool.submit(branch.step, space, own, batch, rate) for own, branch in branches.values()]
                for step in steps:
                    step.result()
            next(batches)  # meta-test, of which nobody has need here
            if (i + 1) % EVERY and i + 1 != config.iterations:
                continue
            print(f"\nafter {i + 1} iterations, {time.monotonic() - clock:.0f} s")
            for name, (_, branch) in branches.items():
                errors = validation.landmark_nme(branch.net, space, held_out, wanted.pixels)
                mean, bins = validation.mean_of_bins(errors, held_out)
                told = ", ".join(f"{value:.2f}" for value in bins)
                print(f"{name}: {mean:.2f} % ({told}), median {np.median(errors):.2f}", flush=True)


if __name__ == "__main__":
    main()
