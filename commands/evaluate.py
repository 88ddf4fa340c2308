"""`ddfa-batch evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.config_file import config_option
from ddfa_batch.commands.model_choice import ModelChoice, choose_model
from ddfa_batch.commands.options import EXISTING, EXISTING_FOLDER, PATH, model_option, quiet_option
from ddfa_batch.commands.progress import Step, shown
from ddfa_batch.schemas.config import AVERAGES, NO_AVERAGE, PROTOCOLS

if TYPE_CHECKING:
    from ddfa_batch.pipeline.evaluation.report import Evaluation, Score


@click.command(short_help="Measure a run or a model against labels.")
@click.argument("labels", type=EXISTING, nargs=-1, required=True)
@click.argument("out", type=PATH)
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    metavar="NAME",
    default="aflw2000-3d",
    show_default=True,
    help="What is measured, and over what: one of those above.",
)
@click.option("--run", type=EXISTING_FOLDER, help="A process run of the labelled pictures, whose answers are measured.")
@model_option("Or a model, shown the crops around the true points.")
@click.option("--images", type=EXISTING_FOLDER, help="Where the labelled pictures, or videos, lie, for --model.")
@click.option(
    "--refine",
    type=click.IntRange(0, 5),
    metavar="N",
    default=0,
    show_default=True,
    help="Passes of --model after the first, around its own points.",
)
@click.option(
    "--average",
    type=click.Choice(AVERAGES),
    default=NO_AVERAGE,
    show_default=True,
    help="Average the last pass of --model with one of the mirrored crop.",
)
@click.option("--overwrite", is_flag=True, help="Replace the evaluation in OUT; other files there are left alone.")
@quiet_option
@config_option
@click.pass_obj
def evaluate(
    models_folder: Path,
    /,
    labels: tuple[Path, ...],
    out: Path,
    protocol: str,
    run: Path | None,
    model: str | None,
    images: Path | None,
    refine: int,
    average: str,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Measure a run, or a model, against labels, by the protocols of the paper's section 3.1.

    \b
    aflw2000-3d        68 points, three bins of yaw and their mean.
                       LABELS: tables (key, pts68, yaw), .pts or .mat folders;
                       several sets (original, re-annotated) at once
    aflw               the labelled ones of AFLW's 21 points, of the size of
                       the 68. LABELS: a table (key, pts21, yaw, and pts68
                       where they are known)
    aflw2000-3d-dense  all vertices.
                       LABELS: parameters, as `labels import` writes, or a run
    florence           all vertices. LABELS: a folder of upright scans
                       (.obj, .ply, .npz) named as the pictures
    video              frames, and stability between adjacent ones.
                       LABELS: a synth-videos run, or a table (key, pts68,
                       video, frame) of frames; without keys, video names a
                       video file below --images

    OUT gets summary.json, faces.parquet (a row per labelled face), curve.svg and worst.png.

    \b
    Examples:
      ddfa-batch process AFLW2000/ out/
      ddfa-batch evaluate AFLW2000/ scores/ --run out/
      ddfa-batch evaluate AFLW2000/ scores/ --model mine/ --images AFLW2000/
      ddfa-batch evaluate clips/ stability/ --protocol video --model trained/model
    """
    from ddfa_batch.pipeline import evaluate as evaluation

    _refuse_misuse(protocol, run, images, refine, average)
    bundle = _model(models_folder, protocol, labels, run, model).announce(quiet)
    request = evaluation.EvaluationRequest(
        protocol=protocol,
        labels=labels,
        out=out,
        run=run,
        bundle=None if run else bundle,
        images=images,
        refine=refine,
        average=average,
        overwrite=overwrite,
    )
    with shown(quiet) as display:
        display.show(Step("measuring"))
        outcome = evaluation.evaluate(request)
    if not quiet:
        click.echo("\n".join([*_score_lines(outcome), f"{', '.join(outcome.files)} in {out}"]))


def _refuse_misuse(protocol: str, run: Path | None, images: Path | None, refine: int, average: str) -> None:
    if run is None and images is None and protocol != "video":
        raise click.UsageError("Give --run, or --model with --images.")
    if run is not None and (refine or average != NO_AVERAGE):
        option = "--refine" if refine else "--average"
        raise click.UsageError(f"{option} is for --model; a run's answers are what they are.")


def _model(
    models_folder: Path, protocol: str, labels: tuple[Path, ...], run: Path | None, model: str | None
) -> ModelChoice:
    """The model whose answers are measured: the run's own, or one that is named; dense labels may name theirs."""
    if run is not None:
        return choose_model(models_folder, None, run)
    return choose_model(models_folder, model, *(labels if protocol == "aflw2000-3d-dense" else ()))


def _score_lines(outcome: Evaluation) -> list[str]:
    """The table of an evaluation for people."""
    binned, moving = outcome.scores[0].bins is not None, outcome.protocol == "video"
    width = max(len("labels"), *(len(score.labels) for score in outcome.scores))
    names = [
        *(["0–30°", "30–60°", "60–90°", "of bins"] if binned else []),
        *("faces", "mean", "median"),
        *(["stability"] if moving else []),
    ]
    lines = [
        f"{outcome.model}, {outcome.answers}: {outcome.n_found:,} of {outcome.n_labelled:,} faces found",
        f"{outcome.protocol}: {outcome.measured}, in % of {outcome.normaliser}",
        "",
        f"{'labels':{width}}  " + "  ".join(f"{name:>9}" for name in names),
    ]
    for score in outcome.scores:
        cells = [_cell(value) for value in _values(score, binned, moving)]
        lines.append(f"{score.labels:{width}}  " + "  ".join(cells))
    return lines


def _cell(value: float | None) -> str:
    number = "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
    return f"{number:>9}"


def _values(score: Score, binned: bool, moving: bool) -> list[float | None]:
    """A row of the table, as its head names it."""
    bins = [*(score.bins or ()), score.mean_of_bins] if binned else []
    return [*bins, score.n_faces, score.mean, score.median, *([score.stability] if moving else [])]
