"""The plan of a run, as files: what there is to do, and with which options."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ddfa_batch.pipeline import own_files
from ddfa_batch.pipeline.differences import refuse_if_different, refuse_other_root
from ddfa_batch.schemas.config import ProcessOptions, SynthOptions
from ddfa_batch.schemas.decoding import Document
from ddfa_batch.schemas.errors import InputError, RunFolderError
from ddfa_batch.schemas.run import HistoryEntry, RunModel, RunRecord, decode_run
from ddfa_batch.schemas.tables import PLAN as PLAN_SCHEMA
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import atomic, store
from ddfa_batch.tasks.files.arrow_columns import table_of
from ddfa_batch.tasks.files.inputs import Given, Ignored, Input, Source, list_inputs, unmatched
from ddfa_batch.tasks.files.mesh_files import put_topology
from ddfa_batch.tasks.files.places import take_place
from ddfa_batch.tasks.files.run_folders import Named, RunFolder, run_folder_at
from ddfa_batch.tasks.files.run_records import is_planned, keep_in_plan, kept_record
from ddfa_batch.tasks.files.url_secrets import without_secrets
from ddfa_batch.tasks.files.video_files import SEGMENT_FRAMES

#: Images of a shard, unless asked for: inputs / 128, within these bounds. Small enough to share out and to
#: lose little when killed, large enough that flushing files to disk does not show.
_SHARDS_WANTED, _LARGEST_SHARD = 128, 4096
_SMALLEST_SHARD = {"process": 128, "synth-videos": 8, "render": 32, "export": 32, "to-webdataset": 512}
#: Inputs between two reports while they are listed.
_LISTED_EVERY = 1000
_REMEDY = "put back the one that the run wrote, or choose another output folder"


@dataclass(frozen=True, kw_only=True)
class Run(RunRecord):
    """A planned run: its record, and where it lies."""

    #: The run's folder.
    folder: RunFolder

    @property
    def out(self) -> Path:
        """The folder as one of this machine; raises `RunFolderError` where it is none."""
        return self.folder.here


#: Gives the rows of a plan (`schemas.tables.PLAN`), from the first, whenever it is called.
Rows = Callable[[], Iterable[dict[str, Any]]]


@dataclass(frozen=True)
class PlanRow:
    """One input as the plan holds it; see `schemas.tables.PLAN`."""

    #: Its place in the plan, from 0.
    image_id: int
    #: Its key and path.
    item: Input
    #: Boxes the user gave, five numbers each: x0, y0, x1, y1, score.
    boxes: list[float] | None = None
    #: Indices of the faces whose parameters the user gave.
    face_index: list[int] | None = None
    #: Their parameters, one after the other.
    params: list[float] | None = None
    #: Their rois, four numbers each.
    rois: list[float] | None = None
    #: Of a frame of a video: the image_id of the video's first row, its number there, and its time in seconds.
    video: int | None = None
    frame: int | None = None
    time_s: float | None = None
    #: Of what is made of another run: the image_id there of the first of `n_source` inputs.
    source: int | None = None
    n_source: int | None = None
    #: And a hash of the shards there that hold them.
    content: str | None = None


@dataclass(frozen=True)
class RunRequest:
    """What a user asks for, resolved and checked."""

    #: The command: process or synth-videos.
    kind: str
    #: Where the inputs are listed.
    source: Source
    #: The run's folder: a path or a URL.
    out: Named
    #: The options of the command.
    options: ProcessOptions | SynthOptions
    #: The model.
    bundle: Bundle
    #: Boxes or parameters the user brings.
    given: Given | None = None
    #: Inputs of a shard; None for what suits their number.
    shard_size: int | None = None
    #: What the command was asked for, as `RunRecord.asked` has it.
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return run_folder_at(self.out)


@dataclass(frozen=True)
class Listing:
    """The inputs of a request, listed once."""

    #: Hash of all keys in order.
    digest: str
    #: How many there are.
    count: int
    #: What to tell the user about them.
    notes: list[str]
    #: How many of them are videos, whose frames are counted.
    n_videos: int = 0


def estimate(request: RunRequest) -> tuple[int, int, list[str]]:
    """What a run would do: number of inputs, shard size, and what to tell the user. Writes nothing."""
    listing = list_request(request)
    return listing.count, request.shard_size or _default_size(request, listing), listing.notes


def prepare(request: RunRequest, overwrite: bool = False) -> Run:
    """Plan a run in `request.out`, or find the same run already planned there; see `claim`."""
    asked = asked_run(request, list_request(request), overwrite)
    return claim(asked, planned_rows(request), request.bundle, overwrite=overwrite)


def default_shard_size(kind: str, n_inputs: int, smallest: int | None = None) -> int:
    """The shard size for a command and a number of inputs; of nothing else, so that a run can resume.

    smallest: the least that it may be; by default what suits the command's usual inputs.
    """
    least = _SMALLEST_SHARD[kind] if smallest is None else smallest
    return min(max(-(-n_inputs // _SHARDS_WANTED), least), _LARGEST_SHARD)


def _default_size(request: RunRequest, listing: Listing) -> int:
    """With videos a shard is what one worker follows in one go, so that a long one keeps all of them busy."""
    return SEGMENT_FRAMES if listing.n_videos else default_shard_size(request.kind, listing.count)


def list_request(request: RunRequest, listed: Callable[[int], None] = lambda n: None) -> Listing:
    """List the inputs of a request; `listed` is told their number now and then. Raises `InputError` for none."""
    sha, count, ignored, with_given = hashlib.sha256(), 0, Ignored(), 0
    videos = Counter[str]()
    matched: set[str] = set()
    keys = request.given.keys() if request.given is not None else ()
    for item in list_inputs(request.source, request.folder.address, ignored):
        sha.update(item.name + b"\0")
        count += 1
        if item.frame is not None:
            videos.update({"videos": not item.frame.position, "frames": item.frame.number is not None})
        if item.key in keys:
            with_given += 1
            matched.add(item.key)
        if count % _LISTED_EVERY == 0:
            listed(count)
    notes = [sentence] if (sentence := ignored.sentence()) else []
    if videos:
        n = videos["videos"]
        notes.append(f"{n:,} {'is a video' if n == 1 else 'are videos'}, with {videos['frames']:,} frames taken.")
    if not count:
        raise InputError(f"{request.source.name} holds no images." + (f" {notes[0]}" if notes else ""))
    if request.given is not None:
        notes += _notes_on_given(request, request.given, count - with_given, matched)
    return Listing(sha.hexdigest(), count, notes, videos["videos"])


def _notes_on_given(request: RunRequest, given: Given, without: int, matched: set[str]) -> list[str]:
    if not matched:
        raise InputError(
            f"No key that was given (such as {next(iter(given.keys()), None)!r}) is an input; keys are paths relative "
            f"to {request.source.root}."
        )
    sentences = [given.absence(without) if without else None, unmatched(given, matched)]
    return [sentence for sentence in sentences if sentence]


def asked_run(request: RunRequest, listing: Listing, overwrite: bool = False) -> Run:
    """The run that is asked for. A shard size that is not asked for is that of the run that stands there."""
    size, folder = request.shard_size, request.folder
    if size is None and not overwrite and is_planned(folder):
        size = read_run(folder).shard_size
    if size is None:
        size = _default_size(request, listing)
    return new_run(
        request.kind,
        folder,
        request.bundle,
        root=without_secrets(str(request.source.root)),
        source=without_secrets(request.source.name),
        inputs=(listing.digest, listing.count),
        shard_size=size,
        options=request.options.as_dict(),
        notes=listing.notes,
        asked=request.asked,
    )


def new_run(
    kind: str,
    out: Named | RunFolder,
    bundle: Bundle,
    *,
    root: str,
    source: str,
    inputs: tuple[str, int],
    shard_size: int,
    options: dict[str, Any],
    notes: list[str],
    asked: dict[str, Any] | None = None,
    **identity: Any,
) -> Run:
    """A run that is not written yet. inputs: their hash and number; `identity`: what else decides its tables."""
    digest, count = inputs
    manifest = bundle.manifest
    return Run(
        folder=run_folder_at(out),
        kind=kind,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        root=root,
        source=source,
        n_inputs=count,
        shard_size=shard_size,
        identity={
            "kind": kind,
            "version": version("ddfa-batch"),
            "model": bundle.digest,
            "inputs": digest,
            "shard_size": shard_size,
            "options": options,
            **identity,
        },
        model=RunModel(
            name=manifest.name,
            folder=str(bundle.folder),
            digest=bundle.digest,
            licence=manifest.licence,
            topology=manifest.topology,
            n_vertices=load_morphable(bundle).n_vertices,
        ),
        notes=notes,
        asked=asked or {},
    )


def claim(
    asked: Run, rows: Iterable[dict[str, Any]], bundle: Bundle, *, overwrite: bool = False, extend: bool = False
) -> Run:
    """Write the run `asked` and its plan of `rows` to its folder, or find the same run planned there already.

    With `extend` the same run of other inputs is found, too. Raises `RunFolderError` if the folder holds another run
    (naming the options that differ) or files that are no run's. With `overwrite` the run that is there is removed
    first, whatever it is. An interruption at any moment leaves a folder that the same command accepts.
    """
    folder = asked.folder
    own_files.refuse_strangers(folder)
    if not overwrite and (planned := planned_there(asked, extend)) is not None:
        return planned
    own_files.remove_run(folder, replaced=True)
    folder.make()
    with folder.writing(store.TOPOLOGY) as work:
        put_topology(work, load_morphable(bundle))
    write_plan(asked, rows)
    write_run(asked)
    folder.remove([store.REPLACING])
    return asked


def planned_there(asked: Run, extend: bool = False) -> Run | None:
    """The run `asked` as it is planned in its folder; None where no run is. Raises where another run is.

    With `extend` its inputs may be others, if they lie below the same folder.
    """
    if not is_planned(asked.folder):
        return None
    planned = read_run(asked.folder)
    refuse_if_different(planned, asked, extend)
    if extend:
        refuse_other_root(planned, asked)
    return planned


def planned_rows(request: RunRequest) -> Iterator[dict[str, Any]]:
    """The rows of the plan of a request; see `schemas.tables.PLAN`."""
    for i, item in enumerate(list_inputs(request.source, request.folder.address, Ignored())):
        yield planned_row(request, i, item)


def planned_row(request: RunRequest, image_id: int, item: Input) -> dict[str, Any]:
    """The plan's row of one input."""
    given = request.given.plan_columns(item.key) if request.given else {}
    place = item.place.plan_columns() if item.place is not None else {}
    frame = {} if item.frame is None else item.frame.plan_columns(image_id)
    return {"image_id": image_id, "key": item.key, "path": item.path, **place, **given, **frame}


