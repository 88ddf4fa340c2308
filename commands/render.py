"""`ddfa-batch render`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.config_file import config_option
from ddfa_batch.commands.execution import execute_derived, source_run
from ddfa_batch.commands.options import RUN_PLACE, RunSettings, derived_run_options, max_pixels_option
from ddfa_batch.commands.selection_options import SelectionOptions, selection_options
from ddfa_batch.commands.wording import count
from ddfa_batch.schemas.config import PICTURE_FORMATS, PICTURE_KINDS, PICTURE_SIDES, RenderOptions

if TYPE_CHECKING:
    from ddfa_batch.pipeline.derived_plan import DerivedRequest
    from ddfa_batch.tasks.files.run_folders import Named


@click.command(short_help="Draw what a run found: meshes, landmarks, depth and more, a picture per input.")
@click.argument("run", metavar="OUT", type=RUN_PLACE)
@click.argument("pictures", type=RUN_PLACE)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(PICTURE_KINDS),
    metavar="KIND",
    multiple=True,
    default=("mesh",),
    show_default=True,
    help=f"What is drawn; several times: side by side. {', '.join(PICTURE_KINDS)}.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(PICTURE_FORMATS),
    default="png",
    show_default=True,
    help="Of pictures; videos are mp4.",
)
@click.option(
    "--longest",
    type=click.IntRange(*PICTURE_SIDES),
    metavar="N",
    help="Pixels of each photograph's longer side.  [default: as it is]",
)
@click.option("--texture", is_flag=True, help="Draw meshes in the photograph's colours, lit as clay is.")
@click.option("--frames", is_flag=True, help="Of videos: a picture of every frame, and no mp4.")
@selection_options()
@max_pixels_option
@derived_run_options
@config_option
def render(
    run: Named,
    pictures: Named,
    kinds: tuple[str, ...],
    form: str,
    longest: int | None,
    texture: bool,
    frames: bool,
    selected: SelectionOptions,
    max_pixels: int,
    settings: RunSettings,
) -> None:
    """Draw the faces of the run in OUT over their photographs, to the folder PICTURES.

    Photographs are read again from where the run had them. Every input becomes a picture, called by its number in the
    run and its name, in PICTURES/pictures; what could not be read a card that says why. A video becomes an mp4 in
    which every track has a colour of its own; chosen faces of videos become pictures of their frames.

    \b
    Examples:
      ddfa-batch render out/ pictures/
      ddfa-batch render out/ pictures/ --kind image --kind mesh --kind normals
      ddfa-batch render out/ lit/ --kind image --kind mesh --texture
      ddfa-batch render out/ turned/ --where "abs(yaw) > 40 and score > 0.9"
      ddfa-batch render out/ doubtful/ --worst 50 --kind landmarks --format jpeg
      ddfa-batch render out/ failed/ --errors
    """
    from ddfa_batch.pipeline.derived_plan import derived_request, made_of
    from ddfa_batch.pipeline.render import render as run_render

    with source_run(run, selected, settings) as (source, selection):
        whose = made_of(source, selection, max_pixels)
        options = RenderOptions(kinds, form, longest, frames, *whose, texture)
        size = settings.shard_size
        request = derived_request("render", source, pictures, options, selection, size, videos=not frames)
        execute_derived(request, run_render, functools.partial(_announcement, request), settings)


def _announcement(request: DerivedRequest[RenderOptions], n: int) -> str:
    options = request.options
    kinds = ["textured mesh" if kind == "mesh" and options.texture else kind for kind in options.kinds]
    return f"{count(n, 'input')} of {request.source.run.folder} to {', '.join(kinds)} as {options.format}."
