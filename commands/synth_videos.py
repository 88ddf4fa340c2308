"""`ddfa-batch synth-videos`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.config_file import config_option
from ddfa_batch.commands.execution import check_settings, execute, expect_workers
from ddfa_batch.commands.model_choice import choose_model
from ddfa_batch.commands.options import (
    PATH,
    SOURCE,
    RunSettings,
    formats_option,
    grouped,
    max_pixels_option,
    model_option,
    path_column_option,
    range_option,
    run_options,
)
from ddfa_batch.schemas.config import CLIP_FORMATS, CLIPS_PER_FACE, GIVEN_BOXES, ORIGINAL, SynthOptions

if TYPE_CHECKING:
    from ddfa_batch.pipeline.plan import Run, RunRequest
    from ddfa_batch.tasks.bundles.model_bundle import Bundle
    from ddfa_batch.tasks.files.inputs import Given

_Range = tuple[float, float]
#: Sides of square crops, pixels.
_SIDES = (16, 1024)


@dataclass(frozen=True)
class _ClipOptions:
    """Which clips are made, as the user said it; ranges and numbers as `SynthOptions` has them."""

    #: Run folder or table of parameters that replaces the detector.
    params: Path | None
    #: Name of a detector; None for the model's.
    detector: str | None
    #: Frames per clip, the still included.
    frames: int
    #: Clips of every face.
    clips_per_image: int
    #: Faces per image that move; 0 for all.
    max_faces: int
    #: Seed of all randomness.
    seed: int
    #: Degrees added to the still's yaw.
    yaw: _Range
    #: Degrees added to its pitch.
    pitch: _Range
    #: Degrees of rotation in the picture.
    roll: _Range
    #: Factor of size.
    scale: _Range
    #: Share of the roi's side.
    shift: _Range
    #: Factor of the most a frame may add.
    speed: float
    #: Standard deviation in grey levels.
    noise: _Range
    #: Share of a frame's time the shutter is open.
    blur: _Range
    #: "original", or the side of square crops in pixels.
    size: str
    #: One of `CLIP_FORMATS`.
    form: str
    #: Pixels above which a picture is refused.
    max_pixels: int
    #: Formats of pictures that are decoded.
    formats: tuple[str, ...]
    #: Column of a manifest that holds the paths.
    path_column: str | None

    def check(self) -> None:
        """Raise `click.UsageError` for options that exclude each other or make no range."""
        if self.params and self.detector:
            raise click.UsageError("--params replaces the detector; leave out --detector.")
        for name, (low, high), most in (("noise", self.noise, 255.0), ("blur", self.blur, 10.0)):
            if not 0 <= low <= high <= most:
                raise click.UsageError(f"--{name} must rise and lie within 0..{most:g}, but is {low:g}..{high:g}.")

    def resolved(self, bundle: Bundle, given: Given | None) -> SynthOptions:
        """The options with the model's defaults in place of what was not said."""
        detector, min_score = GIVEN_BOXES, 0.0
        if given is None:
            detector, spec = bundle.detector(self.detector)
            min_score = spec.face_threshold
        return SynthOptions(
            frames=self.frames,
            clips_per_image=self.clips_per_image,
            seed=self.seed,
            yaw=self.yaw,
            pitch=self.pitch,
            roll=self.roll,
            scale=self.scale,
            shift=self.shift,
            speed=self.speed,
            noise=self.noise,
            blur=self.blur,
            size=_side(self.size),
            format=self.form,
            max_faces=self.max_faces,
            max_pixels=self.max_pixels,
            detector=detector,
            min_score=min_score,
            params_digest=given.digest if given else None,
            path_column=self.path_column,
            formats=self.formats,
        )


def _side(size: str) -> int:
    if size == "original":
        return ORIGINAL
    least, most = _SIDES
    if not size.isdigit() or not least <= int(size) <= most:
        raise click.UsageError(f"--size is original or a number of pixels from {least} to {most}, but is '{size}'.")
    return int(size)


