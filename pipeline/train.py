"""`train`: labels and pictures → clips → the paper's optimisation → a model bundle that `process --model` accepts.

OUT gets train.json (everything asked for, written first), checkpoint.pt (all of a training's state), best.pt (where
the validation part was nearest), history.json, and model/ (the bundle). The same command goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ddfa_batch.pipeline import training_set
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.errors import RunFolderError, TrainingError
from ddfa_batch.tasks.bundles.model_bundle import Bundle, load_morphable
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.training import export, host, meta_joint, validation
from ddfa_batch.tasks.training.architectures import Architecture, mac_count, parameter_count
from ddfa_batch.tasks.training.losses import FaceSpace
from ddfa_batch.tasks.training.meta_joint import Record, TrainConfig, Training
from ddfa_batch.tasks.training.mini_batches import Clips, is_validation, make_batch, whitening

ABOUT, CHECKPOINT, BEST, HISTORY, MODEL = "train.json", "checkpoint.pt", "best.pt", "history.json", "model"
#: Faces from whose augmented frames the whitening is taken.
_WHITENING = 4096


@dataclass(frozen=True)
class Wanted:
    """A training as asked for. None of device, threads and every changes what is computed but in the last bits.

    labels: a fit, process or synth-videos run; images: the folder its keys are relative to, if it was moved; clips: a
    synth-videos run of the same pictures. bundle: the face model, and the detectors of the bundle that is written.
    validation: share of the pictures held out, by the sha256 of their keys. every: iterations between checkpoints.
    """

    labels: Path
    out: Path
    bundle: Bundle
    architecture: Architecture
    config: TrainConfig
    images: Path | None = None
    clips: Path | None = None
    start: Path | None = None
    validation: float = 0.1
    device: str = "auto"
    threads: int = 1
    every: int = 5


@dataclass(frozen=True)
class Progress:
    """What a training tells at its start: its clips, what was left out, where it runs, the net's size and work."""

    n_training: int
    n_validation: int
    notes: tuple[str, ...]
    device: str
    resumed: int
    parameters: int
    macs: int


@dataclass(frozen=True)
class Outcome:
    """The bundle's folder, the iteration it is of, and its error on the validation part (%, None without one)."""

    model: Path
    iteration: int
    validation: float | None


def train(
    wanted: Wanted,
    begun: Callable[[Progress], None] = lambda progress: None,
    report: Callable[[Record], None] = lambda record: None,
) -> Outcome:
    """Train to the end, from the last checkpoint in `wanted.out` if there is one, and export the best.

    Raises `InputError` for labels that cannot be trained on, `RunFolderError` where OUT holds another training,
    `TrainingError` for a damaged checkpoint or a training that diverges.
    """
    about = _about(wanted)
    _claim(wanted.out, about)
    device = host.prepare(wanted.device, wanted.threads)
    found = training_set.read(wanted.labels, wanted.images, wanted.clips, wanted.bundle)
    held, notes = is_validation(found.clips.names, wanted.validation), found.notes
    training_part, validation_part = found.clips.take(~held), found.clips.take(held)
    del found  # gigabytes, of which the parts are copies
    if len(training_part) < 2:
        raise TrainingError(f"{wanted.labels} leaves {len(training_part)} faces to train on; at least 2 are needed.")
    training = _training(wanted, training_part, device)
    net, size = wanted.architecture, wanted.config.sampling.size
    begun(Progress(len(training_part), len(validation_part), notes, device, training.iteration,
                   parameter_count(net), mac_count(net, size)))  # fmt: skip
    space = FaceSpace.of(load_morphable(wanted.bundle), np.array(training.mean), np.array(training.std), size,
                         device=device)  # fmt: skip

    def judge(now: Training) -> float | None:
        if not len(validation_part):
            return None
        pixels = wanted.config.pixels(now.iteration - 1)
        errors = validation.landmark_nme(now.net, space, validation_part, pixels)
        return validation.mean_of_bins(errors, validation_part)[0]

    def keep(now: Training, best: bool) -> None:
        meta_joint.save(now, wanted.out / CHECKPOINT)
        if best:
            meta_joint.save(now, wanted.out / BEST)
        _write_history(wanted.out, now)

    training = meta_joint.run(training, training_part, space, report, judge=judge, keep=keep, every=wanted.every)
    best = meta_joint.load(wanted.out / BEST) if (wanted.out / BEST).exists() else training
    export.to_bundle(best, load_morphable(wanted.bundle), _origin(wanted, best),
                     export.Detectors.of_bundle(wanted.bundle), wanted.out / MODEL)  # fmt: skip
    return Outcome(wanted.out / MODEL, best.iteration, best.history[-1].validation)


