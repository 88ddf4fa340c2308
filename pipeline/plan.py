"""The plan of a run, as files: what there is to do, with which options, and what is done already."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.schemas.config import ProcessOptions, SynthOptions
from ddfa_batch.schemas.errors import InputError, RunFolderError
from ddfa_batch.schemas.tables import PLAN as PLAN_SCHEMA
from ddfa_batch.tasks.bundles.model_bundle import Bundle, load_morphable
from ddfa_batch.tasks.files import clip_files, store
from ddfa_batch.tasks.files.inputs import Given, Ignored, Input, Source, list_inputs

RUN_FORMAT_VERSION = 1
#: Images of a shard, unless asked for: inputs / 128, within these bounds. Small enough to share out and to
#: lose little when killed, large enough that flushing files to disk does not show.
_SHARDS_WANTED, _LARGEST_SHARD = 128, 4096
_SMALLEST_SHARD = {"process": 128, "synth-videos": 8}


@dataclass(frozen=True)
class Run:
    """A planned run: what `run.json` says. Two runs with an equal `identity` write the same tables."""

    out: Path
    kind: str
    created: str
    root: str
    source: str
    n_inputs: int
    shard_size: int
    identity: dict[str, Any]
    model: dict[str, Any]
    notes: list[str]

    @property
    def n_shards(self) -> int:
        """How many shards the inputs are cut into."""
        return -(-self.n_inputs // self.shard_size)


@dataclass(frozen=True)
class PlanRow:
    """One input as the plan holds it; see `schemas.tables.PLAN`."""

    image_id: int
    item: Input
    boxes: list[float] | None = None
    face_index: list[int] | None = None
    params: list[float] | None = None
    rois: list[float] | None = None


@dataclass(frozen=True)
class Totals:
    """Receipts added up."""

    shards_done: int = 0
    rows: tuple[tuple[str, int], ...] = ()
    no_face: int = 0
    errors: tuple[tuple[str, int], ...] = ()

    def count(self, table: str) -> int:
        """Rows of a table."""
        return dict(self.rows).get(table, 0)

    @property
    def images(self) -> int:
        """Inputs that are done, one row each."""
        return self.count(store.IMAGES)

    @property
    def faces(self) -> int:
        """Faces found."""
        return self.count(store.FACES)

    @property
    def n_errors(self) -> int:
        """Images that ended as an error row."""
        return sum(count for _, count in self.errors)

    def plus(self, receipt: store.Receipt) -> Totals:
        """These totals with one more receipt."""
        rows, errors = Counter(dict(self.rows)), Counter(dict(self.errors))
        rows.update(receipt.rows)
        errors.update(receipt.errors)
        return Totals(
            self.shards_done + 1,
            tuple(rows.items()),
            self.no_face + receipt.no_face,
            tuple(sorted(errors.items(), key=lambda pair: (-pair[1], pair[0]))),
        )


@dataclass(frozen=True)
class Wanted:
    """What a user asks `prepare` for, resolved and checked."""

    source: Source
    out: Path
    options: ProcessOptions | SynthOptions
    bundle: Bundle
    given: Given | None
    shard_size: int | None

    @property
    def kind(self) -> str:
        """Which command asks."""
        return "process" if isinstance(self.options, ProcessOptions) else "synth-videos"


def prepare(wanted: Wanted, overwrite: bool) -> Run:
    """Plan a run in `wanted.out`, or find the same run already planned there.

    Raises `RunFolderError` if the folder holds another run (naming the options that differ) or files that
    are no run's, and `InputError` if there is nothing to process.
    """
    out = wanted.out
    if overwrite:
        remove_run(out)
    elif (out / store.RUN).exists():
        run = read_run(out)
        refuse_if_different(run, wanted)
        return run
    else:
        _refuse_strangers(out)
    return _plan(wanted)


def inspect(wanted: Wanted) -> tuple[int, int, list[str]]:
    """What a run would do: number of inputs, shard size, and what to tell the user. Writes nothing."""
    _, count, notes = _digest(wanted)
    return count, wanted.shard_size or default_shard_size(wanted.kind, count), notes


def default_shard_size(kind: str, n_inputs: int) -> int:
    """The shard size for a command and a number of inputs; of nothing else, so that a run can resume."""
    return min(max(-(-n_inputs // _SHARDS_WANTED), _SMALLEST_SHARD[kind]), _LARGEST_SHARD)


def remove_run(out: Path) -> None:
    """Remove a run's own files from `out`; raises `RunFolderError` if what is there is no run.

    Within its folders only what is named as a run names it goes: photographs in a folder called `images` stay.
    """
    _refuse_strangers(out)
    if (out / store.RUN).exists():
        read_run_json(out)
    for name in store.OWN_FILES:
        (out / name).unlink(missing_ok=True)
    for name in store.OWN_FOLDERS:
        folder = out / name
        if not folder.is_dir() or folder.is_symlink():
            continue
        for entry in list(folder.iterdir()):
            if store.OWN_ENTRY.fullmatch(entry.name):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def sweep(run: Run) -> None:
    """Remove what attempts that were killed left half-written in a run that is complete."""
    for name in store.OWN_FOLDERS:
        for entry in (run.out / name).glob(".[0-9]*"):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


def _refuse_strangers(out: Path) -> None:
    """Raise unless `out` is absent, empty, a run, or holds only what planning leaves when it is interrupted."""
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"{out} is a file; choose a folder for the output.")
    if not out.is_dir() or (out / store.RUN).exists():
        return
    strangers = sorted(e.name for e in out.iterdir() if e.name not in store.PLANNED and not e.name.endswith(".tmp"))
    if strangers:
        raise RunFolderError(
            f"{out} is not empty and holds no run (it has {strangers[0]}); choose another output folder."
        )


def refuse_if_different(run: Run, wanted: Wanted) -> None:
    """Raise `RunFolderError` naming what differs between the run in the folder and the one asked for."""
    digest, count, _ = _digest(wanted)
    asked = _identity(wanted, digest, run.shard_size if wanted.shard_size is None else wanted.shard_size)
    differences = _differences(run.identity, asked)
    if "inputs" in differences:
        differences["inputs"] = f"inputs (planned {run.n_inputs:,}, now {count:,}, or other names)"
    if differences:
        raise RunFolderError(
            f"{run.out} holds a run that differs in {'; '.join(differences.values())}. Use the same command to "
            "resume it, another output folder, or --overwrite to replace it."
        )


def _differences(planned: dict[str, Any], asked: dict[str, Any]) -> dict[str, str]:
    flat_planned, flat_asked = _flat(planned), _flat(asked)
    return {
        key: f"{key.replace('_', '-')} (there {flat_planned.get(key)}, asked for {flat_asked.get(key)})"
        for key in sorted(flat_planned.keys() | flat_asked.keys())
        if flat_planned.get(key) != flat_asked.get(key)
    }


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in identity.items() if k != "options"}, **identity["options"]}


def _identity(wanted: Wanted, inputs: str, shard_size: int) -> dict[str, Any]:
    return {
        "kind": wanted.kind,
        "version": version("ddfa-batch"),
        "model": wanted.bundle.digest,
        "inputs": inputs,
        "shard_size": shard_size,
        "options": wanted.options.as_dict(),
    }


def _digest(wanted: Wanted) -> tuple[str, int, list[str]]:
    """Hash of all inputs in order, their number, and what to tell the user about the listing."""
    sha, count, ignored, with_given = hashlib.sha256(), 0, Ignored(), 0
    keys = wanted.given.keys() if wanted.given is not None else ()
    for item in list_inputs(wanted.source, wanted.out, ignored):
        sha.update(item.path if item.path is not None else item.key.encode("utf-8", "surrogatepass"))
        sha.update(b"\0")
        count += 1
        with_given += item.key in keys
    notes = [sentence] if (sentence := ignored.sentence()) else []
    if not count:
        raise InputError(f"{wanted.source.path} holds no images." + (f" {notes[0]}" if notes else ""))
    if wanted.given is not None:
        if not with_given:
            raise InputError(
                f"No key that was given (such as {next(iter(keys), None)!r}) is an input; keys are paths relative to "
                f"{wanted.source.root}."
            )
        if without := count - with_given:
            notes.append(wanted.given.absence(without))
    return sha.hexdigest(), count, notes


def _plan(wanted: Wanted) -> Run:
    digest, count, notes = _digest(wanted)
    shard_size = wanted.shard_size or default_shard_size(wanted.kind, count)
    out, manifest = wanted.out, wanted.bundle.manifest
    morphable = load_morphable(wanted.bundle)
    run = Run(
        out=out,
        kind=wanted.kind,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        root=str(wanted.source.root),
        source=str(wanted.source.path),
        n_inputs=count,
        shard_size=shard_size,
        identity=_identity(wanted, digest, shard_size),
        model={
            "name": manifest.name,
            "folder": str(wanted.bundle.folder),
            "digest": wanted.bundle.digest,
            "licence": manifest.licence,
            "topology": manifest.topology,
            "n_vertices": morphable.n_vertices,
        },
        notes=notes,
    )
    out.mkdir(parents=True, exist_ok=True)
    store.write_topology(out / store.TOPOLOGY, morphable)
    _write_plan(wanted, shard_size, count)
    content = {"format": "ddfa-batch run", "format_version": RUN_FORMAT_VERSION, **asdict(run)}
    del content["out"]
    store.write_json(out / store.RUN, content)
    return run


def _write_plan(wanted: Wanted, shard_size: int, expected: int) -> None:
    """Write plan.parquet, one row group per shard, without ever holding all of it."""
    rows = enumerate(list_inputs(wanted.source, wanted.out, Ignored()))
    written = 0
    with store.whole_file(wanted.out / store.PLAN) as work, pq.ParquetWriter(work, PLAN_SCHEMA) as writer:
        while part := list(itertools.islice(rows, shard_size)):
            rows_of_part = [
                {"image_id": i, "key": item.key, "path": item.path,
                 **(wanted.given.plan_columns(item.key) if wanted.given else {})}
                for i, item in part
            ]  # fmt: skip
            writer.write_table(pa.Table.from_pylist(rows_of_part, PLAN_SCHEMA), row_group_size=shard_size)
            written += len(part)
    if written != expected:
        raise InputError(f"{wanted.source.path} changed while it was listed; run the same command again.")


def read_run_json(out: Path) -> dict[str, Any]:
    """The content of run.json; raises `RunFolderError` if there is none, or it is not one of this project's."""
    path = out / store.RUN
    if not path.exists():
        raise RunFolderError(f"{out} holds no run: there is no {store.RUN}.")
    content = store.read_json(path)
    if content.pop("format", None) != "ddfa-batch run":
        raise RunFolderError(f"{path} is not a ddfa-batch run.")
    return content


