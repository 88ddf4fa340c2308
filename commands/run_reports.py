"""What is said of a run: before it, after it, and of what it made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddfa_batch.commands.wording import byte_size, count, duration
from ddfa_batch.schemas.config import MIRROR, ProcessOptions
from ddfa_batch.schemas.errors import ERROR_KINDS

if TYPE_CHECKING:
    from ddfa_batch.pipeline.plan import Run, RunRequest
    from ddfa_batch.pipeline.progress import Totals
    from ddfa_batch.schemas.config import RunPart
    from ddfa_batch.schemas.run import HistoryEntry


#: What an entry of a run's history did to how many images, by `HistoryEntry.what`.
_CHANGES = {
    "extended": "Extended: {} taken up that {} added",
    "retried": "Retried: {} done again that {} error rows",
    "mended": "Mended: {} done again that {} in damaged shards",
    "renewed": "Renewed: {} done again that {} in shards of the run which changed",
}


_UNFINISHED = "When all parts are done, the same command without --shard-index and --shard-count finishes the run."


def change(entry: HistoryEntry) -> str:
    """An entry of a run's history, in words."""
    return _CHANGES[entry.what].format(count(entry.n_inputs, "image"), "was" if entry.n_inputs == 1 else "were")


def announcement(request: RunRequest, n_inputs: int, n_shards: int, shard_size: int) -> str:
    """What a run is about to do, with which model and options, and how much room it takes."""
    lines = [
        f"{count(n_inputs, 'image')} in {request.source.name}; {', '.join(_how(request))}; "
        f"{count(n_shards, 'shard')} of up to {shard_size:,}."
    ]
    if isinstance(request.options, ProcessOptions) and request.options.vertices != "none":
        lines += _size_of_meshes(request, n_inputs, request.options.vertices)
    return "\n".join(lines)


def _how(request: RunRequest) -> list[str]:
    options, model = request.options, f"model {request.bundle.manifest.name}"
    if isinstance(options, ProcessOptions):
        averaged = ", averaged with the mirror image" if options.average == MIRROR else ""
        return [model, f"detector {options.detector}", count(options.refine, "refinement") + averaged]
    clips = f"{count(options.clips_per_image, 'clip')} of {count(options.frames, 'frame')} a face"
    return [model, "parameters given" if options.params_digest else f"detector {options.detector}", clips]


def _size_of_meshes(request: RunRequest, n_inputs: int, form: str) -> list[str]:
    from ddfa_batch.tasks.bundles.loaded_model import load_morphable
    from ddfa_batch.tasks.files.mesh_files import BYTES_PER_VERTEX

    size = load_morphable(request.bundle).n_vertices * BYTES_PER_VERTEX[form]
    free = request.folder.free()
    of_free = "" if free is None else f" ({byte_size(free)} free)"
    lines = [
        f"Dense meshes: {byte_size(size)} a face, {byte_size(size * n_inputs)} for one face per image"
        f"{of_free}; --vertices none leaves them out."
    ]
    if free is not None and size * n_inputs > free:
        lines.append("Warning: that is more than the disk has free.")
    return lines


def summary(run: Run, totals: Totals, seconds: float, done_now: int, part: RunPart | None = None) -> str:
    """What came of a run, or of a part of it, how fast, what went wrong, and where everything lies."""
    where = _whereabouts(run) if part is None else [_UNFINISHED]
    told = [*_error_lines(run, totals), *limited(totals), *where]
    begin = "" if part is None else f"{str(part).capitalize()}: "
    return "\n".join([begin + _outcome(totals, run, seconds, done_now), *told])


def _outcome(totals: Totals, run: Run, seconds: float, done_now: int) -> str:
    line = (
        f"{count(totals.images, _unit(run))}: {products(run, totals)}, "
        f"{totals.no_face:,} without a face, {count(totals.n_errors, 'error')}"
    )
    if totals.errors:
        line += f" ({', '.join(f'{n:,} {kind}' for kind, n in totals.errors)})"
    if not done_now:
        return f"{line}. Nothing was left to do."
    before = totals.images - done_now
    rest = f" ({before:,} were done before)" if before else ""
    return f"{line}. {done_now / max(seconds, 1e-3):,.1f} {_unit(run)}s/s in {duration(seconds)}{rest}."


def _unit(run: Run) -> str:
    """What a run's inputs are: images, and of what is made of another run its inputs or tracks."""
    if run.kind not in ("render", "export", "to-webdataset"):
        return "image"
    return "track" if run.options.get("tracks") else "input"


def limited(totals: Totals) -> list[str]:
    """Say of how many clips the motion was held back; nothing where it was of none."""
    if not (n := totals.count("limited")):
        return []
    return [f"{count(n, 'clip')} turn back less than asked, for their stills look away: see 'note' in frames."]


def _error_lines(run: Run, totals: Totals) -> list[str]:
    if not totals.errors:
        return []
    kinds = [f"  {kind}: {ERROR_KINDS.get(kind, '')}" for kind, _ in totals.errors]
    return [*kinds, f"  Each is a row with its reason: status = 'error' in {run.folder.where('images')}/*.parquet"]


def _whereabouts(run: Run) -> list[str]:
    out, where = run.folder, run.folder.where
    if run.kind == "render":
        return [f"Pictures in {where('pictures')}/*/, one row per input in {where('images')}/*.parquet."]
    if run.kind == "to-webdataset":
        return [f"Samples in {where('tars')}/*.tar, one row per input in {where('images')}/*.parquet."]
    if run.kind == "export":
        return [f"Meshes in {where('meshes')}/*/, one row per mesh in {where('exports')}/*.parquet."]
    if run.kind == "synth-videos":
        return [
            f"Clips in {where('clips')}, labels of every frame in {where('frames')}/*.parquet.",
            f'In Python: ddfa_batch.open("{out}").frames(), an Arrow table',
        ]
    meshes = f", meshes in {where('vertices.h5')}" if out.has("vertices.h5") else ""
    videos = f", faces followed in {where('tracks')}, videos in {where('videos')}" if out.has("videos") else ""
    return [
        f"Faces in {where('faces')}/*.parquet, images in {where('images')}/*.parquet{videos}{meshes}.",
        f'In Python: ddfa_batch.open("{out}").faces(), an Arrow table',
    ]


def products(run: Run, totals: Totals) -> str:
    """What a run made: faces, or clips and frames."""
    if run.kind == "synth-videos":
        return f"{count(totals.count('clips'), 'clip')}, {count(totals.count('frames'), 'frame')}"
    if run.kind == "export":
        return count(totals.count("exports"), "mesh", "meshes")
    if run.kind == "render":
        return f"{count(totals.count('pictures'), 'picture')} with {count(totals.faces, 'face')}"
    return count(totals.faces, "face")
