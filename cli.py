"""The command line: words → a frozen config → one call → words.

The only file that knows click, exit codes, environment variables and the user's folders.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import platformdirs

from ddfa_batch.schemas import config
from ddfa_batch.schemas.bundle import BUILTIN
from ddfa_batch.schemas.errors import ERROR_KINDS, BundleError, DdfaError

if TYPE_CHECKING:
    from ddfa_batch.pipeline.evaluate import Evaluation
    from ddfa_batch.pipeline.plan import Run, Totals, Wanted
    from ddfa_batch.pipeline.train import Progress
    from ddfa_batch.tasks.bundles.model_bundle import Bundle
    from ddfa_batch.tasks.training.meta_joint import Record

EXIT_FAULT, EXIT_STRICT, EXIT_INTERRUPTED = 1, 3, 130

F = TypeVar("F", bound=Callable[..., Any])


def main() -> None:
    """Entry point of `ddfa-batch`: turn every fault the project knows into a sentence and an exit code."""
    try:
        cli.main(prog_name="ddfa-batch", standalone_mode=False)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.ClickException as misuse:
        misuse.show()
        sys.exit(misuse.exit_code)
    except DdfaError as fault:
        click.echo(f"Error: {fault}", err=True)
        sys.exit(EXIT_FAULT)
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nStopped. What is finished is kept: run the same command again to resume.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except OSError as fault:
        named = f"{fault.filename}: " if fault.filename else ""
        click.echo(f"Error: {named}{fault.strerror or fault}.", err=True)
        sys.exit(EXIT_FAULT)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ddfa-batch")
@click.option(
    "--models-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DDFA_BATCH_MODELS",
    help="Where imported models lie.  [env: DDFA_BATCH_MODELS; default: the user's data folder]",
)
@click.pass_context
def cli(context: click.Context, models_dir: Path | None) -> None:
    """Turn photographs into 3-D face parameters, landmarks and dense meshes, in bulk.

    A model comes with the package; others can be imported or trained, and named with --model.

    \b
    Try it:     ddfa-batch process ./images out/
    And look:   ddfa-batch status out/
    """
    context.obj = models_dir or default_models_folder()


def default_models_folder() -> Path:
    """Where models are imported to, unless --models-dir or DDFA_BATCH_MODELS says otherwise."""
    return Path(platformdirs.user_data_dir("ddfa-batch", appauthor=False)) / "models"


# ----------------------------------------------------------------------------------------------- models


@cli.group()
def models() -> None:
    """Import, list, show and verify model bundles.

    A bundle is a folder: model.json (who made it, how its numbers are meant, the sha256 of every file), the
    regressor and detectors as ONNX, and the morphable face model. One comes with the package, as 'builtin'.
    """


@models.command("import")
@click.argument("release", type=click.Choice(["3ddfa-v2"]))
@click.argument("checkout", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Choice(["mb1", "mb05"]), help="Which regressor; default: all there are.")
@click.option("--name", help="The bundle's name.  [default: 3ddfa-v2-mb1, 3ddfa-v2-mb05]")
@click.pass_obj
def import_(folder: Path, /, release: str, checkout: Path, weights: str | None, name: str | None) -> None:
    """Make model bundles from a checkout of the official release.

    The checkpoints and pickles are read without being executed. The face model derives from BFM 2009: research
    use only, and it stays on your machine.

    \b
    Example:  git clone https://github.com/cleardusk/3DDFA_V2
              ddfa-batch models import 3ddfa-v2 ./3DDFA_V2
    """
    from ddfa_batch.tasks.bundles import official_release

    if name is not None:
        _refuse_builtin(name, "--name")
    found = official_release.available_weights(checkout)
    if weights is not None and weights not in found:
        raise BundleError(f"{checkout} has no weights called {weights} (it has: {', '.join(found)}).")
    chosen = [weights] if weights else found[:1] if name else found
    for each in chosen:
        bundle = official_release.import_3ddfa_v2(checkout, each, folder / (name or f"{release}-{each}"))
        click.echo(f"Imported {bundle.manifest.name} to {bundle.folder}")
    click.echo(f"Licence: {bundle.manifest.licence}")
    click.echo(f"Next:    ddfa-batch process ./images out/ --model {bundle.manifest.name}")


@models.command("list")
@click.pass_obj
def list_(folder: Path, /) -> None:
    """List the installed models.

    \b
    Example:  ddfa-batch models list
    """
    from ddfa_batch.tasks.bundles.model_bundle import builtin_folder, installed, load_bundle

    known = {BUILTIN: builtin_folder(), **{name: folder / name for name in installed(folder) if name != BUILTIN}}
    for name, where in known.items():
        try:
            manifest = load_bundle(where).manifest
        except BundleError as fault:
            click.echo(f"{name:24}  broken: {fault}")
            continue
        parts = f"{manifest.topology}, {manifest.layout.size} parameters, detectors: " + (
            ", ".join(manifest.detectors) or "none"
        )
        click.echo(f"{name:24}  {parts}{'; used where no model is named' if name == BUILTIN else ''}")
        click.echo(f"{'':24}  {manifest.licence}")
    if BUILTIN in installed(folder):
        click.echo(f"Hidden by its name: {folder / BUILTIN}; give it another name, or its folder to --model.")


@models.command()
@click.argument("name")
@click.pass_obj
def show(folder: Path, /, name: str) -> None:
    """Show what a model is, where it comes from and under which terms.

    \b
    Example:  ddfa-batch models show builtin
    """
    from ddfa_batch.tasks.bundles.model_bundle import find_bundle, load_morphable

    bundle = find_bundle(name, folder)
    manifest, face = bundle.manifest, load_morphable(bundle)
    rows = {
        "name": manifest.name, "folder": bundle.folder, "digest": bundle.digest, "licence": manifest.licence,
        "provenance": manifest.provenance,
        **({"card": bundle.card} if bundle.card else {}),
        "parameters": f"{manifest.layout.size} = 12 pose + {manifest.n_shape} shape + "
        f"{manifest.n_expression} expression",
        "input": f"{manifest.input_size}×{manifest.input_size} BGR, (x − {manifest.input_mean:g}) / "
        f"{manifest.input_std:g}",
        "face model": f"{manifest.topology}, {face.n_vertices:,} vertices, {len(face.triangles):,} triangles, "
        f"unit {face.unit}",
    }  # fmt: skip
    for detector, spec in manifest.detectors.items():
        mark = " (default)" if detector == manifest.default_detector else ""
        rows[f"detector {detector}{mark}"] = (
            f"{spec.kind}, score above {spec.least:g}, pictures scaled to fit {spec.fit[1]}×{spec.fit[0]}"
            + (f", boxes above {spec.candidate_score:g} shown to the regressor" if spec.trust else "")
            + (f", again at ×{', ×'.join(f'{x:g}' for x in spec.again)} where no face is found" if spec.again else "")
        )
    for key, value in rows.items():
        click.echo(f"{key}: {value}")


@models.command()
@click.argument("name")
@click.pass_obj
def verify(folder: Path, /, name: str) -> None:
    """Check every file of a model against its sha256, and that the networks run.

    \b
    Example:  ddfa-batch models verify 3ddfa-v2-mb05
    """
    from ddfa_batch.tasks.bundles.model_bundle import find_bundle, loaded_model

    bundle = find_bundle(name, folder)
    loaded = loaded_model(str(bundle.folder), bundle.digest)
    for spec in bundle.manifest.detectors.values():
        loaded.detector_session(spec)
    click.echo(f"{bundle.manifest.name}: {len(bundle.manifest.files)} files are what model.json says, and load.")


@models.command("add-detector")
@click.argument("name")
@click.argument("family", type=click.Choice(["yunet", "fcos"]))
@click.argument("onnx_file", metavar="FILE.onnx", type=click.Path(path_type=Path))
@click.option("--as", "detector", default=None, help="What to call it in --detector.  [default: the family]")
@click.pass_obj
def add_detector(folder: Path, /, name: str, family: str, onnx_file: Path, detector: str | None) -> None:
    """Add an ONNX face detector to the model NAME.

    \b
    Example:  ddfa-batch models add-detector 3ddfa-v2-mb05 yunet face_detection_yunet_2023mar.onnx
              ddfa-batch process ./images out/ --detector yunet
    """
    from ddfa_batch.tasks.bundles import model_bundle as bundles

    bundle = bundles.find_bundle(name, folder)
    if bundle.built_in:
        raise BundleError(
            f"The built-in model is part of the installation and stays as it is; copy {bundle.folder} to a folder of "
            "your own, and add the detector there."
        )
    bundle = bundles.add_detector(bundle, detector or family, family, onnx_file)
    click.echo(f"{bundle.manifest.name} now has the detectors: {', '.join(bundle.manifest.detectors)}")


# ------------------------------------------------------------------------------------- which model is used


def _model_option(words: str, default: str = BUILTIN) -> Callable[[F], F]:
    """The option --model; None where the user named none, by it or by the environment."""
    return click.option("--model", envvar="DDFA_BATCH_MODEL", metavar="NAME|FOLDER",
                        help=f"{words}  [env: DDFA_BATCH_MODEL; default: {default}]")  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """The model a command uses, and the folder of the run whose record chose it, where none was named."""

    bundle: Bundle
    record: Path | None = None

    def say(self, quiet: bool, *more: str) -> Bundle:
        """Say in one line, where errors go, which model it is and what `more` there is to tell; give the bundle."""
        from ddfa_batch.tasks.bundles.model_bundle import load_morphable

        if not quiet:
            manifest, built_in = self.bundle.manifest, self.bundle.built_in
            where = f"ddfa_batch/models/{BUILTIN}" if built_in else str(self.bundle.folder)
            vertices = load_morphable(self.bundle).n_vertices
            parts = [where, f"{manifest.layout.size} parameters", f"{vertices:,} vertices", *more]
            line = f"Model: {manifest.name} ({', '.join(parts)})"
            if self.record is not None and not built_in:
                line += f"; {self.record} was made with it, though the default is {BUILTIN}"
            click.echo(line, err=True)
        return self.bundle


def _model(folder: Path, name: str | None, *records: Path | None) -> Chosen:
    """The model that was named; else that of the first of `records` which is the folder of a run; else `BUILTIN`.

    A run's own record decides, so that what was begun with another model can be gone on with.
    """
    from ddfa_batch.pipeline.plan import read_run
    from ddfa_batch.tasks.bundles.model_bundle import find_bundle, load_bundle, recorded_folder
    from ddfa_batch.tasks.files.store import RUN

    for record in records if name is None else ():
        if record is not None and (record / RUN).is_file():
            planned = read_run(record).model
            try:
                return Chosen(load_bundle(recorded_folder(planned["folder"], planned["digest"])), record)
            except BundleError as fault:
                raise BundleError(
                    f"{record} was made with the model '{planned['name']}', which cannot be used: {fault} If it was "
                    "moved, name its folder with --model."
                ) from None
    return Chosen(find_bundle(name or BUILTIN, folder))


def _refuse_builtin(name: str, what: str) -> None:
    """Raise where a user's model would bear the built-in one's name."""
    if name == BUILTIN:
        raise BundleError(f"'{BUILTIN}' is the name of the model that comes with the package; choose another {what}.")


# ---------------------------------------------------------------------------------------------- process


def _run_options(command: F) -> F:
    """The options every command has that makes a run: where, how much at once, how much is said."""
    options = [
        click.option("--workers", type=click.IntRange(1), help="Local processes.  [default: one per core]"),
        click.option("--scheduler", default="auto", show_default=True, metavar="WHERE",
                     help="in-process, local, tcp://HOST:PORT or a scheduler file; auto: in-process for few images."),
        click.option("--shard-size", type=click.IntRange(1, 1_000_000),
                     help="Images per shard, the unit of work and of resuming.  [default: by the number of images]"),
        click.option("--overwrite", is_flag=True, help="Remove the run in OUT first."),
        click.option("--dry-run", is_flag=True, help="Say what would be done, and stop."),
        click.option("--strict", is_flag=True, help=f"Exit with {EXIT_STRICT} if any image ended as an error row."),
        click.option("--quiet", is_flag=True, help="Print errors only."),
        click.option("--verbose", is_flag=True, help="Also say where Dask's dashboard is."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@cli.command()
@click.argument("source", metavar="IMAGES", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@_model_option("Name or folder of a model.")
@click.option("--detector", help="One of the model's detectors.  [default: the model's]")
@click.option(
    "--boxes",
    type=click.Path(path_type=Path),
    help="Your own boxes, as CSV or Parquet: key, x0, y0, x1, y1[, score]. Nothing is detected.",
)
@click.option(
    "--refine",
    type=click.IntRange(0, 5),
    default=1,
    show_default=True,
    help="Passes that crop anew around the landmarks of the pass before; 0 is upstream's behaviour.",
)
@click.option(
    "--vertices",
    type=click.Choice(["float32", "none"]),
    default="float32",
    show_default=True,
    help="Dense meshes to HDF5, or not: they can be rebuilt from the parameters at any time.",
)
@click.option("--min-score", type=click.FloatRange(0, 1), help="Least score of a face.  [default: the model's]")
@click.option("--max-faces", type=click.IntRange(0), default=0, help="Faces per image, best first; 0 for all.")
@click.option(
    "--detect-size",
    type=click.IntRange(64, 8192),
    help="Detect on a copy whose longer side is at most this.  [default: the detector's]",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1, config.MAX_MAX_PIXELS),
    default=config.DEFAULT_MAX_PIXELS,
    show_default=True,
    help="Larger pictures become an error row, before they take memory.",
)
@click.option(
    "--preview",
    type=click.IntRange(0, 200),
    default=0,
    help="Draw meshes and landmarks over this many of the inputs, in OUT/preview.png.",
)
@click.option("--path-column", help="Column of a manifest that holds the paths.")
@_run_options
@click.pass_obj
def process(folder: Path, /, source: Path, out: Path, **options: Any) -> None:
    """Find the faces of IMAGES and write parameters, landmarks and meshes to the folder OUT.

    IMAGES is a folder (searched through), one image, a text list (.txt, a path per line), or a manifest (.csv or
    .parquet with a path column). Every input gets one row in OUT/images, every face one in OUT/faces. Running the
    same command again resumes; a bad file costs a row, not the run.

    \b
    Examples:
      ddfa-batch process ./images out/ --preview 20
      ddfa-batch process list.csv out/ --vertices none --max-faces 1
      ddfa-batch process ./images out/ --scheduler tcp://10.0.0.1:8786
    """
    from ddfa_batch.pipeline.preview import draw_faces
    from ddfa_batch.pipeline.process import process as run_process

    _carry_out(_wanted(folder, source, out, options), run_process, draw_faces, options)


def _carry_out(
    wanted: Wanted,
    command: Callable[..., tuple[Run, Totals]],
    draw: Callable[[Run, int], list[Path]],
    options: dict[str, Any],
) -> None:
    """Announce, do, summarise and draw a run."""
    from ddfa_batch.pipeline import plan

    if options["quiet"] and options["verbose"]:
        raise click.UsageError("--quiet and --verbose exclude each other.")
    if options["scheduler"] == "in-process" and (options["workers"] or 1) > 1:
        raise click.UsageError("--scheduler in-process has one worker; leave out --workers.")
    say = (lambda _: None) if options["quiet"] else click.echo
    _log_to_stderr(verbose=options["verbose"])
    if options["dry_run"]:
        count, shard_size, notes = plan.inspect(wanted)
        say(_announcement(wanted, count, shard_size))
        for note in notes:
            say(note)
        say("Nothing was written (--dry-run).")
        return
    bar = ProgressBar(wanted, quiet=options["quiet"])
    execution = config.Execution(options["scheduler"], options["workers"])
    run, totals = command(wanted, execution, options["overwrite"], bar)
    bar.close()
    say(_summary(run, totals, bar.seconds, bar.done_now))
    for path in draw(run, options["preview"]) if options["preview"] else []:
        say(f"Look at {path}")
    if options["strict"] and totals.n_errors:
        sys.exit(EXIT_STRICT)


def _wanted(folder: Path, source: Path, out: Path, options: dict[str, Any]) -> Wanted:
    """Everything a run needs, resolved and checked before any work starts."""
    from ddfa_batch.pipeline.plan import Wanted
    from ddfa_batch.tasks.files.inputs import read_boxes, resolve_source

    chosen = _model(folder, options["model"], None if options["overwrite"] else out)
    bundle = chosen.bundle
    boxes = read_boxes(options["boxes"]) if options["boxes"] else None
    if boxes is not None and (options["detector"] or options["min_score"] is not None):
        raise click.UsageError("--boxes replaces the detector; leave out --detector and --min-score.")
    detector, min_score = config.GIVEN_BOXES, 0.0
    if boxes is None:
        detector, spec = bundle.detector(options["detector"])
        min_score = spec.least if options["min_score"] is None else options["min_score"]
    resolved = config.ProcessOptions(
        detector=detector, min_score=min_score, detect_size=options["detect_size"],
        max_faces=options["max_faces"], refine=options["refine"], vertices=options["vertices"],
        max_pixels=options["max_pixels"], boxes_digest=boxes.digest if boxes else None,
        path_column=options["path_column"],
    )  # fmt: skip
    where = resolve_source(source, options["path_column"])
    chosen.say(options["quiet"], "boxes given" if boxes else f"detector {detector}")
    return Wanted(where, out, resolved, bundle, boxes, options["shard_size"])


def _log_to_stderr(verbose: bool) -> None:
    """Show the project's own log lines, and nobody else's: Dask would fill the screen."""
    log = logging.getLogger("ddfa_batch")
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    log.handlers = [logging.StreamHandler()]


def _announcement(wanted: Wanted, n_inputs: int, shard_size: int) -> str:
    options = wanted.options
    how = [f"model {wanted.bundle.manifest.name}"]
    if isinstance(options, config.ProcessOptions):
        how += [f"detector {options.detector}", _count(options.refine, "refinement")]
    else:
        how += ["parameters given" if options.params_digest else f"detector {options.detector}",
                f"{_count(options.clips_per_image, 'clip')} of {_count(options.frames, 'frame')} a face"]  # fmt: skip
    shards = -(-n_inputs // shard_size)
    lines = [
        f"{_count(n_inputs, 'image')} in {wanted.source.path}; {', '.join(how)}; "
        f"{_count(shards, 'shard')} of up to {shard_size:,}."
    ]
    if isinstance(options, config.ProcessOptions) and options.vertices != "none":
        lines += _size_of_meshes(wanted, n_inputs)
    return "\n".join(lines)


def _size_of_meshes(wanted: Wanted, n_inputs: int) -> list[str]:
    from ddfa_batch.tasks.bundles.model_bundle import load_morphable
    from ddfa_batch.tasks.files.store import BYTES_PER_VERTEX

    size = load_morphable(wanted.bundle).n_vertices * BYTES_PER_VERTEX
    free = shutil.disk_usage(_existing(wanted.out)).free
    lines = [
        f"Dense meshes: {_bytes(size)} a face, {_bytes(size * n_inputs)} for one face per image "
        f"({_bytes(free)} free); --vertices none leaves them out."
    ]
    if size * n_inputs > free:
        lines.append("Warning: that is more than the disk has free.")
    return lines


def _existing(path: Path) -> Path:
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def _summary(run: Run, totals: Totals, seconds: float, done_now: int) -> str:
    lines = [
        f"{_count(totals.images, 'image')}: {_products(run, totals)}, "
        f"{totals.no_face:,} without a face, {_count(totals.n_errors, 'error')}"
        + (f" ({', '.join(f'{n:,} {kind}' for kind, n in totals.errors)})" if totals.errors else "")
    ]
    if done_now:
        rest = "" if done_now == totals.images else f" ({totals.images - done_now:,} were done before)"
        lines[0] += f". {done_now / max(seconds, 1e-3):,.1f} images/s in {_duration(seconds)}{rest}"
    else:
        lines[0] += ". Nothing was left to do"
    lines[0] += "."
    for kind, _ in totals.errors:
        lines.append(f"  {kind}: {ERROR_KINDS.get(kind, '')}")
    if totals.errors:
        lines.append(f"  Each is a row with its reason: status = 'error' in {run.out / 'images'}/*.parquet")
    if run.kind == "process":
        meshes = run.out / "vertices.h5"
        where = f", meshes in {meshes}" if meshes.exists() else ""
        lines.append(f"Faces in {run.out / 'faces'}/*.parquet, images in {run.out / 'images'}/*.parquet{where}.")
        lines.append(f'In Python: ddfa_batch.open("{run.out}").faces().to_pandas()')
    else:
        lines.append(f"Clips in {run.out / 'clips'}, labels of every frame in {run.out / 'frames'}/*.parquet.")
        lines.append(f'In Python: ddfa_batch.open("{run.out}").frames().to_pandas()')
    return "\n".join(lines)


def _products(run: Run, totals: Totals) -> str:
    """What a run made: faces, or clips and frames."""
    if run.kind == "synth-videos":
        return f"{_count(totals.count('clips'), 'clip')}, {_count(totals.count('frames'), 'frame')}"
    return _count(totals.faces, "face")


@cli.command()
@click.argument("out", type=click.Path(path_type=Path))
def status(out: Path) -> None:
    """Say how far the run in OUT is, and prove that its counts add up.

    Exit code 0 if everything that is finished adds up, 1 otherwise.

    \b
    Example:  ddfa-batch status out/
    """
    from ddfa_batch.pipeline import plan

    run = plan.read_run(out)
    totals, left = plan.total(run), len(plan.remaining(run))
    click.echo(f"{run.kind} of {run.source}, planned {run.created}, model {run.model['name']}")
    click.echo(f"shards:  {totals.shards_done:,} of {run.n_shards:,} done" + (", complete" if not left else ""))
    click.echo(f"images:  {totals.images:,} of {run.n_inputs:,}")
    click.echo(f"         {totals.images - totals.no_face - totals.n_errors:,} with faces, "
               f"{totals.no_face:,} without, {totals.n_errors:,} errors")  # fmt: skip
    for kind, count in totals.errors:
        click.echo(f"           {count:,} {kind}: {ERROR_KINDS.get(kind, '')}")
    click.echo(f"made:    {_products(run, totals)}")
    for note in run.notes:
        click.echo(f"note:    {note}")
    if left:
        click.echo("The run is not complete: the same command resumes it.")
    if found := plan.faults(run):
        for fault in found[:20]:
            click.echo(f"wrong:   {fault}", err=True)
        raise DdfaError(f"{_count(len(found), 'thing')} in {out} do not add up; --overwrite starts again.")
    click.echo("Every finished shard adds up: one row per input, one row per face.")


# ------------------------------------------------------------------------------------------ synth-videos


def _range(flag: str, name: str, low: float, high: float, words: str) -> Callable[[F], F]:
    """An option that takes two numbers."""
    return click.option(flag, name, nargs=2, type=float, default=(low, high), show_default=True, metavar="LOW HIGH",
                        help=words)  # fmt: skip


@cli.command("synth-videos")
@click.argument("source", metavar="IMAGES", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--params",
    type=click.Path(path_type=Path),
    help="Parameters of the faces: the folder of a process run, or a Parquet table (key, params, roi). Without, the "
    "faces are found first.",
)
@_model_option("Name or folder of a model.")
@click.option("--detector", help="One of the model's detectors, where no --params are given.")
@click.option(
    "--frames", type=click.IntRange(1, 1000), default=10, show_default=True, help="Frames per clip, the still included."
)
@click.option(
    "--clips-per-image",
    type=click.IntRange(1, config.CLIPS_PER_FACE - 1),
    default=1,
    show_default=True,
    help="Clips of every face, each with its own motion.",
)
@click.option(
    "--max-faces",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Faces per image that move, each in clips of its own, best first; 0 for all.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="The same seed gives the same bytes, however many workers.",
)
@_range("--yaw-range", "yaw", -30, 30, "Degrees added to the still's yaw.")
@_range("--pitch-range", "pitch", -15, 15, "Degrees added to its pitch.")
@_range("--roll", "roll", -10, 10, "Degrees of rotation in the picture.")
@_range("--scale", "scale", 0.92, 1.08, "Factor of size.")
@_range("--shift", "shift", -0.05, 0.05, "Share of the face's roi.")
@click.option(
    "--speed",
    type=click.FloatRange(0, 1000, min_open=True),
    default=1.0,
    show_default=True,
    help="How fast: 1 is at most 6° of yaw, 4° of pitch, 3° of roll a frame; a range that cannot be "
    "reached in the frames there are is shortened.",
)
@_range("--noise", "noise", 0, 4, "Standard deviation of noise in grey levels, one per clip.")
@_range("--blur", "blur", 0, 0.8, "Motion blur: share of a frame's time the shutter is open, one per clip.")
@click.option(
    "--size",
    default="original",
    show_default=True,
    help="original: all of the picture; or the side in pixels of square crops of the face, such as 120.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(config.CLIP_FORMATS),
    default="frames",
    show_default=True,
    help="PNG files, mp4 (lossy), WebDataset tars, or PNGs in Parquet.",
)
@click.option(
    "--preview",
    type=click.IntRange(0, 50),
    default=0,
    help="Draw this many clips to OUT/preview.png and OUT/preview.gif.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1, config.MAX_MAX_PIXELS),
    default=config.DEFAULT_MAX_PIXELS,
    show_default=True,
    help="Larger pictures become an error row.",
)
@click.option("--path-column", help="Column of a manifest that holds the paths.")
@_run_options
@click.pass_obj
def synth_videos(folder: Path, /, source: Path, out: Path, **options: Any) -> None:
    """Turn still photographs into short videos with exact labels, for training and testing.

    Each clip begins with the still; the head then moves along a smooth random path, in the picture and out of it (face
    profiling), and the frames get noise and motion blur. OUT/frames has one row per frame with the same columns as a
    process run, and every motion value. The method is section 2.4 of the 3DDFA_V2 paper.

    \b
    Examples:
      ddfa-batch synth-videos ./images clips/ --preview 8
      ddfa-batch synth-videos ./images clips/ --params out/ --size 120 --format webdataset
      ddfa-batch synth-videos ./images clips/ --frames 2 --yaw-range -90 90 --speed 100
    """
    from ddfa_batch.pipeline.preview import draw_clips
    from ddfa_batch.pipeline.synthesize import synthesize

    _carry_out(_wanted_clips(folder, source, out, options), synthesize, draw_clips, options)


def _wanted_clips(folder: Path, source: Path, out: Path, options: dict[str, Any]) -> Wanted:
    from ddfa_batch.pipeline.plan import Wanted
    from ddfa_batch.pipeline.synthesize import limits
    from ddfa_batch.tasks.files.inputs import read_faces, resolve_source

    chosen = _model(folder, options["model"], None if options["overwrite"] else out, options["params"])
    bundle = chosen.bundle
    if options["params"] and options["detector"]:
        raise click.UsageError("--params replaces the detector; leave out --detector.")
    given, detector, min_score = None, config.GIVEN_BOXES, 0.0
    if options["params"]:
        given = read_faces(options["params"], bundle.manifest.layout.size, bundle.digest, options["max_faces"])
    else:
        detector, spec = bundle.detector(options["detector"])
        min_score = spec.least
    for name, most in (("noise", 255.0), ("blur", 10.0)):
        low, high = options[name]
        if not 0 <= low <= high <= most:
            raise click.UsageError(f"--{name} must rise and lie within 0..{most:g}, but is {low:g}..{high:g}.")
    ranges = ("yaw", "pitch", "roll", "scale", "shift", "noise", "blur")
    same = ("frames", "clips_per_image", "seed", "speed", "max_faces", "max_pixels", "path_column")
    resolved = config.SynthOptions(
        **{name: options[name] for name in (*ranges, *same)},
        size=_side(options["size"]),
        format=options["form"],
        detector=detector,
        min_score=min_score,
        params_digest=given.digest if given else None,
    )
    limits(resolved)
    where = resolve_source(source, options["path_column"])
    chosen.say(options["quiet"], "parameters given" if given else f"detector {detector}")
    return Wanted(where, out, resolved, bundle, given, options["shard_size"])


def _side(size: str) -> int:
    if size == "original":
        return config.ORIGINAL
    if not size.isdigit() or not 16 <= int(size) <= 1024:
        raise click.UsageError(f"--size is original or a number of pixels from 16 to 1024, but is '{size}'.")
    return int(size)


# -------------------------------------------------------------------------------------------------- fit


@cli.command()
@click.argument("landmarks", type=click.Path(path_type=Path))
@click.argument("images", type=click.Path(path_type=Path), required=False)
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path), required=False)
@_model_option("The model to fit: its name or folder.")
@click.option(
    "--outline",
    is_flag=True,
    help="The labels follow the 2-D markup (300-W, AFLW by hand): the far side of a turned head's jaw is "
    "labelled where the face ends in the picture, so such points are left out.",
)
@click.pass_obj
def fit(
    folder: Path, /, landmarks: Path, images: Path | None, out: Path | None, model: str | None, outline: bool
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
    from ddfa_batch.tasks.fitting.landmark_fit import FitConfig

    if out is None:  # click fills arguments from the left
        images, out = None, images
    if out is None:
        raise click.UsageError("Missing argument 'OUT'.")
    bundle = _model(folder, model).say(quiet=False)
    outcome = fit_landmarks(landmarks, out, bundle, images, config=FitConfig(
        size=bundle.manifest.input_size, outline=outline))  # fmt: skip
    click.echo(
        f"{_count(outcome.n_faces, 'face')}: {outcome.n_converged:,} converged, mean residual {outcome.residual:.2%} "
        f"of the face's size. Faces in {out / 'faces'}/*.parquet, every fit in {out / 'fits.parquet'}."
    )


# ------------------------------------------------------------------------------------------------ train


@cli.command()
@click.argument("labels", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), help="Where the pictures of LABELS lie, if they were moved.")
@click.option(
    "--clips",
    type=click.Path(path_type=Path),
    help="A synth-videos run of the same pictures: mini-batches then hold adjacent frames of turning heads.",
)
@_model_option("The model LABELS was made with; its face model and detectors go into the new one.", "that of LABELS")
@click.option(
    "--backbone",
    type=click.Choice(["mobilenet", "rep_mobilenet"]),
    default="mobilenet",
    show_default=True,
    help="The paper's, or one that trains with branches which fold into it.",
)
@click.option("--width", type=click.FloatRange(0.0625, 4), default=0.5, show_default=True, help="Width multiplier.")
@click.option(
    "--method",
    type=click.Choice(["meta-joint", "fwpdc", "vdc", "vdc-from-fwpdc", "vanilla-joint"]),
    default="meta-joint",
    show_default=True,
    help="How parameters are learnt (the paper's Table 3).",
)
@click.option(
    "--landmarks",
    type=click.Choice(["lrr", "lmk", "lrr+lmk", "none"]),
    default="lrr",
    show_default=True,
    help="The 68 points: a head of their own, a constraint, both, or not used.",
)
@click.option(
    "--distance",
    type=click.Choice(["squared", "plain"]),
    default="squared",
    show_default=True,
    help="How VDC and the 68 points count errors: as the paper, or so that wrong labels matter less.",
)
@click.option("--beta", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of vanilla-joint.")
@click.option("--look-ahead", type=click.IntRange(1), default=100, show_default=True, help="k, steps of an iteration.")
@click.option("--iterations", type=click.IntRange(1), default=200, show_default=True, help="Of k steps each.")
@click.option("--stills", type=click.IntRange(1), default=32, show_default=True, help="Pictures in a mini-batch.")
@click.option("--frames", type=click.IntRange(1), default=2, show_default=True, help="Frames of each of them.")
@click.option(
    "--motion",
    type=click.Choice(["smooth", "random"]),
    default="smooth",
    show_default=True,
    help="Adjacent frames, or (Table 4's rnd.) frames drawn at random.",
)
@click.option(
    "--turned",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of the pictures whose frames are taken from --clips.",
)
@click.option(
    "--rotation",
    type=click.FloatRange(0, 180),
    default=15.0,
    show_default=True,
    help="How far pictures are turned in their plane, standard deviation in degrees.",
)
@click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True), default=2e-3, show_default=True)
@click.option(
    "--stage",
    "stages",
    type=(click.FloatRange(0, 1, min_open=True), click.IntRange(32, 1024)),
    multiple=True,
    metavar="SHARE PIXELS",
    help="Up to this share of the iterations, images of so many pixels: the work falls "
    "with their square. May be given several times.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 0.9),
    default=0.1,
    show_default=True,
    help="Share of the pictures held out, by a hash of their names, to choose the best checkpoint.",
)
@click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Begin with the weights of this checkpoint of another training.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@click.option("--threads", type=click.IntRange(1), help="torch's threads.  [default: one per core]")
@click.option("--every", type=click.IntRange(1), default=5, show_default=True, help="Iterations between checkpoints.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.pass_obj
def train(folder: Path, /, labels: Path, out: Path, **options: Any) -> None:
    """Train a regressor with the paper's method, and write it as a model that `process --model` accepts.

    LABELS is a run of `fit`, `process` or `synth-videos`. OUT gets checkpoints, history.json and model/; the same
    command goes on after an interruption. Needs torch: pip install 'ddfa-batch[train]'.

    \b
    Examples:
      ddfa-batch fit labels.parquet images/ labels/
      ddfa-batch synth-videos images/ clips/ --params labels/ --frames 6 --noise 0 0 --blur 0 0
      ddfa-batch train labels/ trained/ --clips clips/ --stage 0.4 40 --stage 0.9 60
      ddfa-batch process ./photographs out/ --model trained/model
    """
    from ddfa_batch.pipeline.graph import usable_cores

    _refuse_builtin(out.resolve().name, "folder, which the new model is called after")
    if importlib.util.find_spec("torch") is None:
        raise click.ClickException("Training needs torch, which is not installed: pip install 'ddfa-batch[train]'.")
    from ddfa_batch.pipeline.train import Wanted as Training
    from ddfa_batch.pipeline.train import train as run
    from ddfa_batch.tasks.training.architectures import Architecture
    from ddfa_batch.tasks.training.meta_joint import TrainConfig
    from ddfa_batch.tasks.training.mini_batches import Augmentation, Sampling

    bundle = _model(folder, options["model"], labels).say(options["quiet"])
    same = ("method", "landmarks", "distance", "beta", "look_ahead", "iterations", "learning_rate", "stages", "seed")
    sampling = Sampling(options["stills"], options["frames"], options["motion"], options["turned"],
                        bundle.manifest.input_size)  # fmt: skip
    wanted = Training(
        labels, out, bundle, Architecture(options["backbone"], options["width"], bundle.manifest.layout.size),
        TrainConfig(**{name: options[name] for name in same}, sampling=sampling,
                    augmentation=Augmentation(rotation=options["rotation"])),
        **{name: options[name] for name in ("images", "clips", "start", "validation", "device", "every")},
        threads=options["threads"] or usable_cores(),
    )  # fmt: skip
    bar = TrainingBar(wanted.config.iterations, wanted.config.look_ahead * sampling.stills * sampling.frames,
                      options["quiet"])  # fmt: skip
    outcome = run(wanted, bar.begun, bar)
    bar.close()
    if not options["quiet"]:
        error = "" if outcome.validation is None else f", {outcome.validation:.2f} % on the validation part"
        click.echo(f"Model of iteration {outcome.iteration}{error} in {outcome.model}")
        click.echo(f"Next:    ddfa-batch process ./images out/ --model {outcome.model}")


# --------------------------------------------------------------------------------------------- evaluate


@cli.command()
@click.argument("labels", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--protocol",
    type=click.Choice(list(config.PROTOCOLS)),
    default="aflw2000-3d",
    show_default=True,
    help="What is measured, and over what.",
)
@click.option(
    "--run",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A process run of the labelled pictures, whose answers are measured.",
)
@_model_option("Or a model, shown the crops around the true points.")
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the labelled pictures lie, for --model.",
)
@click.option(
    "--refine",
    type=click.IntRange(0, 5),
    default=0,
    show_default=True,
    help="Passes of --model after the first, around its own points.",
)
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.pass_obj
def evaluate(folder: Path, /, labels: tuple[Path, ...], out: Path, **options: Any) -> None:
    """Measure a run, or a model, against labels, by the protocols of the paper's section 3.1.

    \b
    aflw2000-3d        68 points, three bins of yaw and their mean. LABELS: tables (key, pts68, yaw), .pts or
                       .mat folders; several sets, such as the original and the re-annotated, at once
    aflw               the visible ones of AFLW's 21 points. LABELS: a table (key, pts21, yaw)
    aflw2000-3d-dense  all vertices. LABELS: parameters, as `labels import` writes them, or a run
    florence           all vertices, against a folder of upright scans (.obj, .ply, .npz) named as the pictures
    video              frames, and stability between them. LABELS: a synth-videos run

    OUT gets summary.json, faces.parquet (a row per labelled face), curve.png and worst.png.

    \b
    Examples:
      ddfa-batch process ./AFLW2000 out/
      ddfa-batch evaluate ./AFLW2000 scores/ --run out/
      ddfa-batch evaluate ./AFLW2000 scores/ --model trained/model --images ./AFLW2000
      ddfa-batch evaluate clips/ stability/ --protocol video --model trained/model
    """
    from ddfa_batch.pipeline import evaluate as evaluation

    if options["run"] is None and options["images"] is None and options["protocol"] != "video":
        raise click.UsageError("Give --run, or --model with --images.")
    if options["run"] is not None and options["refine"]:
        raise click.UsageError("--refine is for --model; a run's answers are what they are.")
    same_model = labels if options["protocol"] == "aflw2000-3d-dense" else ()
    if options["run"] is not None:
        chosen = _model(folder, None, options["run"])
    else:
        chosen = _model(folder, options["model"], *same_model)
    bundle = chosen.say(options["quiet"])
    same = ("run", "images", "refine", "protocol")
    wanted = evaluation.Wanted(labels=labels, out=out, bundle=None if options["run"] else bundle,
                               **{name: options[name] for name in same})  # fmt: skip
    outcome = evaluation.evaluate(wanted)
    if not options["quiet"]:
        click.echo("\n".join(_score_lines(outcome)))
        click.echo(f"{', '.join(outcome.files)} in {out}")


def _score_lines(outcome: Evaluation) -> list[str]:
    """The table of an evaluation for people."""
    binned = outcome.scores[0].bins is not None
    head = ["0–30°", "30–60°", "60–90°", "of bins"] if binned else []
    moving = ["stability"] if outcome.protocol == "video" else []
    width = max(len("labels"), *(len(score.labels) for score in outcome.scores))
    names = [*head, "mean", "median", *moving]
    lines = [
        f"{outcome.model}, {outcome.answers}: {outcome.n_found:,} of {outcome.n_labelled:,} faces found",
        f"{outcome.protocol}: {outcome.measured}, in % of {outcome.normaliser}",
        "",
        f"{'labels':{width}}  " + "  ".join(f"{name:>9}" for name in names),
    ]
    for score in outcome.scores:
        values = [*(score.bins or ()), *([score.mean_of_bins] if binned else []), score.mean, score.median,
                  *([score.stability] if moving else [])]  # fmt: skip
        cells = [f"{'–':>9}" if value is None else f"{value:9.2f}" for value in values]
        lines.append(f"{score.labels:{width}}  " + "  ".join(cells))
    return lines


# ----------------------------------------------------------------------------------------------- labels


@cli.group()
def labels() -> None:
    """Turn the labels of other data sets into tables this project reads."""


@labels.command("import")
@click.argument("dataset", type=click.Choice(["300w-lp"]))
@click.argument("source", metavar="FOLDER", type=click.Path(path_type=Path))
@click.argument("table", metavar="OUT.parquet", type=click.Path(path_type=Path))
@_model_option("The model whose parameters are wanted; it must have the topology of the Basel Face Model.")
@click.pass_obj
def import_labels(folder: Path, /, dataset: str, source: Path, table: Path, model: str | None) -> None:
    """Convert Pose_Para, Shape_Para and Exp_Para of 300W-LP or AFLW2000-3D to parameters.

    FOLDER is searched for .mat files with a picture of the same name beside them; each becomes a row of OUT.parquet
    with the picture's key, the parameters, the roi and the landmarks, as in the faces table of a run. A file that
    cannot be read is named and counted, and the others are converted.

    \b
    Examples:
      ddfa-batch labels import 300w-lp ./300W_LP labels.parquet --model 3ddfa-v2-mb05
      ddfa-batch synth-videos ./300W_LP clips/ --params labels.parquet --model 3ddfa-v2-mb05
    """
    from ddfa_batch.pipeline.import_labels import import_300w_lp

    rows, faults = import_300w_lp(source, table, _model(folder, model).say(quiet=False))
    for fault in faults[:10]:
        click.echo(f"left out: {fault}", err=True)
    click.echo(f"{_count(rows, 'face')} in {table}, {_count(len(faults), 'file')} left out.")


# ------------------------------------------------------------------------------------------------ words


class LiveLine:
    """A line on stderr that the next one replaces on a terminal, and that stays elsewhere."""

    def __init__(self) -> None:
        self.live, self._last = sys.stderr.isatty(), ""

    def show(self, text: str) -> None:
        """Show `text` in place of what was shown before."""
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            click.echo("\r" + text[:width].ljust(min(len(self._last), width)), nl=False, err=True)
        else:
            click.echo(text, err=True)
        self._last = text

    def end(self) -> None:
        """Leave what is shown and go to the next line."""
        if self.live and self._last:
            click.echo(err=True)


class ProgressBar:
    """Progress in images and faces: one live line on a terminal, a plain line now and then elsewhere."""

    #: Seconds between plain lines, and between redraws.
    _PLAIN_EVERY, _REDRAW_EVERY = 15.0, 0.1
    _WIDTH = 24

    def __init__(self, wanted: Wanted, quiet: bool) -> None:
        self._wanted, self._quiet = wanted, quiet
        self._line = LiveLine()
        self._start = self._shown = time.monotonic()
        self._before: int | None = None
        self.done_now = 0

    @property
    def seconds(self) -> float:
        """Seconds since the first call."""
        return time.monotonic() - self._start

    def __call__(self, run: Run, totals: Totals) -> None:
        """Show where the run is; the first call also announces it."""
        now = time.monotonic()
        if self._before is None:
            self._before, self._start, self._shown = totals.images, now, now
            if not self._quiet:
                click.echo("\n".join([_announcement(self._wanted, run.n_inputs, run.shard_size), *run.notes]))
                if totals.images:
                    click.echo(f"Resuming: {totals.images:,} images are done already.")
            return
        self.done_now = totals.images - self._before
        if self._quiet:
            return
        every = self._REDRAW_EVERY if self._line.live else self._PLAIN_EVERY
        if now - self._shown < every and totals.images < run.n_inputs:
            return
        self._shown = now
        self._line.show(self._text(run, totals))

    def _text(self, run: Run, totals: Totals) -> str:
        share = totals.images / run.n_inputs
        rate = self.done_now / max(self.seconds, 1e-3)
        left = (run.n_inputs - totals.images) / rate if rate else 0.0
        filled = int(share * self._WIDTH)
        bar = f"[{'#' * filled}{'.' * (self._WIDTH - filled)}] " if self._line.live else ""
        end = f"{_duration(left)} left" if totals.images < run.n_inputs else f"in {_duration(self.seconds)}"
        errors = f", {_count(totals.n_errors, 'error')}" if totals.n_errors else ""
        return (
            f"{bar}{share:4.0%}  {totals.images:,}/{run.n_inputs:,} images, {_products(run, totals)}{errors}, "
            f"{rate:,.0f} images/s, {end}"
        )

    def close(self) -> None:
        """End the live line."""
        self._line.end()


class TrainingBar:
    """A line per iteration: the branch selected, the vertex errors, the validation error, speed and time left."""

    def __init__(self, iterations: int, samples: int, quiet: bool) -> None:
        self._iterations, self._samples, self._quiet = iterations, samples, quiet
        self._line = LiveLine()
        self._validation = ""

    def begun(self, progress: Progress) -> None:
        """Say what is trained on."""
        if self._quiet:
            return
        for note in progress.notes:
            click.echo(note)
        total = self._samples * self._iterations
        click.echo(f"The net has {progress.parameters / 1e6:.2f} M parameters and {progress.macs / 1e6:.1f} M MACs.")
        click.echo(f"{_count(progress.n_training, 'clip')} to train on, {progress.n_validation:,} held out; {total:,} "
                   f"samples on {progress.device}.")  # fmt: skip
        if progress.resumed:
            click.echo(f"Resuming after iteration {progress.resumed:,} of {self._iterations:,}.")

    def __call__(self, record: Record) -> None:
        """Show one iteration."""
        if self._quiet:
            return
        if record.validation is not None:
            self._validation = f", validation {record.validation:.2f} %"
        done = record.iteration + 1
        errors = ", ".join(f"{name} {error:.2f}" for name, error in record.errors.items())
        line = (
            f"{done:,}/{self._iterations:,}  {record.selected}  vertex error {errors} px{self._validation}, "
            f"{record.pixels} px, {self._samples / max(record.seconds, 1e-3):,.0f} samples/s, "
            f"{_duration(record.seconds * (self._iterations - done))} left"
        )
        self._line.show(line)

    def close(self) -> None:
        """End the live line."""
        self._line.end()


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:,.3g} TB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    main()
