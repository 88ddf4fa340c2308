"""Algorithm 1: look ahead with fWPDC and with VDC from one state, go on from whichever ends nearer the truth.

An iteration is k mini-batches of meta-train and one, disjoint, of meta-test. Both branches start from the same
weights, running statistics and optimiser state, see the same k batches, and are judged with running statistics on
the same meta-test batch. The winner's weights *and* optimiser state are the next iteration's start; the loser's
leave no trace. The ablations take the same batches with one branch only, so all methods see the same data in the
same number of steps; the meta-joint method does twice the work for it.

Batches are a function of the seed and the iteration's number, the learning rate one of the step: a checkpoint that
holds the iteration's number holds the data's position.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ddfa_batch.schemas.arrays import I64
from ddfa_batch.schemas.errors import TrainingError
from ddfa_batch.tasks.training import device_batches, distractors
from ddfa_batch.tasks.training.branches import Branch, side_by_side, vertex_error
from ddfa_batch.tasks.training.clips import Clips
from ddfa_batch.tasks.training.device_batches import DeviceClips
from ddfa_batch.tasks.training.losses import FaceSpace
from ddfa_batch.tasks.training.mini_batches import draw, make_batch, prefetched
from ddfa_batch.tasks.training.options import TrainConfig
from ddfa_batch.tasks.training.state import Record, TrainingState, new_optimiser
from ddfa_batch.tasks.training.tensor_batch import TensorBatch


def batches_from(
    clips: Clips, config: TrainConfig, iteration: int, device: str = "cpu", others: Clips | None = None
) -> Iterator[TensorBatch]:
    """All batches from an iteration on, made ahead in a thread: k of meta-train, one of meta-test, and so on.

    Those of meta-train have crops of `others`, which show no face, beside them.
    """
    per = config.look_ahead + 1
    made = _maker(clips, config, device)
    made_others = None if others is None else _maker(others, config, device)

    @lru_cache(maxsize=2)
    def drawn(i: int) -> tuple[I64, I64]:
        return draw(clips.pose_weights, config.look_ahead, config.sampling.stills, [config.seed, i])

    def make(number: int) -> TensorBatch:
        i, j = divmod(number, per)
        train, test = drawn(i)
        seed, pixels = [config.seed, i, j], config.pixels(i)
        if j == config.look_ahead:
            return made(test, seed, pixels)
        batch = made(train[j], seed, pixels)
        if others is None or made_others is None:
            return batch
        chosen = distractors.rows(len(others), config.sampling.stills, seed)
        return replace(batch, distractors=made_others(chosen, [*seed, 1], pixels).crops)

    return prefetched(make, range(iteration * per, config.iterations * per))


def _maker(clips: Clips, config: TrainConfig, device: str) -> Callable[[I64, Sequence[int], int], TensorBatch]:
    """What makes a batch of clips' rows, a seed and a side in pixels."""
    if config.pixels_made == "device":
        there = DeviceClips.of(clips, device)
        return lambda rows, seed, pixels: device_batches.make_batch(
            there, rows, config.sampling, config.augmentation, seed, pixels
        )
    return lambda rows, seed, pixels: TensorBatch.of(
        make_batch(clips, rows, config.sampling, config.augmentation, seed, pixels), device
    )


def run(
    training: TrainingState,
    clips: Clips,
    space: FaceSpace,
    report: Callable[[Record], None] = lambda record: None,
    *,
    others: Clips | None = None,
    judge: Callable[[TrainingState], float | None] = lambda training: None,
    keep: Callable[[TrainingState, bool], None] = lambda training, best: None,
    every: int = 1,
) -> TrainingState:
    """Train to the config's last iteration; `report` hears of each. `others` show no face.

    After every so many, and the last, `judge` measures the training on a validation part, then `keep` is to save it
    and told whether it is the best so far of those that saw images of the full size.
    """
    batches = batches_from(clips, training.config, training.iteration, space.mean.device.type, others)
    while training.iteration < training.config.iterations:
        training = advance(training, space, batches)
        due = training.iteration == training.config.iterations or training.iteration % every == 0
        if due:
            training = _judged(training, judge(training))
            keep(training, _is_best(training))
        report(training.history[-1])
    return training


def _judged(training: TrainingState, validation: float | None) -> TrainingState:
    return replace(training, history=(*training.history[:-1], replace(training.history[-1], validation=validation)))


def _is_best(training: TrainingState) -> bool:
    """Whether the last iteration has the least validation error of those with images of the full size."""
    full = [record for record in training.history if record.pixels == training.config.sampling.size]
    judged = [record.validation for record in full if record.validation is not None]
    last = training.history[-1]
    return last.validation is not None and last in full and last.validation <= min(judged)


def advance(training: TrainingState, space: FaceSpace, batches: Iterator[TensorBatch]) -> TrainingState:
    """One iteration (Algorithm 1, lines 2 to 10); takes k meta-train batches and one of meta-test from `batches`.

    Raises `TrainingError` where every branch has left the finite numbers, or the vertex error has exploded.
    """
    config, iteration, begun = training.config, training.iteration, time.monotonic()
    branches = _fork(training, config.branches(iteration))
    first = iteration * config.look_ahead
    for branch in branches:
        branch.net.train()
    with side_by_side(len(branches)) as pools:
        steps = []
        for j in range(config.look_ahead):
            batch = next(batches)
            for pool, branch in zip(pools, branches, strict=True):
                steps.append(pool.submit(branch.step, space, config, batch, config.lr_at(first + j)))
        for step in steps:
            step.result()
    test = next(batches)
    errors = {b.name: vertex_error(space, b.net, test) if math.isfinite(b.losses[-1]) else math.inf for b in branches}
    best = min(branches, key=lambda b: errors[b.name])
    _check(training, errors[best.name])
    record = Record(
        iteration=iteration,
        selected=best.name,
        losses={b.name: float(np.mean(b.losses)) for b in branches},
        errors=errors,
        rate=config.lr_at(first),
        pixels=config.pixels(iteration),
        seconds=time.monotonic() - begun,
    )
    history = (*training.history, record)
    return replace(training, net=best.net, optimiser=best.optimiser, average=best.average, history=history)


def _fork(training: TrainingState, names: tuple[str, ...]) -> list[Branch]:
    """A branch for each name; each but the last with copies of the net and of the optimiser's state."""
    branches = []
    for name in names[:-1]:
        net = copy.deepcopy(training.net)
        optimiser = new_optimiser(net, training.config)
        optimiser.load_state_dict(copy.deepcopy(training.optimiser.state_dict()))
        branches.append(Branch(name, net, optimiser, copy.deepcopy(training.average)))
    return [*branches, Branch(names[-1], training.net, training.optimiser, training.average)]


def _check(training: TrainingState, error: float) -> None:
    so_far = [record.errors[record.selected] for record in training.history]
    limit = training.config.diverged * min(so_far, default=math.inf)
    if not math.isfinite(error) or error > limit:
        was = f"{min(so_far):.3g} px at its best" if so_far else "finite at no time"
        raise TrainingError(
            f"The training diverged in iteration {training.iteration}: its vertex error is {error:.3g} px, was {was}. "
            "Go on from the last checkpoint with a smaller learning rate, or look for wrong labels."
        )