_clip_options = grouped(
    "clips",
    _ClipOptions,
    [
        click.option(
            "--params",
            type=PATH,
            help="Parameters of the faces: the folder of a process run, or a Parquet table (key, params, roi). "
            "Without, the faces are found first.",
        ),
        click.option("--detector", metavar="NAME", help="One of the model's detectors, where no --params are given."),
        click.option(
            "--frames",
            type=click.IntRange(1, 1000),
            metavar="N",
            default=10,
            show_default=True,
            help="Frames per clip, the still included.",
        ),
        click.option(
            "--clips-per-image",
            type=click.IntRange(1, CLIPS_PER_FACE - 1),
            metavar="N",
            default=1,
            show_default=True,
            help="Clips of every face, each with its own motion.",
        ),
        click.option(
            "--max-faces",
            type=click.IntRange(0),
            metavar="N",
            default=1,
            show_default=True,
            help="Faces per image that move, each in clips of its own, best first; 0 for all.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**32 - 1),
            metavar="N",
            default=0,
            show_default=True,
            help="The same seed gives the same bytes, however many workers.",
        ),
        range_option("--yaw-range", "yaw", -30, 30, "Degrees added to the still's yaw."),
        range_option("--pitch-range", "pitch", -15, 15, "Degrees added to its pitch."),
        range_option("--roll", "roll", -10, 10, "Degrees of rotation in the picture."),
        range_option("--scale", "scale", 0.92, 1.08, "Factor of size."),
        range_option("--shift", "shift", -0.05, 0.05, "Share of the face's roi."),
        click.option(
            "--speed",
            type=click.FloatRange(0, 1000, min_open=True),
            metavar="X",
            default=1.0,
            show_default=True,
            help="How fast: 1 is at most 6° of yaw, 4° of pitch, 3° of roll a frame; a range that cannot be "
            "reached in the frames there are is shortened.",
        ),
        range_option("--noise", "noise", 0, 4, "Standard deviation of noise in grey levels, one per clip."),
        range_option(
            "--blur", "blur", 0, 0.8, "Motion blur: share of a frame's time the shutter is open, one per clip."
        ),
        click.option(
            "--size",
            metavar="SIZE",
            default="original",
            show_default=True,
            help="original: all of the picture; or the side in pixels of square crops of the face, such as 120.",
        ),
        click.option(
            "--format",
            "form",
            type=click.Choice(CLIP_FORMATS),
            metavar="FORM",
            default="frames",
            show_default=True,
            help="frames (PNG files), mp4 (lossy), webdataset (tar files), or parquet (PNGs in it).",
        ),
        max_pixels_option,
        formats_option,
        path_column_option,
    ],
)


@click.command("synth-videos", short_help="Turn stills into short videos with exact labels.")
@click.argument("source", metavar="IMAGES", type=SOURCE)
@click.argument("out", type=PATH)
@model_option("Name or folder of a model.")
@_clip_options
@click.option(
    "--preview",
    type=click.IntRange(0, 50),
    metavar="N",
    default=0,
    help="Draw this many clips to OUT/preview.png and OUT/preview.gif.",
)
@click.option("--retry-failed", is_flag=False, flag_value="all", hidden=True)
@run_options
@config_option
@click.pass_obj
def synth_videos(
    models_folder: Path,
    /,
    source: str,
    out: Path,
    model: str | None,
    clips: _ClipOptions,
    preview: int,
    retry_failed: str | None,
    settings: RunSettings,
) -> None:
    """Turn still photographs into short videos with exact labels, for training and testing.

    Each clip begins with the still; the head then moves along a smooth random path, in the picture and out of it (face
    profiling), and the frames get noise and motion blur. OUT/frames has one row per frame with the same columns as a
    process run, and every motion value. The method is section 2.4 of the 3DDFA_V2 paper.

    \b
    Examples:
      ddfa-batch synth-videos ./images clips/ --preview 8
      ddfa-batch synth-videos ./images clips/ --params out/ --format webdataset
      ddfa-batch synth-videos ./images clips/ --frames 2 --yaw-range -60 60
    """
    check_settings(settings)
    if retry_failed is not None:
        raise click.UsageError(
            "synth-videos does not do error rows again, for the clips of a shard's stills share files; make clips of "
            "the repaired stills in a folder of their own, or all anew with --overwrite."
        )
    clips.check()
    expect_workers(settings)
    from ddfa_batch.pipeline.synthesize import synthesize

    request = _request(models_folder, source, out, model, clips, settings)
    execute(request, synthesize, _draw, preview, settings)


def _draw(run: Run, n: int, progress: Callable[[int, int], None]) -> list[str]:
    """Draw a preview; what draws takes long to import, so only those who want one pay for it."""
    from ddfa_batch.pipeline.preview import draw_clips

    return draw_clips(run, n, progress)


def _request(
    models_folder: Path, source: str, out: Path, model: str | None, clips: _ClipOptions, settings: RunSettings
) -> RunRequest:
    """Everything the run needs, resolved and checked before any work starts."""
    from ddfa_batch.pipeline.plan import RunRequest
    from ddfa_batch.pipeline.synthesize import limits
    from ddfa_batch.tasks.files.given_faces import read_faces
    from ddfa_batch.tasks.files.inputs import resolve_source

    chosen = choose_model(models_folder, model, None if settings.overwrite else out, clips.params)
    bundle, given = chosen.bundle, None
    if clips.params:
        given = read_faces(clips.params, bundle.manifest.layout.size, bundle.digest, clips.max_faces)
    options = clips.resolved(bundle, given)
    limits(options)
    where = resolve_source(source, clips.path_column, clips.formats)
    chosen.announce(settings.quiet, "parameters given" if given else f"detector {options.detector}")
    return RunRequest("synth-videos", where, out, options, bundle, given, settings.shard_size)
