"""`ddfa-batch fit`."""

from __future__ import annotations

from pathlib import Path

import click

from ddfa_batch.commands.config_file import config_option
from ddfa_batch.commands.model_choice import choose_model
from ddfa_batch.commands.options import PATH, model_option, quiet_option
from ddfa_batch.commands.progress import shown
from ddfa_batch.commands.run_progress import RunProgress
from ddfa_batch.commands.wording import count


@click.command(short_help="Fit a model to labelled landmarks.")
@click.argument("landmarks", type=PATH)
@click.argument("images", type=PATH, required=False)
@click.argument("out", metavar="OUT", type=PATH, required=False)
@model_option("The model to fit: its name or folder.")
@click.option(
    "--outline",
    is_flag=True,
    help="The labels follow the 2-D markup (300-W, AFLW by hand): the far side of a turned head's jaw is "
    "labelled where the face ends in the picture, so such points are left out.",
)
@quiet_option
@config_option
@click.pass_obj
def fit(
    models_folder: Path,
    /,
    landmarks: Path,
    images: Path | None,
    out: Path | None,
    model: str | None,
    outline: bool,
    quiet: bool,
) -> None:
    """Fit a model to labelled landmarks: 68 points in 2-D or 3-D, or AFLW's 21, to parameters.

    LANDMARKS is a Parquet or CSV table (key, pts68 or pts21, optionally weights), a folder of iBUG .pts files, or one
    of AFLW2000-3D's or 300W-LP's .mat files. IMAGES, if given, is the folder their pictures lie in: needed to train on
    the fit. OUT gets the tables of a run, so that whatever reads a run reads labels too, and fits.parquet with the
    residual of every face. Faces that did not converge are counted, not written.

    \b
    Examples:
      ddfa-batch fit labels.parquet labels/
      ddfa-batch fit 300w/ 300w/ labels/
    """
    from ddfa_batch.pipeline.fit import fit_landmarks
    from ddfa_batch.tasks.fitting.fit_config import FitConfig

    if out is None:  # click fills arguments from the left
        images, out = None, images
    if out is None:
        raise click.UsageError("Missing argument 'OUT'.")
    bundle = choose_model(models_folder, model).announce(quiet)
    config = FitConfig(size=bundle.manifest.input_size, outline=outline)
    with shown(quiet) as display:
        outcome = fit_landmarks(landmarks, out, bundle, images, config=config, report=RunProgress(display))
    if quiet:
        return
    click.echo(
        f"{count(outcome.n_faces, 'face')}: {outcome.n_converged:,} converged, mean residual {outcome.residual:.2%} "
        f"of the face's size. Faces in {out / 'faces'}/*.parquet, every fit in {out / 'fits.parquet'}."
    )