def write_plan(run: Run, rows: Iterable[dict[str, Any]]) -> None:
    """Write plan.parquet, one row group per shard, without ever holding all of it."""
    with run.folder.writing(store.PLAN) as work, pq.ParquetWriter(work, PLAN_SCHEMA) as writer:
        if write_shards(writer, rows, run.shard_size) != run.n_inputs:
            raise changed_meanwhile(run)
        keep_in_plan(writer, atomic.as_json(replace(run, history=[]).as_json()))


def write_shards(writer: pq.ParquetWriter, rows: Iterable[dict[str, Any]], shard_size: int) -> int:
    """Write rows of a plan, one row group per shard; give their number."""
    remaining, written = iter(rows), 0
    while part := list(itertools.islice(remaining, shard_size)):
        columns = {name: [row.get(name) for row in part] for name in PLAN_SCHEMA.names}
        writer.write_table(table_of(columns, PLAN_SCHEMA), row_group_size=shard_size)
        written += len(part)
    return written


def changed_meanwhile(run: Run) -> InputError:
    """What is raised where the inputs are others at the second look."""
    return InputError(f"{run.source} changed while it was listed; run the same command again.")


def write_run(run: Run) -> Run:
    """Write `run.json`, whole or not at all; give the run."""
    run.folder.remove([store.SEAL])  # it is of the run as it was
    run.folder.put(store.RUN, atomic.as_json(run.as_json()))
    return run


