"""`ddfa-batch bench`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddfa_batch.commands.model_choice import choose_model
from ddfa_batch.commands.options import PATH, SOURCE, model_option, quiet_option
from ddfa_batch.commands.process import face_options
from ddfa_batch.commands.wording import byte_size, count
from ddfa_batch.schemas.config import FaceOptions

if TYPE_CHECKING:
    from ddfa_batch.pipeline.bench import BenchResult
    from ddfa_batch.pipeline.plan import RunRequest
    from ddfa_batch.tasks.bundles.model_bundle import Bundle

#: Options whose other values can be measured beside what is asked for, and how their words are read.
_BESIDE: dict[str, Callable[[str], Any]] = {
    "detector": str,
    "refine": int,
    "average": str,
    "vertices": str,
    "detect-size": int,
    "decode": str,
    "provider": str,
    "model": str,
}


@click.command(short_help="How fast this machine is with these pictures, stage by stage.")
@click.argument("sources", metavar="IMAGES...", type=SOURCE, nargs=-1, required=True)
@model_option("Name or folder of a model.")
@face_options
@click.option(
    "--workers",
    type=click.IntRange(1),
    multiple=True,
    metavar="N",
    help="Also measure so many local workers. May be given several times.",
)
@click.option(
    "--beside",
    multiple=True,
    metavar="OPTION=VALUE",
    help=f"Also measure with another value: {', '.join(f'{name}=…' for name in _BESIDE)}. May be given several times.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    metavar="N",
    default=3,
    show_default=True,
    help="Each is measured so often; the median is told.",
)
@click.option("--scratch", type=PATH, help="Where runs are written and removed again.  [default: the system's]")
@click.option("--json", "as_json", is_flag=True, help="All that was measured, as JSON.")
@quiet_option
@click.pass_obj
def bench(
    models_folder: Path,
    /,
    sources: tuple[str, ...],
    model: str | None,
    faces: FaceOptions,
    workers: tuple[int, ...],
    beside: tuple[str, ...],
    rounds: int,
    scratch: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure `process` with IMAGES on this machine: time by stage, pictures a second, and what that leaves undone.

    Runs go into a folder that is removed again. Beside them stand the bare kernels of the same pictures (decoding, the
    networks, the dense product, the raw write): what is between the two is all else. Give some hundred pictures; of
    fewer, starting workers is most of what is measured.

    \b
    Examples:
      ddfa-batch bench ./images
      ddfa-batch bench ./images --workers 1 --workers 4 --beside refine=0
      ddfa-batch bench ./images --json > here.json
    """
    from ddfa_batch.pipeline.bench import bench as run_bench

    def measured(name: str | None, options: FaceOptions, title: str) -> BenchResult:
        bundle = choose_model(models_folder, name).bundle
        say = (lambda step: None) if quiet else (lambda step: click.echo(f"{title}: {step} …", err=True))
        return run_bench(_request(sources, bundle, options), workers, rounds, scratch, say)

    asked = {"as asked": (model, faces), **{words: _other(words, model, faces) for words in beside}}
    results = {title: measured(name, options, title) for title, (name, options) in asked.items()}
    if as_json:
        click.echo(json.dumps({title: _numbers(result) for title, result in results.items()}, indent=2))
    else:
        click.echo("\n\n".join(_told(title, result) for title, result in results.items()))


def _request(sources: tuple[str, ...], bundle: Bundle, options: FaceOptions) -> Callable[[Path], RunRequest]:
    from ddfa_batch.pipeline.process_request import process_request

    return lambda out: process_request(sources, out, bundle, options)


def _other(words: str, model: str | None, faces: FaceOptions) -> tuple[str | None, FaceOptions]:
    """Model and options with what OPTION=VALUE says; raises `click.UsageError` for what is none."""
    name, equals, value = words.partition("=")
    if name not in _BESIDE or not equals:
        raise click.UsageError(f"--beside takes one of {', '.join(f'{n}=…' for n in _BESIDE)}, but got '{words}'.")
    if name == "model":
        return value, faces
    try:
        read = _BESIDE[name](value)
    except ValueError:
        raise click.UsageError(f"--beside {name}=… takes a number, but got '{value}'.") from None
    return model, replace(faces, **{name.replace("-", "_"): read})


def _numbers(result: BenchResult) -> dict[str, Any]:
    return {**asdict(result), "share_of_kernels": result.share, "core_hours_per_million": result.core_hours(1e6)}


def _told(title: str, result: BenchResult) -> str:
    """What was measured, for people."""
    stages, kernels = result.stages, result.kernels
    size = "" if result.bytes_per_face is None else f", {byte_size(result.bytes_per_face)} a face on disk"
    counted = (count(result.inputs, "input"), count(result.faces, "face"), count(result.errors, "error"))
    lines = [
        f"{title}: {', '.join(counted)}{size}",
        "",
        f"{'ms an input':24}{'process':>10}{'kernels alone':>16}",
        f"{'read and decode':24}{stages.decode:>10.2f}{kernels.decode:>16.2f}",
        f"{'detect':24}{stages.detect:>10.2f}{kernels.detect:>16.2f}",
        f"{'crop and regress':24}{stages.regress:>10.2f}{kernels.regress:>16.2f}",
        f"{'meshes, tables, disk':24}{stages.write:>10.2f}{kernels.dense + kernels.write:>16.2f}",
        f"{'together':24}{stages.total:>10.2f}{kernels.total:>16.2f}   {result.share:.0%} of the kernels' speed",
        "",
        f"one process            {result.rate:>8.1f} inputs/s",
    ]
    for each in result.workers:
        by_worker = each.rate / each.workers / result.rate
        workers = count(each.workers, "local worker")
        lines.append(f"{workers:22} {each.rate:>8.1f} inputs/s, start included: {by_worker:.0%} of one process, each")
    lines += ["", f"A million inputs like these: {result.core_hours(1e6):,.1f} core hours."]
    return "\n".join(lines)
