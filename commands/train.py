"""`ddfa-batch train`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.config_file import config_option
from ddfa_batch.commands.model_choice import choose_model, refuse_builtin
from ddfa_batch.commands.options import PATH, model_option, quiet_option
from ddfa_batch.commands.training_options import (
    DataOptions,
    HostOptions,
    LearningOptions,
    data_options,
    host_options,
    learning_options,
)
from ddfa_batch.commands.training_progress import TrainingProgress
from ddfa_batch.schemas.extras import from_extra

if TYPE_CHECKING:
    from ddfa_batch.pipeline.train import TrainingOutcome, TrainingRequest
    from ddfa_batch.tasks.bundles.model_bundle import Bundle


@click.command(short_help="Train a regressor with the paper's method.")
@click.argument("labels", type=PATH)
@click.argument("out", type=PATH)
@model_option("The model LABELS was made with; its face model and detectors go into the new one.", "that of LABELS")
@data_options
@learning_options
@host_options
@quiet_option
@config_option
@click.pass_obj
def train(
    models_folder: Path,
    /,
    labels: Path,
    out: Path,
    model: str | None,
    data: DataOptions,
    learning: LearningOptions,
    host: HostOptions,
    quiet: bool,
) -> None:
    """Train a regressor with the paper's method, and write it as a model that `process --model` accepts.

    LABELS is a run of `fit`, `process` or `synth-videos`. OUT gets checkpoints, history.json and model/; the same
    command goes on after an interruption. Needs torch: pip install 'ddfa-batch[train]'.

    \b
    Examples:
      ddfa-batch fit labels.parquet images/ fits/
      ddfa-batch synth-videos images/ clips/ --params fits/ --noise 0 0 --blur 0 0
      ddfa-batch train fits/ trained/ --clips clips/ --stage 0.4 40 --stage 0.9 60
      ddfa-batch process ./photographs out/ --model trained/model
    """
    refuse_builtin(out.resolve().name, "folder, which the new model is called after")
    for package in ("torch", "onnx"):
        from_extra(package)
    from ddfa_batch.pipeline.train import train as run_training

    bundle = choose_model(models_folder, model, labels).announce(quiet)
    if host.new_head and host.start is None:
        raise click.UsageError("--new-head is for --start: there is no net whose head could be fitted.")
    start = None if host.start is None else _start(models_folder, host.start)
    request = _request(labels, out, bundle, data, learning, host, start)
    samples = learning.look_ahead * data.stills * data.frames
    with contextlib.closing(TrainingProgress(learning.iterations, samples, quiet)) as progress:
        outcome = run_training(request, progress.begun, progress)
    if not quiet:
        click.echo(_summary(outcome))


def _start(models_folder: Path, start: str) -> Path | Bundle:
    """A checkpoint where `start` is a file, else the model of this name or folder."""
    from ddfa_batch.tasks.bundles.model_bundle import find_bundle

    return Path(start) if Path(start).is_file() else find_bundle(start, models_folder)


def _request(
    labels: Path,
    out: Path,
    bundle: Bundle,
    data: DataOptions,
    learning: LearningOptions,
    host: HostOptions,
    start: Path | Bundle | None,
) -> TrainingRequest:
    """The training as `pipeline.train` takes it; its types know torch, so they are imported here."""
    from ddfa_batch.pipeline.local_cluster import usable_cores
    from ddfa_batch.pipeline.train import TrainingRequest
    from ddfa_batch.tasks.training.architectures import Architecture
    from ddfa_batch.tasks.training.options import Augmentation, Sampling, TrainConfig

    config = TrainConfig(
        method=learning.method,
        landmarks=learning.landmarks,
        distance=learning.distance,
        landmark_weight=learning.landmark_weight,
        steadiness=learning.steadiness,
        face_weight=learning.face_weight if data.distractors else 0.0,
        beta=learning.beta,
        look_ahead=learning.look_ahead,
        iterations=learning.iterations,
        learning_rate=learning.learning_rate,
        schedule=learning.schedule,
        weight_decay=learning.weight_decay,
        precision=host.precision,
        pixels_made=host.pixels_made,
        ema=learning.ema,
        stages=learning.stages,
        seed=learning.seed,
        sampling=Sampling(data.stills, data.frames, data.motion, data.turned, bundle.manifest.input_size),
        augmentation=Augmentation(rotation=data.rotation),
    )
    return TrainingRequest(
        labels=labels,
        out=out,
        bundle=bundle,
        architecture=Architecture(learning.backbone, learning.width, bundle.manifest.layout.size),
        config=config,
        images=data.images,
        clips=data.clips,
        distractors=data.distractors,
        start=start,
        new_head=host.new_head,
        validation=data.validation,
        device=host.device,
        threads=host.threads or usable_cores(),
        every=host.every,
    )


def _summary(outcome: TrainingOutcome) -> str:
    error = "" if outcome.validation is None else f", {outcome.validation:.2f} % on the validation part"
    return (
        f"Model of iteration {outcome.iteration}{error} in {outcome.model}\n"
        f"Next:    ddfa-batch process ./images out/ --model {outcome.model}"
    )
