"""`ddfa-batch to-webdataset`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.config_file import config_option
from ddfa_batch.commands.execution import execute_derived, source_run
from ddfa_batch.commands.options import RUN_PLACE, RunSettings, derived_run_options, max_pixels_option
from ddfa_batch.commands.selection_options import SelectionOptions, selection_options
from ddfa_batch.commands.wording import count
from ddfa_batch.schemas.config import PICTURE_FORMATS
from ddfa_batch.schemas.webdataset import CROP_SIDES

if TYPE_CHECKING:
    from ddfa_batch.pipeline.derived_plan import DerivedRequest
    from ddfa_batch.schemas.webdataset import WebDatasetOptions
    from ddfa_batch.tasks.files.run_folders import Named


@click.command("to-webdataset", short_help="Crops, parameters and landmarks of a run in tars, for training.")
@click.argument("run", metavar="OUT", type=RUN_PLACE)
@click.argument("tars", type=RUN_PLACE)
@click.option(
    "--size",
    type=click.IntRange(*CROP_SIDES),
    metavar="N",
    help="Pixels of a crop's side.  [default: as the model sees it]",
)
@click.option(
    "--format", "form", type=click.Choice(PICTURE_FORMATS), default="jpeg", show_default=True, help="Of the crops."
)
@selection_options(errors=False)
@max_pixels_option
@derived_run_options
@config_option
def to_webdataset(
    run: Named,
    tars: Named,
    size: int | None,
    form: str,
    selected: SelectionOptions,
    max_pixels: int,
    settings: RunSettings,
) -> None:
    """Write the faces of the run in OUT as samples to tar archives in TARS/tars.

    A sample is a crop, params.npy, landmarks.npy in the crop's pixels, and a JSON with the rest; the webdataset package
    reads them, and so does tar.

    \b
    Examples:
      ddfa-batch to-webdataset out/ samples/
      ddfa-batch to-webdataset out/ large/ --size 256 --where "score > 0.95"
    """
    from ddfa_batch.pipeline.to_webdataset import to_webdataset as pack
    from ddfa_batch.pipeline.to_webdataset import webdataset_request

    with source_run(run, selected, settings) as (source, selection):
        request = webdataset_request(source, tars, size, form, selection, max_pixels, settings.shard_size)
        execute_derived(request, pack, functools.partial(_announcement, request), settings)


def _announcement(request: DerivedRequest[WebDatasetOptions], n: int) -> str:
    options = request.options
    crops = f"crops of {options.size}×{options.size} as {options.format}"
    return f"{count(n, 'input')} of {request.source.run.folder} to tars, {crops}."
