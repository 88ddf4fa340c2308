"""`ddfa-batch train`."""

from __future__ import annotations

import contextlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.model_choice import choose_model, refuse_builtin
from ddfa_batch.commands.options import EXISTING_FILE, PATH, grouped, model_option, quiet_option
from ddfa_batch.commands.training_progress import TrainingProgress

if TYPE_CHECKING:
    from ddfa_batch.pipeline.train import Outcome, TrainingRequest
    from ddfa_batch.tasks.bundles.model_bundle import Bundle


@dataclass(frozen=True)
class _DataOptions:
    """What is trained on."""

    #: Folder of the pictures; None for where LABELS says they are.
    images: Path | None
    #: A synth-videos run of the same pictures.
    clips: Path | None
    #: Pictures in a mini-batch.
    stills: int
    #: Frames of each of them.
    frames: int
    #: "smooth" or "random".
    motion: str
    #: Share of the pictures whose frames come from the clips.
    turned: float
    #: Standard deviation of the rotation of pictures, degrees.
    rotation: float
    #: Share of the pictures held out.
    validation: float


@dataclass(frozen=True)
class _MethodOptions:
    """Which network, and how it learns; as `TrainConfig` and `Architecture` have it."""

    #: The network's kind.
    backbone: str
    #: Its width multiplier.
    width: float
    #: How parameters are learnt.
    method: str
    #: How the 68 points are used.
    landmarks: str
    #: How VDC and the 68 points count errors.
    distance: str
    #: Weight of vanilla-joint.
    beta: float
    #: Steps of an iteration.
    look_ahead: int
    #: Iterations.
    iterations: int
    #: Learning rate.
    learning_rate: float
    #: Shares of the iterations and the side of the images up to there, pixels.
    stages: tuple[tuple[float, int], ...]
    #: Seed of all randomness.
    seed: int


@dataclass(frozen=True)
class _HostOptions:
    """Where it runs, from where it starts, and what is kept."""

    #: Checkpoint of another training to begin with.
    start: Path | None
    #: "cpu", "cuda" or "auto".
    device: str
    #: torch's threads; None for one per core.
    threads: int | None
    #: Iterations between checkpoints.
    every: int


_data_options = grouped(
    "data",
    _DataOptions,
    [
        click.option("--images", type=PATH, help="Where the pictures of LABELS lie, if they were moved."),
        click.option(
            "--clips",
            type=PATH,
            help="A synth-videos run of the same pictures: mini-batches then hold adjacent frames of turning heads.",
        ),
        click.option(
            "--stills",
            type=click.IntRange(1),
            metavar="N",
            default=32,
            show_default=True,
            help="Pictures in a mini-batch.",
        ),
        click.option(
            "--frames",
            type=click.IntRange(1),
            metavar="N",
            default=2,
            show_default=True,
            help="Frames of each of them.",
        ),
        click.option(
            "--motion",
            type=click.Choice(["smooth", "random"]),
            metavar="KIND",
            default="smooth",
            show_default=True,
            help="Adjacent frames (smooth), or frames drawn at random (random: Table 4's rnd.).",
        ),
        click.option(
            "--turned",
            type=click.FloatRange(0, 1),
            metavar="X",
            default=0.5,
            show_default=True,
            help="Share of the pictures whose frames are taken from --clips.",
        ),
        click.option(
            "--rotation",
            type=click.FloatRange(0, 180),
            metavar="X",
            default=15.0,
            show_default=True,
            help="How far pictures are turned in their plane, standard deviation in degrees.",
        ),
        click.option(
            "--validation",
            type=click.FloatRange(0, 0.9),
            metavar="X",
            default=0.1,
            show_default=True,
            help="Share of the pictures held out, by a hash of their names, to choose the best checkpoint.",
        ),
    ],
)

_method_options = grouped(
    "method_options",
    _MethodOptions,
    [
        click.option(
            "--backbone",
            type=click.Choice(["mobilenet", "rep_mobilenet"]),
            metavar="KIND",
            default="mobilenet",
            show_default=True,
            help="mobilenet, the paper's, or rep_mobilenet, which trains with branches that fold into it.",
        ),
        click.option(
            "--width",
            type=click.FloatRange(0.0625, 4),
            metavar="X",
            default=0.5,
            show_default=True,
            help="Width multiplier.",
        ),
        click.option(
            "--method",
            type=click.Choice(["meta-joint", "fwpdc", "vdc", "vdc-from-fwpdc", "vanilla-joint"]),
            metavar="METHOD",
            default="meta-joint",
            show_default=True,
            help="How parameters are learnt (the paper's Table 3): meta-joint, fwpdc, vdc, vdc-from-fwpdc "
            "or vanilla-joint.",
        ),
        click.option(
            "--landmarks",
            type=click.Choice(["lrr", "lmk", "lrr+lmk", "none"]),
            metavar="HOW",
            default="lrr",
            show_default=True,
            help="The 68 points: a head of their own (lrr), a constraint (lmk), both (lrr+lmk), or none of these.",
        ),
        click.option(
            "--distance",
            type=click.Choice(["squared", "plain"]),
            metavar="KIND",
            default="squared",
            show_default=True,
            help="How VDC and the 68 points count errors: squared, as the paper, or plain, so that wrong "
            "labels matter less.",
        ),
        click.option(
            "--beta",
            type=click.FloatRange(0, 1),
            metavar="X",
            default=0.5,
            show_default=True,
            help="Weight of fWPDC in vanilla-joint.",
        ),
        click.option(
            "--look-ahead",
            type=click.IntRange(1),
            metavar="N",
            default=100,
            show_default=True,
            help="k, steps of an iteration.",
        ),
        click.option(
            "--iterations", type=click.IntRange(1), metavar="N", default=200, show_default=True, help="Of k steps each."
        ),
        click.option(
            "--learning-rate",
            type=click.FloatRange(0, 1, min_open=True),
            metavar="X",
            default=2e-3,
            show_default=True,
            help="The most it is, after warming up.",
        ),
        click.option(
            "--stage",
            "stages",
            type=(click.FloatRange(0, 1, min_open=True), click.IntRange(32, 1024)),
            multiple=True,
            metavar="SHARE PIXELS",
            help="Up to this share of the iterations, images of so many pixels: the work falls "
            "with their square. May be given several times.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**32 - 1),
            metavar="N",
            default=0,
            show_default=True,
            help="Of all that is drawn at random.",
        ),
    ],
)