def _about(wanted: Wanted) -> dict[str, Any]:
    """Everything that decides the result, as train.json holds it."""
    runs = {"labels": wanted.labels, "clips": wanted.clips}
    return {
        "format": "ddfa-batch training",
        "version": version("ddfa-batch"),
        "model": {"name": wanted.bundle.manifest.name, "digest": wanted.bundle.digest},
        "data": {name: None if path is None else open_run(path).run.identity for name, path in runs.items()},
        "start": None if wanted.start is None else hashlib.sha256(wanted.start.read_bytes()).hexdigest(),
        "validation": {"share": wanted.validation, "rule": "sha256 of the key, first 8 bytes, below share · 2^64"},
        "architecture": asdict(wanted.architecture),
        "config": asdict(wanted.config),
    }


def _claim(out: Path, about: dict[str, Any]) -> None:
    """Write train.json, or make sure that the one there is of the same training."""
    path = out / ABOUT
    about = json.loads(json.dumps(about))
    if not path.exists():
        if (out / store.RUN).exists():
            raise RunFolderError(f"{out} holds a run; give the training a folder of its own.")
        store.write_json(path, about)
        return
    there, now = (dict(_flat(content)) for content in (store.read_json(path), about))
    names = [name for name in sorted(there.keys() | now.keys()) if there.get(name) != now.get(name)]
    if names:
        told = ", ".join(f"{name} ({there.get(name)!r}, now {now.get(name)!r})" for name in names[:5])
        raise RunFolderError(f"{out} holds a training with other options: {told}; give another folder.")


def _flat(content: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in content.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return pairs


def _training(wanted: Wanted, clips: Clips, device: str) -> Training:
    path = wanted.out / CHECKPOINT
    if path.exists():
        training = meta_joint.load(path, device)
        meta_joint.check_same(training, wanted.architecture, wanted.config)
        return training
    if wanted.start is not None:
        return meta_joint.start_from(meta_joint.load(wanted.start, device), wanted.architecture, wanted.config)
    rng = np.random.default_rng([wanted.config.seed])
    rows = rng.integers(len(clips), size=max(1, _WHITENING // wanted.config.sampling.frames))
    sample = make_batch(clips, rows, wanted.config.sampling, wanted.config.augmentation, [wanted.config.seed], 1)
    mean, std = whitening(sample.params)
    return meta_joint.start(wanted.architecture, wanted.config, mean, std, device)


def _write_history(out: Path, training: Training) -> None:
    store.write_json(out / HISTORY, {
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(sum(record.seconds for record in training.history), 1),
        "history": [asdict(record) for record in training.history],
    })  # fmt: skip


def _origin(wanted: Wanted, training: Training) -> export.Origin:
    manifest, config = wanted.bundle.manifest, training.config
    what = f"{training.architecture.kind} x{training.architecture.width:g}, {config.method}, {config.landmarks}"
    samples = config.look_ahead * training.iteration * config.sampling.stills * config.sampling.frames
    return export.Origin(
        name=wanted.out.resolve().name, version="1",
        licence=f"Weights: as the training data's terms allow. Face model and detectors: {manifest.licence}",
        provenance=f"Trained by ddfa-batch {version('ddfa-batch')} on {wanted.labels.name}: {what}, "
        f"{samples:,} samples, seed {config.seed}; face model and detectors of {manifest.name}.",
    )  # fmt: skip
