"""The state of a training, and its checkpoints: all that is needed to go on to the bit."""

from __future__ import annotations

import copy
import io
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddfa_batch.schemas.arrays import Floats
from ddfa_batch.schemas.errors import TrainingError
from ddfa_batch.tasks.files.atomic import whole_file
from ddfa_batch.tasks.training.architectures import Architecture, RegressorNet, build
from ddfa_batch.tasks.training.options import Augmentation, Sampling, TrainConfig

#: Of a checkpoint; one of another layout is refused.
_FORMAT, _VERSION = "ddfa-batch training", 3


@dataclass(frozen=True)
class Record:
    """One iteration."""

    #: Its number, from 0.
    iteration: int
    #: The branch selected.
    selected: str
    #: Mean loss, by branch.
    losses: dict[str, float]
    #: Vertex error on meta-test, px (RMS), by branch; inf where the branch became infinite or undefined.
    errors: dict[str, float]
    #: Learning rate of its first step.
    rate: float
    #: Side of the images.
    pixels: int = 0
    #: How long it took.
    seconds: float = field(default=0.0, compare=False)
    #: Mean-of-bins NME (%) of the selected branch on the validation part, where it was measured.
    validation: float | None = None


@dataclass(frozen=True)
class TrainingState:
    """A training under way: net and optimiser change in place, everything else by `advance` returning a new one."""

    #: Which net.
    architecture: Architecture
    #: All options.
    config: TrainConfig
    #: (P,), μ of the whitening.
    mean: tuple[float, ...]
    #: (P,), σ of the whitening.
    std: tuple[float, ...]
    #: The net, on its device.
    net: RegressorNet
    #: AdamW, with its moments.
    optimiser: torch.optim.Optimizer
    #: The iterations done.
    history: tuple[Record, ...] = ()
    #: The moving average of the net's weights; None where the config asks for none.
    average: RegressorNet | None = None

    @property
    def iteration(self) -> int:
        """How many iterations are done."""
        return len(self.history)

    @property
    def answering(self) -> RegressorNet:
        """The net that is judged and exported: the average where there is one."""
        return self.net if self.average is None else self.average


def start(
    architecture: Architecture, config: TrainConfig, mean: Floats, std: Floats, device: str = "cpu"
) -> TrainingState:
    """A new training; weights are drawn from the config's seed. mean and std (P,) are the whitening."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        to: Any = build(architecture).to  # torch's stubs know memory_format for tensors alone
        net: RegressorNet = to(device=device, memory_format=torch.channels_last)
    mu, sigma = (tuple(float(x) for x in np.asarray(values, np.float64)) for values in (mean, std))
    return begun_with(net, architecture, config, mu, sigma)


def start_from(other: TrainingState, architecture: Architecture, config: TrainConfig) -> TrainingState:
    """A new training that begins with another's weights, the average's where there is one, and whitening.

    Its optimiser and history begin anew.
    """
    if other.architecture != architecture:
        raise TrainingError(f"The training to start from has the backbone {other.architecture}, not {architecture}.")
    return begun_with(other.answering, architecture, config, other.mean, other.std)


def begun_with(
    net: RegressorNet, architecture: Architecture, config: TrainConfig, mean: tuple[float, ...], std: tuple[float, ...]
) -> TrainingState:
    """A training that begins with these weights and this whitening."""
    optimiser = new_optimiser(net, config)
    return TrainingState(architecture, config, mean, std, net, optimiser, average=_average(net, config))


def _average(net: RegressorNet, config: TrainConfig) -> RegressorNet | None:
    return copy.deepcopy(net) if config.ema else None


def new_optimiser(net: RegressorNet, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over all weights, without moments yet."""
    return torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)


def save(training: TrainingState, path: Path) -> None:
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
        "average": None if training.average is None else training.average.state_dict(),
        "history": [asdict(record) for record in training.history],
    }
    with whole_file(path) as work:
        torch.save(content, work)


def load(path: Path, device: str = "cpu") -> TrainingState:
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


def _restored(content: dict[str, Any], device: str) -> TrainingState:
    parts = content["config"]
    config = TrainConfig(
        **{
            **parts,
            "sampling": Sampling(**parts["sampling"]),
            "augmentation": Augmentation(**parts["augmentation"]),
            "stages": tuple((float(share), int(pixels)) for share, pixels in parts["stages"]),
        }
    )
    mean, std = np.array(content["mean"]), np.array(content["std"])
    training = start(Architecture(**content["architecture"]), config, mean, std, device)
    training.net.load_state_dict(content["net"])
    training.optimiser.load_state_dict(content["optimiser"])
    if training.average is not None:
        training.average.load_state_dict(content["average"])
    torch.set_rng_state(content["torch_rng"].cpu())
    history = tuple(Record(**record) for record in content["history"])
    return replace(training, history=history)


def check_same(training: TrainingState, architecture: Architecture, config: TrainConfig) -> None:
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
