"""`train`: labels and pictures → clips → the paper's optimisation → a model bundle that `process --model` accepts.

OUT gets train.json (everything asked for, written first), checkpoint.pt (all of a training's state), best.pt (where
the validation part was nearest), history.json, and model/ (the bundle). The same command goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ddfa_batch.pipeline import training_set
from ddfa_batch.pipeline.differences import differing
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.decoding import Document, decode_object
from ddfa_batch.schemas.errors import RunFolderError, TrainingError
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import atomic, store
from ddfa_batch.tasks.files.checksums import sha256
from ddfa_batch.tasks.training import distractors, export, host, meta_joint, state, validation
from ddfa_batch.tasks.training.architectures import Architecture, mac_count, parameter_count
from ddfa_batch.tasks.training.clips import Clips, is_validation, whitening
from ddfa_batch.tasks.training.losses import FaceSpace
from ddfa_batch.tasks.training.mini_batches import MiniBatch, make_batch
from ddfa_batch.tasks.training.new_head import with_new_head
from ddfa_batch.tasks.training.options import TrainConfig
from ddfa_batch.tasks.training.state import Record, TrainingState
from ddfa_batch.tasks.training.tensor_batch import TensorBatch
from ddfa_batch.tasks.training.thawing import thawed

ABOUT, CHECKPOINT, BEST, HISTORY, MODEL = "train.json", "checkpoint.pt", "best.pt", "history.json", "model"
#: Faces from whose augmented frames the whitening is taken.
_WHITENING = 4096
#: Frames on which the norms of a model's network are measured: at once, so that they take half a gigabyte.
_MEASURED = 256
#: Frames to which a new head is fitted.
_FITTED = 8192
#: Of one clip, at most.
_PER_CLIP = 8
#: Options that differ are named, so many of them.
_TOLD = 5


@dataclass(frozen=True)
class TrainingRequest:
    """A training as asked for. None of device, threads and every changes what is computed but in the last bits."""

    #: A fit, process or synth-videos run.
    labels: Path
    #: The folder all of it goes into.
    out: Path
    #: The face model, and the detectors of the bundle that is written.
    bundle: Bundle
    #: Which net.
    architecture: Architecture
    #: How it is trained.
    config: TrainConfig
    #: The folder the keys of `labels` are relative to, if it was moved.
    images: Path | None = None
    #: A synth-videos run of the same pictures.
    clips: Path | None = None
    #: A folder of crops of what is no face.
    distractors: Path | None = None
    #: A checkpoint of another training, or a model, whose weights this one begins with.
    start: Path | Bundle | None = None
    #: Fit the layer that answers the parameters anew to `start`'s features: for another face model.
    new_head: bool = False
    #: Share of the pictures held out, by the sha256 of their keys.
    validation: float = 0.1
    #: As torch names it, or "auto".
    device: str = "auto"
    #: torch's threads.
    threads: int = 1
    #: Iterations between checkpoints.
    every: int = 5


@dataclass(frozen=True)
class TrainingStart:
    """What a training tells at its start."""

    #: Clips it learns from.
    n_training: int
    #: Clips held out.
    n_validation: int
    #: What was left out, a sentence for each kind of thing.
    notes: tuple[str, ...]
    #: Where it runs.
    device: str
    #: Iterations done before.
    resumed: int
    #: Of the net in use.
    parameters: int
    #: Multiply–accumulates a face in use: of the convolutions and the parameter head.
    macs: int
    #: The same counted as the paper evidently does, normalisation and pooling included.
    macs_as_paper: int


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training came to."""

    #: The bundle's folder.
    model: Path
    #: The iteration it is of.
    iteration: int
    #: Its error on the validation part, %, None without one.
    validation: float | None


def train(
    request: TrainingRequest,
    begun: Callable[[TrainingStart], None] = lambda progress: None,
    report: Callable[[Record], None] = lambda record: None,
) -> TrainingOutcome:
    """Train to the end, from the last checkpoint in `request.out` if there is one, and export the best.

    Raises `InputError` for labels that cannot be trained on, `RunFolderError` where OUT holds another training,
    `TrainingError` for a damaged checkpoint or a training that diverges.
    """
    _claim(request.out, _about(request))
    device = host.prepare(request.device, request.threads)
    parts = _read(request)
    training = _training(request, parts.training, device)
    begun(_start(request, parts, device, training.iteration))
    model, size = load_morphable(request.bundle), request.config.sampling.size
    n = model.layout.size - N_POSE
    others = None if request.distractors is None else distractors.read(request.distractors, size, n)
    space = FaceSpace.of(model, np.array(training.mean), np.array(training.std), size, device=device)

    def judge(now: TrainingState) -> float | None:
        if not len(parts.validation):
            return None
        pixels = request.config.pixels(now.iteration - 1)
        errors = validation.landmark_nme(now.answering, space, parts.validation, pixels)
        return validation.mean_of_bins(errors, parts.validation)[0]

    def keep(now: TrainingState, best: bool) -> None:
        state.save(now, request.out / CHECKPOINT)
        if best:
            state.save(now, request.out / BEST)
        _write_history(request.out, now)

    training = meta_joint.run(
        training, parts.training, space, report, others=others, judge=judge, keep=keep, every=request.every
    )
    best = state.load(request.out / BEST) if (request.out / BEST).exists() else training
    detectors = export.Detectors.of_bundle(request.bundle)
    export.to_bundle(best, model, _origin(request, best), detectors, request.out / MODEL)
    return TrainingOutcome(request.out / MODEL, best.iteration, best.history[-1].validation)


@dataclass(frozen=True)
class _Parts:
    """The clips, split."""

    #: Learnt from.
    training: Clips
    #: Held out.
    validation: Clips
    #: What was left out.
    notes: tuple[str, ...]


