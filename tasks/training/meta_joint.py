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
import io
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddfa_batch.schemas.arrays import I64, Floats
from ddfa_batch.schemas.errors import TrainingError
from ddfa_batch.tasks.files.store import whole_file
from ddfa_batch.tasks.training import losses
from ddfa_batch.tasks.training.architectures import Architecture, Regressor, build
from ddfa_batch.tasks.training.losses import FaceSpace
from ddfa_batch.tasks.training.mini_batches import (
    Augmentation,
    Batch,
    Clips,
    Sampling,
    draw,
    make_batch,
    prefetched,
)

#: The paper's variants (Table 3), and what the branches of an iteration minimise in each.
METHODS = ("vdc", "fwpdc", "vdc-from-fwpdc", "vanilla-joint", "meta-joint")
#: What is done with the 2-D landmarks (section 2.3, Table 3): nothing, a constraint, a head of their own, or both.
LANDMARK_TERMS = ("none", "lmk", "lrr", "lrr+lmk")
#: How VDC and the landmark terms count a distance: squared, as the paper, or as it is.
DISTANCES = ("squared", "plain")
#: Of a checkpoint; one of another layout is refused.
_FORMAT, _VERSION = "ddfa-batch training", 2
#: Network input (BGR − 127.5) / 128, as upstream.
INPUT_MEAN, INPUT_STD = 127.5, 128.0


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training computes.

    method of `METHODS`; landmarks of `LANDMARK_TERMS`; look_ahead: k, steps of an iteration (the paper's best: 100);
    beta of vanilla-joint (the paper's best: 0.5); switch: share of the iterations after which vdc-from-fwpdc changes
    over. distance of `DISTANCES`. learning_rate: AdamW's at its highest, see `rate`; clip: longest gradient.
    diverged: a meta-test vertex error so many times the best yet ends the training. stages: (share, pixels), rising:
    up to that share of the iterations images are so small, and the work less by the square; labels stay those of the
    full size.
    """

    method: str = "meta-joint"
    landmarks: str = "lrr"
    look_ahead: int = 100
    iterations: int = 100
    beta: float = 0.5
    switch: float = 0.5
    distance: str = "squared"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup: int = 100
    clip: float = 5.0
    diverged: float = 20.0
    stages: tuple[tuple[float, int], ...] = ()
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, value, known in (("method", self.method, METHODS), ("landmarks", self.landmarks, LANDMARK_TERMS),
                                   ("distance", self.distance, DISTANCES)):  # fmt: skip
            if value not in known:
                raise TrainingError(f"There is no {name} '{value}'; there are {', '.join(known)}.")
        if list(self.stages) != sorted(self.stages) or any(not 0 < s <= 1 or p < 32 for s, p in self.stages):
            raise TrainingError(f"Stages must be rising shares of up to 1 with 32 pixels or more, not {self.stages}.")
        if self.look_ahead < 1 or self.iterations < 1:
            raise TrainingError("A training needs at least one iteration of at least one step.")

    def branches(self, iteration: int) -> tuple[str, ...]:
        """What the branches of an iteration minimise."""
        if self.method == "meta-joint":
            return ("fwpdc", "vdc")
        if self.method == "vdc-from-fwpdc":
            return ("fwpdc",) if iteration < self.switch * self.iterations else ("vdc",)
        return (self.method,)

    def pixels(self, iteration: int) -> int:
        """Side of the images of an iteration."""
        for share, pixels in self.stages:
            if iteration < share * self.iterations:
                return pixels
        return self.sampling.size

    def rate(self, step: int) -> float:
        """Learning rate of a step: in each stage a linear warm-up, then a line down to 0; peaks halve.

        A net that has learnt faces of one size in pixels must learn anew what is twice as large: with what is left
        of a single line down it cannot.
        """
        ends = [*(math.ceil(share * self.iterations) for share, _ in self.stages), self.iterations]
        starts = [0, *ends[:-1]]
        stage = max(i for i, start in enumerate(starts) if step >= start * self.look_ahead)
        done, total = step - starts[stage] * self.look_ahead, (ends[stage] - starts[stage]) * self.look_ahead
        warm = min(1.0, (done + 1) / max(self.warmup, 1))
        return self.learning_rate * 0.5**stage * warm * max(1 - done / max(total, 1), 0.0)


@dataclass(frozen=True)
class Record:
    """One iteration: the branch selected, and per branch its mean loss and its vertex error on meta-test, px (RMS).

    A branch that became infinite or undefined has error inf. pixels: side of the images; seconds it took; validation:
    mean-of-bins NME (%) of the selected branch on the validation part, where it was measured.
    """

    iteration: int
    selected: str
    losses: dict[str, float]
    errors: dict[str, float]
    rate: float
    pixels: int = 0
    seconds: float = field(default=0.0, compare=False)
    validation: float | None = None


@dataclass(frozen=True)
class Training:
    """A training under way: net and optimiser change in place, everything else by `advance` returning a new one."""

    architecture: Architecture
    config: TrainConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    net: Regressor
    optimiser: torch.optim.Optimizer
    history: tuple[Record, ...] = ()

    @property
    def iteration(self) -> int:
        """How many iterations are done."""
        return len(self.history)


def start(architecture: Architecture, config: TrainConfig, mean: Floats, std: Floats, device: str = "cpu") -> Training:
    """A new training; weights are drawn from the config's seed. mean and std (P,) are the whitening."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        to: Any = build(architecture).to  # torch's stubs know memory_format for tensors alone
        net: Regressor = to(device=device, memory_format=torch.channels_last)
    mu, sigma = (tuple(float(x) for x in np.asarray(values, np.float64)) for values in (mean, std))
    return Training(architecture, config, mu, sigma, net, _optimiser(net, config))


def start_from(other: Training, architecture: Architecture, config: TrainConfig) -> Training:
    """A new training that begins with another's weights and whitening; its optimiser and history begin anew."""
    if other.architecture != architecture:
        raise TrainingError(f"The training to start from has the backbone {other.architecture}, not {architecture}.")
    return Training(architecture, config, other.mean, other.std, other.net, _optimiser(other.net, config))


def _optimiser(net: Regressor, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)


# ----------------------------------------------------------------------------------------- one iteration


def as_input(batch: Batch, device: torch.device) -> Tensor:
    """Crops as the network takes them, (B, 3, size, size)."""
    x = torch.from_numpy(batch.images).to(device).permute(0, 3, 1, 2)
    return (x.float() - INPUT_MEAN) / INPUT_STD


def targets(space: FaceSpace, batch: Batch) -> Tensor:
    """Whitened parameters (B, P) of a batch."""
    params = torch.from_numpy(batch.params).to(space.mean)
    return (params - space.mean) / space.std


def total_loss(space: FaceSpace, config: TrainConfig, branch: str, net: Regressor, batch: Batch) -> Tensor:
    """The branch's loss plus its landmark terms, each scaled to the same size (Algorithm 1, line 8)."""
    z, answer = net(as_input(batch, space.mean.device))
    target, squared = targets(space, batch), config.distance == "squared"
    vdc = losses.vdc if squared else losses.vdc_unsquared
    if branch == "vdc":
        main = vdc(space, z, target) / space.vdc_unit ** (1 if squared else 0.5)
    elif branch == "fwpdc":
        main = losses.fwpdc(space, z, target) / space.fwpdc_unit
    else:
        main = losses.vanilla_joint(space, z, target, config.beta, vdc) / space.fwpdc_unit
    if config.landmarks == "none":
        return main
    labels = torch.from_numpy(batch.landmarks).to(space.mean)
    weights = torch.from_numpy(batch.weights).to(space.mean)
    total = main
    if "lmk" in config.landmarks:
        constraint = losses.landmark_constraint if squared else losses.landmark_distance
        total = total + losses.balanced(main, constraint(space, z, labels, weights))
    if "lrr" in config.landmarks:
        regression = losses.landmark_regression if squared else losses.landmark_regression_distance
        total = total + losses.balanced(main, regression(answer, labels, weights, space.size))
    return total


def vertex_error(space: FaceSpace, net: Regressor, batch: Batch) -> float:
    """Root of the mean squared distance of all vertices of a batch, px, with running statistics."""
    was_training = net.training
    net.eval()
    with torch.no_grad():
        z, _ = net(as_input(batch, space.mean.device))
        error = float(losses.vdc(space, z, targets(space, batch)).sqrt())
    net.train(was_training)
    return error if math.isfinite(error) else math.inf


@dataclass
class Branch:
    """One look-ahead: its own net and optimiser, and the losses of its steps."""

    name: str
    net: Regressor
    optimiser: torch.optim.Optimizer
    losses: list[float] = field(default_factory=list)

    def step(self, space: FaceSpace, config: TrainConfig, batch: Batch, rate: float) -> None:
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
        else:
            self.losses[-1] = math.inf


def _fork(training: Training, names: tuple[str, ...]) -> list[Branch]:
    """A branch for each name; each but the last with copies of the net and of the optimiser's state."""
    branches = []
    for name in names[:-1]:
        net = copy.deepcopy(training.net)
        optimiser = _optimiser(net, training.config)
        optimiser.load_state_dict(copy.deepcopy(training.optimiser.state_dict()))
        branches.append(Branch(name, net, optimiser))
    return [*branches, Branch(names[-1], training.net, training.optimiser)]


def advance(training: Training, space: FaceSpace, batches: Iterator[Batch]) -> Training:
    """One iteration (Algorithm 1, lines 2 to 10); takes k meta-train batches and one of meta-test from `batches`.

    Raises `TrainingError` where every branch has left the finite numbers, or the vertex error has exploded.
    """
    config, iteration, begun = training.config, training.iteration, time.monotonic()
    branches = _fork(training, config.branches(iteration))
    first = iteration * config.look_ahead
    for branch in branches:
        branch.net.train()
    with _side_by_side(len(branches)) as pools:
        steps = []
        for j in range(config.look_ahead):
            batch = next(batches)
            steps += [pool.submit(branch.step, space, config, batch, config.rate(first + j))
                      for pool, branch in zip(pools, branches, strict=True)]  # fmt: skip
        for step in steps:
            step.result()
    test = next(batches)
    errors = {b.name: vertex_error(space, b.net, test) if math.isfinite(b.losses[-1]) else math.inf for b in branches}
    best = min(branches, key=lambda b: errors[b.name])
    _check(training, errors[best.name])
    record = Record(iteration, best.name, {b.name: float(np.mean(b.losses)) for b in branches}, errors,
                    config.rate(first), config.pixels(iteration), time.monotonic() - begun)  # fmt: skip
    return Training(training.architecture, config, training.mean, training.std, best.net, best.optimiser,
                    (*training.history, record))  # fmt: skip


@contextmanager
def _side_by_side(n: int) -> Iterator[list[ThreadPoolExecutor]]:
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


def _check(training: Training, error: float) -> None:
    so_far = [record.errors[record.selected] for record in training.history]
    limit = training.config.diverged * min(so_far, default=math.inf)
    if not math.isfinite(error) or error > limit:
        was = f"{min(so_far):.3g} px at its best" if so_far else "finite at no time"
        raise TrainingError(
            f"The training diverged in iteration {training.iteration}: its vertex error is {error:.3g} px, was {was}. "
            "Go on from the last checkpoint with a smaller learning rate, or look for wrong labels."
        )


# ------------------------------------------------------------------------------------------- many of them


def batches_from(clips: Clips, config: TrainConfig, iteration: int) -> Iterator[Batch]:
    """All batches from an iteration on, made ahead in a thread: k of meta-train, one of meta-test, and so on."""
    per = config.look_ahead + 1

    @lru_cache(maxsize=2)
    def drawn(i: int) -> tuple[I64, I64]:
        return draw(clips.rarity, config.look_ahead, config.sampling.stills, [config.seed, i])

    def make(number: int) -> Batch:
        i, j = divmod(number, per)
        train, test = drawn(i)
        rows = train[j] if j < config.look_ahead else test
        return make_batch(clips, rows, config.sampling, config.augmentation, [config.seed, i, j], config.pixels(i))

    return prefetched(make, range(iteration * per, config.iterations * per))


def run(
    training: Training,
    clips: Clips,
    space: FaceSpace,
    report: Callable[[Record], None] = lambda record: None,
    *,
    judge: Callable[[Training], float | None] = lambda training: None,
    keep: Callable[[Training, bool], None] = lambda training, best: None,
    every: int = 1,
) -> Training:
    """Train to the config's last iteration; `report` hears of each.

    After every so many, and the last, `judge` measures the training on a validation part, then `keep` is to save it
    and told whether it is the best so far of those that saw images of the full size.
    """
    batches = batches_from(clips, training.config, training.iteration)
    while training.iteration < training.config.iterations:
        training = advance(training, space, batches)
        due = training.iteration == training.config.iterations or training.iteration % every == 0
        if due:
            training = _judged(training, judge(training))
            keep(training, _is_best(training))
        report(training.history[-1])
    return training


def _judged(training: Training, validation: float | None) -> Training:
    return replace(training, history=(*training.history[:-1], replace(training.history[-1], validation=validation)))


def _is_best(training: Training) -> bool:
    """Whether the last iteration has the least validation error of those with images of the full size."""
    full = [record for record in training.history if record.pixels == training.config.sampling.size]
    judged = [record.validation for record in full if record.validation is not None]
    last = training.history[-1]
    return last.validation is not None and last in full and last.validation <= min(judged)


# ------------------------------------------------------------------------------------------- checkpoints


def save(training: Training, path: Path) -> None:
    """Write all of a training to `path`, visible only when whole."""
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "architecture": asdict(training.architecture),
        "config": asdict(training.config),
        "mean": list(training.mean),
        "std": list(training.std),
        "net": training.net.state_dict(),
        "optimiser": training.optimiser.state_dict(),
        "torch_rng": torch.get_rng_state(),
        "history": [asdict(record) for record in training.history],
    }
    with whole_file(path) as work:
        torch.save(content, work)


def load(path: Path, device: str = "cpu") -> Training:
    """Read a training back, and set torch's generator to where it was. Nothing in the file is executed.

    Raises `TrainingError` for a file that is no checkpoint, is truncated, or has another layout.
    """
    try:
        content = torch.load(io.BytesIO(path.read_bytes()), map_location=device, weights_only=True)
    except OSError as fault:
        raise TrainingError(f"{path} cannot be read ({fault.strerror}).") from None
    except Exception as fault:  # torch raises a different kind for every way a file can be wrong
        reason = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise TrainingError(f"{path} is not a whole checkpoint ({reason[:200]}).") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise TrainingError(f"{path} is not a checkpoint of a ddfa-batch training.")
    if content.get("version") != _VERSION:
        raise TrainingError(
            f"{path} is a checkpoint of version {content.get('version')!r}; this ddfa-batch reads {_VERSION}."
        )
    try:
        return _restored(content, device)
    except (KeyError, TypeError, ValueError, RuntimeError) as fault:
        raise TrainingError(f"{path} is a checkpoint of another layout ({str(fault)[:200]}).") from None


def _restored(content: dict[str, Any], device: str) -> Training:
    config = content["config"]
    parts = {"sampling": Sampling(**config["sampling"]), "augmentation": Augmentation(**config["augmentation"]),
             "stages": tuple((float(share), int(pixels)) for share, pixels in config["stages"])}  # fmt: skip
    training = start(
        Architecture(**content["architecture"]), TrainConfig(**{**config, **parts}),
        np.array(content["mean"]), np.array(content["std"]), device,
    )  # fmt: skip
    training.net.load_state_dict(content["net"])
    training.optimiser.load_state_dict(content["optimiser"])
    torch.set_rng_state(content["torch_rng"].cpu())
    history = tuple(Record(**record) for record in content["history"])
    return Training(training.architecture, training.config, training.mean, training.std, training.net,
                    training.optimiser, history)  # fmt: skip


def check_same(training: Training, architecture: Architecture, config: TrainConfig) -> None:
    """Raise `TrainingError` naming the options in which a checkpoint differs from what is asked for now."""
    pairs: list[tuple[Architecture | TrainConfig, Architecture | TrainConfig]] = [
        (training.architecture, architecture),
        (training.config, config),
    ]
    differing = [
        f"{f.name} ({getattr(old, f.name)!r}, now {getattr(new, f.name)!r})"
        for old, new in pairs
        for f in fields(old)
        if getattr(old, f.name) != getattr(new, f.name)
    ]
    if differing:
        raise TrainingError(f"The checkpoint is of a training with other options: {', '.join(differing)}.")