def recorded(run: Run, what: str, n_inputs: int) -> Run:
    """The run with one more entry in its history."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    entry = HistoryEntry(what, when, n_inputs, version("ddfa-batch"))
    return replace(run, history=[*run.history, entry])


def read_run(out: Named | RunFolder) -> Run:
    """The run in `out`; raises `RunFolderError` if there is none or its run.json is damaged and there is no copy."""
    folder = run_folder_at(out)
    where = folder.where(store.RUN)
    document = Document(where, RunFolderError, _REMEDY)
    try:
        record = decode_run(folder.read(store.RUN), document)
    except (OSError, RunFolderError) as fault:
        if (kept := kept_record(folder)) is not None:
            record = decode_run(kept, document)
        elif isinstance(fault, FileNotFoundError | NotADirectoryError):
            raise RunFolderError(f"{folder} holds no run: there is no {store.RUN}.") from None
        elif isinstance(fault, OSError):
            raise RunFolderError(f"{where} cannot be read ({fault.strerror or fault}).") from None
        else:
            raise
    return Run(folder=folder, **vars(record))


def read_after(run: Run, shard: int) -> list[PlanRow]:
    """The inputs of the shard after `shard`; none where that is the last."""
    return read_shard(run.folder, shard + 1) if shard + 1 < run.n_shards else []


def read_shard(out: Named | RunFolder, shard: int, image_ids: Sequence[int] | None = None) -> list[PlanRow]:
    """The inputs of one shard, or those of them that are named, in order."""
    folder = run_folder_at(out)
    with folder.reading(store.PLAN), pq.ParquetFile(folder.source(store.PLAN)) as file:
        table = file.read_row_group(shard)
        if image_ids is not None:
            table = table.filter(pc.is_in(table["image_id"], pa.array(image_ids, pa.int64())))
        rows = table.to_pylist()
        return [PlanRow(r.pop("image_id"), Input(r.pop("key"), r.pop("path"), take_place(r)), **r) for r in rows]
