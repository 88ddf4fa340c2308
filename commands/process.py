"""`ddfa-batch process`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.config_file import config_option
from ddfa_batch.commands.execution import check_settings, execute, expect_workers, run_part
from ddfa_batch.commands.model_choice import choose_model
from ddfa_batch.commands.options import (
    PATH,
    RUN_PLACE,
    SOURCE,
    RunSettings,
    formats_option,
    grouped,
    max_pixels_option,
    model_option,
    path_column_option,
    retry_option,
    run_options,
)
from ddfa_batch.schemas.config import (
    AVERAGES,
    CPU,
    DECODINGS,
    DETECT_SIZES,
    FULL,
    MAX_REFINE,
    NO_SMOOTHING,
    PROVIDERS,
    SMOOTHINGS,
    VERTEX_FORMS,
    FaceOptions,
)
from ddfa_batch.schemas.extras import from_extra

if TYPE_CHECKING:
    from ddfa_batch.pipeline.plan import Run, RunRequest
    from ddfa_batch.tasks.files.run_folders import Named


face_options = grouped(
    "faces",
    FaceOptions,
    [
        click.option("--detector", metavar="NAME", help="One of the model's detectors.  [default: the model's]"),
        click.option(
            "--boxes",
            type=PATH,
            help="Your own boxes, as CSV or Parquet: key, x0, y0, x1, y1[, score]. Nothing is detected.",
        ),
        click.option(
            "--refine",
            type=click.IntRange(0, MAX_REFINE),
            metavar="N",
            default=1,
            show_default=True,
            help="Passes that crop anew around the landmarks of the pass before; 0 is upstream's behaviour.",
        ),
        click.option(
            "--average",
            type=click.Choice(AVERAGES),
            help="Average the last pass with one of the mirrored crop (mirror), nearer and steadier for a pass more, "
            "or not (none).  [default: the model's]",
        ),
        click.option(
            "--vertices",
            type=click.Choice(VERTEX_FORMS),
            default="float32",
            show_default=True,
            help="Dense meshes to HDF5, in full or half the size, or not: parameters rebuild them at any time.",
        ),
        click.option(
            "--min-score",
            type=click.FloatRange(0, 1),
            metavar="X",
            help="Least score of a face.  [default: the model's]",
        ),
        click.option(
            "--max-faces",
            type=click.IntRange(0),
            metavar="N",
            default=0,
            help="Faces per image, best first; 0 for all.",
        ),
        click.option(
            "--detect-size",
            type=click.IntRange(*DETECT_SIZES),
            metavar="N",
            help="Detect on a copy whose longer side is at most this.  [default: the detector's]",
        ),
        click.option(
            "--every",
            type=click.IntRange(1),
            metavar="N",
            help="Of videos: take every N-th frame.  [default: all]",
        ),
        click.option(
            "--fps",
            type=click.FloatRange(0, min_open=True),
            metavar="F",
            help="Of videos: take so many frames a second.",
        ),
        click.option(
            "--track/--no-track",
            default=True,
            show_default=True,
            help="Of videos: follow every face from frame to frame, or detect anew in each.",
        ),
        click.option(
            "--smooth",
            type=click.Choice(SMOOTHINGS),
            default=NO_SMOOTHING,
            show_default=True,
            help="Of videos: add smoothed columns for followed faces; raw ones stay.",
        ),
        click.option(
            "--provider",
            type=click.Choice(PROVIDERS),
            default=CPU,
            show_default=True,
            help="What runs the networks: onnxruntime on the CPU, or another that is installed, slightly otherwise.",
        ),
        click.option(
            "--decode",
            type=click.Choice(DECODINGS),
            default=FULL,
            show_default=True,
            help="JPEGs of 2 MP and more: in full, or (scaled) as large as their faces need, for time and memory.",
        ),
        max_pixels_option,
        formats_option,
        path_column_option,
        click.option(
            "--image-column",
            metavar="NAME",
            help="A Parquet file's column of pictures, bytes or {bytes, path}.  [default: image, jpg, …]",
        ),
        click.option(
            "--key-column",
            metavar="NAME",
            help="Column of a Parquet file that names its pictures, such as image.path.  [default: their numbers]",
        ),
        click.option(
            "--sample-json",
            is_flag=True,
            help="Put the JSON beside each picture in a tar or ZIP into OUT/images, as meta_json.",
        ),
    ],
)


@click.command(short_help="Find faces in photographs and videos: parameters, landmarks, meshes, tracks.")
@click.argument("sources", metavar="IMAGES...", type=SOURCE, nargs=-1, required=True)
@click.argument("out", type=RUN_PLACE)
@model_option("Name or folder of a model.")
@face_options
@click.option(
    "--preview",
    type=click.IntRange(0, 200),
    metavar="N",
    default=0,
    help="Draw meshes and landmarks over the first N inputs, or N frames spread over videos, in OUT/preview.png.",
)
@retry_option
@run_options
@config_option
@click.pass_obj
def process(
    models_folder: Path,
    /,
    sources: tuple[str, ...],
    out: Named,
    model: str | None,
    faces: FaceOptions,
    preview: int,
    retry_failed: frozenset[str] | None,
    settings: RunSettings,
) -> None:
    """Find the faces of IMAGES and write parameters, landmarks and meshes to the folder OUT.

    IMAGES is a folder (searched through), an image or a video, a text list (.txt, a path per line; - for standard
    input), a manifest (.csv or .parquet with a path column), an archive (.tar, .zip), a Parquet file with the pictures
    in it, a pattern, a URL (s3://…, https://…), or several of these. Every input and every frame of a video gets one
    row in OUT/images, every face one in OUT/faces, every face followed through a video one in OUT/tracks. Running the
    same command again resumes; a bad file costs a row, not the run. OUT may be a URL, too: s3://bucket/runs/a/.

    \b
    Examples:
      ddfa-batch process ./images out/ --preview 20
      ddfa-batch process list.csv out/ --vertices none --max-faces 1
      ddfa-batch process 'shards/{00000..00099}.tar' out/
      ddfa-batch process clip.mp4 out/ --smooth one-euro
      ddfa-batch process s3://bucket/photos/ s3://bucket/runs/a/
      ddfa-batch process ./images out/ --scheduler tcp://10.0.0.1:8786
      ddfa-batch process ./images out/ --extend --retry-failed truncated,missing
    """
    check_settings(settings)
    if preview:
        from_extra("numba")  # now, and not when the run is done
    if settings.overwrite and retry_failed:
        raise click.UsageError("--overwrite replaces the run in OUT; leave out --retry-failed.")
    if run_part(settings) and retry_failed:
        raise click.UsageError("--retry-failed does what is left of a finished run; leave out --shard-index.")
    expect_workers(settings, sources)
    from ddfa_batch.pipeline.process import process as run_process
    from ddfa_batch.tasks.files.remote_calls import limited

    with limited(settings.remote):
        request = _request(models_folder, sources, out, model, faces, settings)
        command = functools.partial(run_process, retry_failed=retry_failed or frozenset())
        execute(request, command, _draw, preview, settings)


def _draw(run: Run, n: int, progress: Callable[[int, int], None]) -> list[str]:
    """Draw a preview; what draws takes long to import, so only those who want one pay for it."""
    from ddfa_batch.pipeline.preview import draw_faces

    return draw_faces(run, n, progress)


def _request(
    models_folder: Path,
    sources: tuple[str, ...],
    out: Named,
    model: str | None,
    faces: FaceOptions,
    settings: RunSettings,
) -> RunRequest:
    """Everything the run needs, resolved and checked before any work starts."""
    from ddfa_batch.pipeline.process_request import process_request

    if contradiction := faces.contradiction(lambda name: f"--{name.replace('_', '-')}"):
        raise click.UsageError(contradiction)
    chosen = choose_model(models_folder, model, None if settings.overwrite else out)
    request = process_request(sources, out, chosen.bundle, faces, settings.shard_size)
    how = "boxes given" if request.given else f"detector {request.options.detector}"
    chosen.announce(settings.quiet, how)
    return request