def _read(request: TrainingRequest) -> _Parts:
    """All clips, split by the hash of their names; copies, so that the whole, gigabytes, can go."""
    found = training_set.read(request.labels, request.images, request.clips, request.bundle)
    held = is_validation(found.clips.names, request.validation)
    parts = _Parts(found.clips.take(~held), found.clips.take(held), found.notes)
    if len(parts.training) < 2:
        raise TrainingError(f"{request.labels} leaves {len(parts.training)} faces to train on; at least 2 are needed.")
    return parts


def _start(request: TrainingRequest, parts: _Parts, device: str, resumed: int) -> TrainingStart:
    net, size = request.architecture, request.config.sampling.size
    return TrainingStart(
        n_training=len(parts.training),
        n_validation=len(parts.validation),
        notes=parts.notes,
        device=device,
        resumed=resumed,
        parameters=parameter_count(net),
        macs=mac_count(net, size, norm_operations=0),
        macs_as_paper=mac_count(net, size),
    )


def _about(request: TrainingRequest) -> dict[str, Any]:
    """Everything that decides the result, as train.json holds it."""
    runs = {"labels": request.labels, "clips": request.clips}
    return {
        "format": "ddfa-batch training",
        "version": version("ddfa-batch"),
        "model": {"name": request.bundle.manifest.name, "digest": request.bundle.digest},
        "data": {name: None if path is None else open_run(path).run.identity for name, path in runs.items()},
        "distractors": request.distractors and _names_and_sizes(request.distractors),
        "new_head": request.new_head,
        "start": request.start.digest if isinstance(request.start, Bundle) else request.start and sha256(request.start),
        "validation": {"share": request.validation, "rule": "sha256 of the key, first 8 bytes, below share · 2^64"},
        "architecture": asdict(request.architecture),
        "config": asdict(request.config),
    }


def _names_and_sizes(folder: Path) -> str:
    """What tells a folder of pictures from another: the sha256 of its files' names and sizes."""
    files = sorted((path.name, path.stat().st_size) for path in folder.iterdir()) if folder.is_dir() else []
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _claim(out: Path, about: dict[str, Any]) -> None:
    """Write train.json, or make sure that the one there is of the same training."""
    path = out / ABOUT
    about = json.loads(json.dumps(about))
    if not path.exists():
        if (out / store.RUN).exists():
            raise RunFolderError(f"{out} holds a run; give the training a folder of its own.")
        atomic.write_json(path, about)
        return
    there = decode_object(path.read_bytes(), Document(str(path), RunFolderError, "give another folder"))
    if differences := list(differing(there, about).values()):
        told = ", ".join(differences[:_TOLD])
        raise RunFolderError(f"{out} holds a training with other options: {told}; give another folder.")


def _training(request: TrainingRequest, clips: Clips, device: str) -> TrainingState:
    path = request.out / CHECKPOINT
    if path.exists():
        training = state.load(path, device)
        state.check_same(training, request.architecture, request.config)
        return training
    mean, std = whitening(_sample(request.config, clips, _WHITENING, 1).params)
    if request.start is None:
        return state.start(request.architecture, request.config, mean, std, device)
    begun = _begun(request, request.start, clips, device)
    return with_new_head(begun, _sights(request.config, clips, device), mean, std) if request.new_head else begun


def _begun(request: TrainingRequest, start: Path | Bundle, clips: Clips, device: str) -> TrainingState:
    if isinstance(start, Bundle):
        batch = _sample(request.config, clips, _MEASURED, request.config.sampling.size)
        return thawed(start, request.architecture, request.config, TensorBatch.of(batch, device), device)
    return state.start_from(state.load(start, device), request.architecture, request.config)


def _sights(config: TrainConfig, clips: Clips, device: str) -> Iterator[TensorBatch]:
    """Augmented training frames, in blocks, to fit a head to."""
    for block in range(-(-min(_FITTED, _PER_CLIP * len(clips)) // _MEASURED)):
        rows = np.random.default_rng([config.seed, block]).integers(len(clips), size=_MEASURED)
        single = replace(config.sampling, frames=1)
        batch = make_batch(clips, rows, single, config.augmentation, [config.seed, block], config.sampling.size)
        yield TensorBatch.of(batch, device)


def _sample(config: TrainConfig, clips: Clips, n_frames: int, pixels: int) -> MiniBatch:
    """About n_frames augmented training frames, `pixels` wide."""
    rows = np.random.default_rng([config.seed]).integers(len(clips), size=max(1, n_frames // config.sampling.frames))
    return make_batch(clips, rows, config.sampling, config.augmentation, [config.seed], pixels)


def _write_history(out: Path, training: TrainingState) -> None:
    content = {
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(sum(record.seconds for record in training.history), 1),
        "history": [asdict(record) for record in training.history],
    }
    atomic.write_json(out / HISTORY, content)


def _origin(request: TrainingRequest, training: TrainingState) -> export.Origin:
    manifest, config = request.bundle.manifest, training.config
    what = f"{training.architecture.kind} x{training.architecture.width:g}, {config.method}, {config.landmarks}"
    samples = config.look_ahead * training.iteration * config.sampling.stills * config.sampling.frames
    return export.Origin(
        name=request.out.resolve().name,
        version="1",
        licence=f"Weights: as the training data's terms allow. Face model and detectors: {manifest.licence}",
        provenance=f"Trained by ddfa-batch {version('ddfa-batch')} on {request.labels.name}: {what}, "
        f"{samples:,} samples, seed {config.seed}; face model and detectors of {manifest.name}.",
        expression_names=manifest.expression_names,
        average=manifest.average,
    )
