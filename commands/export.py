"""`ddfa-batch export`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.config_file import config_option
from ddfa_batch.commands.execution import execute_derived, source_run
from ddfa_batch.commands.options import RUN_PLACE, RunSettings, derived_run_options, max_pixels_option
from ddfa_batch.commands.selection_options import SelectionOptions, selection_options
from ddfa_batch.commands.wording import count
from ddfa_batch.schemas.config import MESH_COLOURS, MESH_FORMATS, MESH_FRAMES, ExportOptions

if TYPE_CHECKING:
    from ddfa_batch.pipeline.derived_plan import DerivedRequest
    from ddfa_batch.tasks.files.run_folders import Named


@click.command(short_help="Meshes of a run's faces as glTF, OBJ, PLY, npz or CSV; videos as animated heads.")
@click.argument("run", metavar="OUT", type=RUN_PLACE)
@click.argument("meshes", type=RUN_PLACE)
@click.option(
    "--format", "form", type=click.Choice(MESH_FORMATS), default="glb", show_default=True, help="Of the files."
)
@click.option(
    "--colours",
    type=click.Choice(MESH_COLOURS),
    default="auto",
    show_default=True,
    help="From the photograph, hidden parts by symmetry: a texture, a colour per vertex, or none; auto: the best "
    "that format and model hold, none for csv.",
)
@click.option(
    "--frame",
    type=click.Choice(MESH_FRAMES),
    default="canonical",
    show_default=True,
    help="canonical: the head looks at you, millimetres; image: as in the photograph, pixels.",
)
@click.option(
    "--y",
    type=click.Choice(("up", "down")),
    default="up",
    show_default=True,
    help="up: z towards the viewer, as glTF; down: z away from him, as OpenCV.",
)
@click.option("--tracks", is_flag=True, help="Of videos: a head that moves for each track, and no stills; glb.")
@selection_options(errors=False)
@max_pixels_option
@derived_run_options
@config_option
def export(
    run: Named,
    meshes: Named,
    form: str,
    colours: str,
    frame: str,
    y: str,
    tracks: bool,
    selected: SelectionOptions,
    max_pixels: int,
    settings: RunSettings,
) -> None:
    """Write the meshes of the faces of the run in OUT to the folder MESHES.

    Each face becomes a file in MESHES/meshes, and a row in MESHES/exports that tells its face_id, unit and axes, and
    the map back to the photograph's pixels. Colours are read from the photographs where the run had them.

    \b
    Examples:
      ddfa-batch export out/ meshes/
      ddfa-batch export out/ meshes/ --format obj --where "score > 0.95"
      ddfa-batch export out/ meshes/ --format ply --frame image --y down
      ddfa-batch export out/ heads/ --tracks --frame image
    """
    from ddfa_batch.pipeline.derived_plan import derived_request, made_of, tracks_request
    from ddfa_batch.pipeline.export import default_colours
    from ddfa_batch.pipeline.export import export as run_export
    from ddfa_batch.tasks.bundles.loaded_model import load_morphable

    with source_run(run, selected, settings) as (source, selection):
        if colours == "auto":
            colours = default_colours(form, load_morphable(source.bundle).uv is not None)
        whose = made_of(source, selection, max_pixels)
        options = ExportOptions(form, colours, frame, y == "down", tracks, *whose)
        ask = tracks_request if tracks else derived_request
        request = ask("export", source, meshes, options, selection, settings.shard_size)
        execute_derived(request, run_export, functools.partial(_announcement, request), settings)


def _announcement(request: DerivedRequest[ExportOptions], n: int) -> str:
    options = request.options
    told = {
        "texture": "with textures",
        "vertices": "with the colours of vertices",
        "none": "without colours",
    }[options.colours]
    what = count(n, "track" if options.tracks else "input")
    return f"{what} of {request.source.run.folder} to {options.format} in the {options.frame} frame, {told}."