_host_options = grouped(
    "host",
    _HostOptions,
    [
        click.option(
            "--start", type=EXISTING_FILE, help="Begin with the weights of this checkpoint of another training."
        ),
        click.option("--device", metavar="NAME", default="auto", show_default=True, help="cpu, cuda, or auto."),
        click.option(
            "--threads", type=click.IntRange(1), metavar="N", help="torch's threads.  [default: one per core]"
        ),
        click.option(
            "--every",
            type=click.IntRange(1),
            metavar="N",
            default=5,
            show_default=True,
            help="Iterations between checkpoints.",
        ),
    ],
)


@click.command(short_help="Train a regressor with the paper's method.")
@click.argument("labels", type=PATH)
@click.argument("out", type=PATH)
@model_option("The model LABELS was made with; its face model and detectors go into the new one.", "that of LABELS")
@_data_options
@_method_options
@_host_options
@quiet_option
@click.pass_obj
def train(
    models_folder: Path,
    /,
    labels: Path,
    out: Path,
    model: str | None,
    data: _DataOptions,
    method_options: _MethodOptions,
    host: _HostOptions,
    quiet: bool,
) -> None:
    """Train a regressor with the paper's method, and write it as a model that `process --model` accepts.

    LABELS is a run of `fit`, `process` or `synth-videos`. OUT gets checkpoints, history.json and model/; the same
    command goes on after an interruption. Needs torch: pip install torch.

    \b
    Examples:
      ddfa-batch fit labels.parquet images/ fits/
      ddfa-batch synth-videos images/ clips/ --params fits/ --noise 0 0 --blur 0 0
      ddfa-batch train fits/ trained/ --clips clips/ --stage 0.4 40 --stage 0.9 60
      ddfa-batch process ./photographs out/ --model trained/model
    """
    refuse_builtin(out.resolve().name, "folder, which the new model is called after")
    if importlib.util.find_spec("torch") is None:
        raise click.ClickException("Training needs torch, which is not installed: pip install torch.")
    from ddfa_batch.pipeline.train import train as run_training

    bundle = choose_model(models_folder, model, labels).announce(quiet)
    wanted = _request(labels, out, bundle, data, method_options, host)
    samples = method_options.look_ahead * data.stills * data.frames
    with contextlib.closing(TrainingProgress(method_options.iterations, samples, quiet)) as progress:
        outcome = run_training(wanted, progress.begun, progress)
    if not quiet:
        click.echo(_summary(outcome))


def _request(
    labels: Path, out: Path, bundle: Bundle, data: _DataOptions, method: _MethodOptions, host: _HostOptions
) -> TrainingRequest:
    """The training as `pipeline.train` takes it; its types know torch, so they are imported here."""
    from ddfa_batch.pipeline.cluster import usable_cores
    from ddfa_batch.pipeline.train import TrainingRequest
    from ddfa_batch.tasks.training.architectures import Architecture
    from ddfa_batch.tasks.training.options import Augmentation, Sampling, TrainConfig

    config = TrainConfig(
        method=method.method,
        landmarks=method.landmarks,
        distance=method.distance,
        beta=method.beta,
        look_ahead=method.look_ahead,
        iterations=method.iterations,
        learning_rate=method.learning_rate,
        stages=method.stages,
        seed=method.seed,
        sampling=Sampling(data.stills, data.frames, data.motion, data.turned, bundle.manifest.input_size),
        augmentation=Augmentation(rotation=data.rotation),
    )
    return TrainingRequest(
        labels=labels,
        out=out,
        bundle=bundle,
        architecture=Architecture(method.backbone, method.width, bundle.manifest.layout.size),
        config=config,
        images=data.images,
        clips=data.clips,
        start=host.start,
        validation=data.validation,
        device=host.device,
        threads=host.threads or usable_cores(),
        every=host.every,
    )


def _summary(outcome: Outcome) -> str:
    error = "" if outcome.validation is None else f", {outcome.validation:.2f} % on the validation part"
    return (
        f"Model of iteration {outcome.iteration}{error} in {outcome.model}\n"
        f"Next:    ddfa-batch process ./images out/ --model {outcome.model}"
    )
