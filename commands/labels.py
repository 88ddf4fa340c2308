"""`ddfa-batch labels`."""

from __future__ import annotations

from pathlib import Path

import click

from ddfa_batch.commands.model_choice import choose_model
from ddfa_batch.commands.options import PATH, model_option
from ddfa_batch.commands.wording import count

#: Files left out that are named; the others are counted.
_FAULTS_NAMED = 10


@click.group(short_help="Turn other data sets' labels into tables.")
def labels() -> None:
    """Turn the labels of other data sets into tables this project reads."""


@labels.command("import", short_help="300W-LP's and AFLW2000-3D's labels to parameters.")
@click.argument("dataset", type=click.Choice(["300w-lp"]))
@click.argument("source", metavar="FOLDER", type=PATH)
@click.argument("table", metavar="OUT.parquet", type=PATH)
@model_option("The model whose parameters are wanted; it must have the topology of the Basel Face Model.")
@click.pass_obj
def import_(models_folder: Path, /, dataset: str, source: Path, table: Path, model: str | None) -> None:
    """Convert Pose_Para, Shape_Para and Exp_Para of 300W-LP or AFLW2000-3D to parameters.

    FOLDER is searched for .mat files with a picture of the same name beside them; each becomes a row of OUT.parquet
    with the picture's key, the parameters, the roi and the landmarks, as in the faces table of a run. A file that
    cannot be read is named and counted, and the others are converted.

    \b
    Example:
      ddfa-batch labels import 300w-lp 300W_LP/ out.parquet --model 3ddfa-v2-mb05
    """
    from ddfa_batch.pipeline.import_labels import import_300w_lp

    rows, faults = import_300w_lp(source, table, choose_model(models_folder, model).announce(quiet=False))
    for fault in faults[:_FAULTS_NAMED]:
        click.echo(f"left out: {fault}", err=True)
    click.echo(f"{count(rows, 'face')} in {table}, {count(len(faults), 'file')} left out.")