def read_run(out: Path) -> Run:
    """The run in `out`; raises `RunFolderError` if there is none or its run.json is damaged."""
    content = read_run_json(out)
    path = out / store.RUN
    if (found := content.pop("format_version", None)) != RUN_FORMAT_VERSION:
        raise RunFolderError(
            f"{path} has format version {found!r}; this ddfa-batch reads version {RUN_FORMAT_VERSION}."
        )
    try:
        return Run(out=out, **content)
    except TypeError as fault:
        raise RunFolderError(f"{path} is damaged ({fault}).") from None


def read_shard(out: Path, shard: int) -> list[PlanRow]:
    """The inputs of one shard."""
    try:
        with pq.ParquetFile(out / store.PLAN) as file:
            rows = file.read_row_group(shard).to_pylist()
    except (OSError, pa.ArrowException) as fault:
        raise RunFolderError(f"{out / store.PLAN} cannot be read ({fault}).") from None
    return [PlanRow(r.pop("image_id"), Input(r.pop("key"), r.pop("path")), **r) for r in rows]


def receipts(run: Run, shards: Iterable[int] | None = None) -> Iterator[store.Receipt]:
    """The receipts there are, in shard order."""
    for shard in range(run.n_shards) if shards is None else shards:
        if (receipt := store.read_receipt(run.out, shard)) is not None:
            yield receipt


