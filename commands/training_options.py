"""The options of `ddfa-batch train`, in groups: what is trained on, how, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from ddfa_batch.commands.options import PATH, grouped


@dataclass(frozen=True)
class DataOptions:
    """What is trained on."""

    #: Folder of the pictures; None for where LABELS says they are.
    images: Path | None
    #: A synth-videos run of the same pictures.
    clips: Path | None
    #: Folder of crops of what is no face.
    distractors: Path | None
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
class LearningOptions:
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
    #: How much each landmark term counts.
    landmark_weight: float
    #: How much it counts that the errors of adjacent frames differ.
    steadiness: float
    #: How much it counts that faces are told from distractors.
    face_weight: float
    #: Weight of vanilla-joint.
    beta: float
    #: Steps of an iteration.
    look_ahead: int
    #: Iterations.
    iterations: int
    #: Learning rate.
    learning_rate: float
    #: How it falls: "line" or "cosine".
    schedule: str
    #: AdamW's.
    weight_decay: float
    #: Share that the moving average of the weights keeps of itself.
    ema: float
    #: Shares of the iterations and the side of the images up to there, pixels.
    stages: tuple[tuple[float, int], ...]
    #: Seed of all randomness.
    seed: int


@dataclass(frozen=True)
class HostOptions:
    """Where it runs, from where it starts, and what is kept."""

    #: Checkpoint of another training to begin with, or a model's name or folder.
    start: str | None
    #: Fit the layer that answers the parameters anew.
    new_head: bool
    #: "cpu", "cuda" or "auto".
    device: str
    #: What the backbone computes in.
    precision: str
    #: Where the pixels of mini-batches are made.
    pixels_made: str
    #: torch's threads; None for one per core.
    threads: int | None
    #: Iterations between checkpoints.
    every: int


data_options = grouped(
    "data",
    DataOptions,
    [
        click.option("--images", type=PATH, help="Where the pictures of LABELS lie, if they were moved."),
        click.option(
            "--clips",
            type=PATH,
            help="A synth-videos run of the same pictures: mini-batches then hold adjacent frames of turning heads.",
        ),
        click.option(
            "--distractors",
            type=PATH,
            metavar="FOLDER",
            help="Crops of what is no face: what the network sees last learns to tell them from faces, see "
            "--face-weight.",
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

learning_options = grouped(
    "learning",
    LearningOptions,
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
            "--landmark-weight",
            type=click.FloatRange(0, 100),
            metavar="X",
            default=1.0,
            show_default=True,
            help="How much each landmark term counts, where 1 is as much as the loss of the parameters.",
        ),
        click.option(
            "--steadiness",
            type=click.FloatRange(0, 100),
            metavar="X",
            default=0.0,
            show_default=True,
            help="How much it counts, beside the same, that the errors of adjacent frames differ; needs --frames 2.",
        ),
        click.option(
            "--face-weight",
            type=click.FloatRange(0, 100),
            metavar="X",
            default=0.3,
            show_default=True,
            help="With --distractors: how much it counts that faces are told from them.",
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
            "--schedule",
            type=click.Choice(["line", "cosine"]),
            metavar="KIND",
            default="line",
            show_default=True,
            help="How the learning rate falls to 0 after warming up: on a line, or on half a cosine.",
        ),
        click.option(
            "--weight-decay",
            type=click.FloatRange(0, 1),
            metavar="X",
            default=1e-4,
            show_default=True,
            help="How strongly weights are drawn to 0 (AdamW).",
        ),
        click.option(
            "--ema",
            type=click.FloatRange(0, 1, max_open=True),
            metavar="X",
            default=0.0,
            show_default=True,
            help="Judge and export a moving average of the weights, which keeps this share of itself at every step "
            "(0.999, say); 0 for the weights as they are.",
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

host_options = grouped(
    "host",
    HostOptions,
    [
        click.option(
            "--start",
            metavar="FILE|MODEL",
            help="Begin with the weights of this checkpoint of another training, or of this model.",
        ),
        click.option(
            "--new-head",
            is_flag=True,
            help="With --start: fit the layer that answers the parameters anew, for labels of another face model.",
        ),
        click.option("--device", metavar="NAME", default="auto", show_default=True, help="cpu, cuda, or auto."),
        click.option(
            "--precision",
            type=click.Choice(["float32", "bfloat16"]),
            metavar="KIND",
            default="float32",
            show_default=True,
            help="What the network computes in: float32, or bfloat16, which GPUs and some CPUs do much faster.",
        ),
        click.option(
            "--pixels-made",
            type=click.Choice(["host", "device"]),
            metavar="WHERE",
            default="host",
            show_default=True,
            help="Where mini-batches are warped, lit and compressed: one by one on the host, or all at once on the "
            "device, for GPUs.",
        ),
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