def total(run: Run) -> Totals:
    """All receipts added up."""
    totals = Totals()
    for receipt in receipts(run):
        totals = totals.plus(receipt)
    return totals


def remaining(run: Run) -> list[int]:
    """The shards without a receipt."""
    return [s for s in range(run.n_shards) if store.read_receipt(run.out, s) is None]


def faults(run: Run) -> list[str]:
    """What in the folder does not add up: files missing or of another size, rows that do not match receipts."""
    found: list[str] = []
    for receipt in receipts(run):
        for name, size in receipt.files.items():
            path = run.out / name
            if not path.exists():
                found.append(f"{name} is missing")
            elif (now := store.size_of(path)) != size:
                found.append(f"{name} has {now:,} bytes, its receipt says {size:,}")
            elif path.suffix == ".parquet" and (table := name.split("/")[0]) != "clips":
                expected = receipt.rows.get(table)
                if (rows := _rows(path)) != expected:
                    found.append(f"{name} has {rows} rows, its receipt says {expected}")
        if run.kind == "synth-videos":
            found += _unlabelled(run, receipt.shard)
        planned = min(run.shard_size, run.n_inputs - receipt.shard * run.shard_size)
        if (done := receipt.rows[store.IMAGES]) != planned:
            found.append(f"shard {receipt.shard} has {done} rows for {planned} inputs")
    return found


def _unlabelled(run: Run, shard: int) -> list[str]:
    """What of a shard's clips has no label, and what labels have no picture."""
    labels = run.out / store.FRAMES / f"{store.shard_name(shard)}.parquet"
    if _rows(labels) is None or not clip_files.clips_path(run.out, shard, run.identity["options"]["format"]).exists():
        return []  # told already: the receipt names both
    keys = pq.read_table(labels, columns=["frame_key"])["frame_key"].to_pylist()
    return clip_files.mismatches(run.out, shard, run.identity["options"]["format"], set(keys))


def _rows(path: Path) -> int | None:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return None
