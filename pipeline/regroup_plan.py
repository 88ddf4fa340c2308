"""What is asked of `compact`, `select` and `merge`: rows of finished runs, as the plan of a run of its own."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ddfa_batch.pipeline.plan import Run, new_run
from ddfa_batch.pipeline.results import Results
from ddfa_batch.pipeline.selected_faces import Chosen, Selection, chosen
from ddfa_batch.schemas.arrays import I64
from ddfa_batch.schemas.config import MAX_SHARD_SIZE
from ddfa_batch.schemas.decoding import Document, typed
from ddfa_batch.schemas.errors import InputError, OptionError, RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.remote_calls import is_url
from ddfa_batch.tasks.files.run_folders import Named, run_folder_at
from ddfa_batch.tasks.files.video_inputs import video_key

#: Inputs of a file, unless asked for: some hundred megabytes of faces in memory while it is written.
FILE_INPUTS = 65_536
#: What stands in `run.json` of such a run besides what a run of `process` has.
MADE = "made"


@dataclass(frozen=True)
class Made:
    """How a run was made of others; stands in its `run.json`, so that `process` does not go on with it."""

    #: compact, select or merge.
    command: str
    #: The runs, absolute paths or URLs, and how many inputs of each were taken, in this order.
    of: list[str]
    inputs: list[int]
    #: By which column the faces of a file are sorted; None for the order of inputs.
    sort: str | None
    #: What was chosen, as `Selection.as_dict` has it.
    selection: dict[str, Any]

    @staticmethod
    def of_run(run: Run) -> Made | None:
        """How a run was made; None for one that was not made of others."""
        made = run.identity.get(MADE)
        document = Document(run.folder.where(store.RUN), RunFolderError, "make it again")
        return None if made is None else typed(made, Made, document)


@dataclass(frozen=True)
class Regrouping:
    """A run made of rows of others, not written yet."""

    #: The run.
    run: Run
    #: The runs that it is made of, and what is taken of each.
    sources: Sequence[Results]
    taken: Sequence[Chosen]
    #: What stands before the keys of each.
    prefixes: Sequence[str]
    #: Their model.
    bundle: Bundle

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of its plan: those of the sources, numbered anew."""
        image_id = 0
        for source, taken, prefix in zip(self.sources, self.taken, self.prefixes, strict=True):
            videos: dict[int, int] = {}
            for row, faces in _planned(source.run, taken):
                if row.get("video") is not None:
                    row["video"] = videos.setdefault(row["video"], image_id)
                places = {"image_id": image_id, "source": row["image_id"], "n_source": 1, "face_index": faces}
                yield {**row, **_moved(row, prefix), **places}
                image_id += 1


def compact_request(source: Results, out: Named, sort: str | None = None, shard_size: int | None = None) -> Regrouping:
    """All finished rows of a run in few large files, the faces of each sorted by a column of numbers."""
    if sort is not None:
        schema = source.faces_schema()
        if sort not in schema.names or str(schema.field(sort).type) not in ("float", "double", "int32", "int64"):
            raise OptionError(f"Faces cannot be sorted by '{sort}'; name a column of numbers, such as yaw or score.")
    return _regrouping("compact", [source], [chosen(source, Selection())], out, shard_size, sort=sort)


def select_request(source: Results, out: Named, selection: Selection, shard_size: int | None = None) -> Regrouping:
    """The inputs of a run that have a face which was chosen, with those faces alone."""
    if selection.everything:
        raise OptionError("Say what is to be taken; compact takes everything.")
    return _regrouping("select", [source], [chosen(source, selection)], out, shard_size, selection=selection)


def merge_request(sources: Sequence[Results], out: Named, shard_size: int | None = None) -> Regrouping:
    """All rows of several runs of one model; of an input that several have, the first one's."""
    if len({str(source.run.folder) for source in sources}) < max(2, len(sources)):
        raise OptionError("merge takes two runs or more, each once.")
    first, *others = sources
    for other in others:
        _refuse_unlike(first, other)
    prefixes = _prefixes([source.run.root for source in sources])
    known: set[str] = set()
    taken = [_new(source, prefix, known) for source, prefix in zip(sources, prefixes, strict=True)]
    return _regrouping("merge", sources, taken, out, shard_size, prefixes=prefixes)


def _regrouping(
    command: str,
    sources: Sequence[Results],
    taken: Sequence[Chosen],
    out: Named,
    shard_size: int | None,
    *,
    sort: str | None = None,
    selection: Selection | None = None,
    prefixes: Sequence[str] = ("",),
) -> Regrouping:
    for source in sources:
        _refuse_other(source, out)
    counts = [len(found.images) for found in taken]
    if not sum(counts):
        raise InputError(f"Nothing in {sources[0].run.folder} is as chosen.")
    first = sources[0].run
    names = [source.run.folder.address for source in sources]
    made = Made(command, names, counts, sort, {} if selection is None else selection.as_dict())
    run = new_run(
        "process",
        out,
        sources[0].bundle,
        root=first.root if not any(prefixes) else _common([source.run.root for source in sources]),
        source=" ".join(dict.fromkeys(source.run.source for source in sources)),
        inputs=(_digest(taken), sum(counts)),
        shard_size=shard_size or min(FILE_INPUTS, MAX_SHARD_SIZE),
        options={**first.options, "vertices": "none"},
        notes=_notes(sources, counts),
        content=_content(sources),
        **{MADE: asdict(made)},
    )
    return Regrouping(run, sources, taken, prefixes, sources[0].bundle)


def _notes(sources: Sequence[Results], counts: Sequence[int]) -> list[str]:
    unfinished = [source.run.folder for source in sources if not source.complete]
    notes = [f"{folder} is not finished; what is done of it is taken." for folder in unfinished]
    if len(sources) == 1:
        return notes
    for source, n in zip(sources, counts, strict=True):
        if left := source.images(["image_id"]).num_rows - n:
            notes.append(f"{left:,} of the inputs of {source.run.folder} are in a run named before, and were left out.")
    first = sources[0].run.options
    for source in sources[1:]:
        options = source.run.options
        names = [n for n in sorted({*first, *options}) if first.get(n) != options.get(n) and n != "vertices"]
        if names:
            told = ", ".join(name.replace("_", "-") for name in names)
            notes.append(f"{source.run.folder} was made with another {told} than {sources[0].run.folder}.")
    return notes


# ------------------------------------------------------------------------------------------------ refusals


def _refuse_other(source: Results, out: Named) -> None:
    if source.run.kind != "process":
        raise RunFolderError(f"{source.run.folder} is a run of {source.run.kind}; this takes runs of process.")
    if run_folder_at(out) == source.run.folder:
        raise OptionError(f"{out} is the run itself; choose another folder.")


def _refuse_unlike(first: Results, other: Results) -> None:
    a, b = first.run.model, other.run.model
    if a.digest != b.digest:
        raise OptionError(
            f"{first.run.folder} was made with the model {a.name} ({a.digest[:12]}) and {other.run.folder} with "
            f"{b.name} ({b.digest[:12]}); parameters of two models do not go into one table."
        )
    columns = [{*run.faces_schema().names, *run.images_schema().names} for run in (first, other)]
    if differing := sorted(columns[0] ^ columns[1]):
        raise RunFolderError(
            f"{first.run.folder} and {other.run.folder} have not the same columns "
            f"({', '.join(differing)}); make them with the same options and version."
        )


# --------------------------------------------------------------------------------------------- keys and rows


def _prefixes(roots: Sequence[str]) -> list[str]:
    """What stands before the keys of runs with these roots, so that they are relative to one."""
    if len(set(roots)) == 1:
        return [""] * len(roots)
    if any(is_url(root) for root in roots):
        return [f"{root.rstrip('/')}/" for root in roots]
    common = _common(roots)
    relative = [os.path.relpath(root, common) for root in roots]
    return ["" if way == "." else f"{way}/" for way in relative]


def _common(roots: Sequence[str]) -> str:
    return roots[0] if any(is_url(root) for root in roots) else os.path.commonpath(roots)


def _moved(row: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Key and path of a row, with what stands before them."""
    if not prefix:
        return {}
    key, path = row["key"], row.get("path")
    if path is not None and not path.startswith(b"/"):
        path = os.fsencode(prefix) + path
    return {"key": key if Path(key).is_absolute() else prefix + key, "path": path}


def _new(source: Results, prefix: str, known: set[str]) -> Chosen:
    """The inputs of a run whose keys, those of videos as a whole, are not known yet; they are from now on."""
    found, here = [], set()
    names = [name for name in ("image_id", "key", "frame") if name in source.images_schema().names]
    for row in source.images(names).sort_by("image_id").to_pylist():
        image_id, key, frame = row["image_id"], row["key"], row.get("frame")
        name = video_key(str(_moved({"key": key}, prefix).get("key", key)), frame)
        if name not in known:
            here.add(name)
            found.append(image_id)
    known |= here
    return Chosen(found, [None] * len(found))


def _planned(run: Run, taken: Chosen) -> Iterator[tuple[dict[str, Any], list[int] | None]]:
    """The plan's rows of what was taken, with the faces that were."""
    faces = dict(zip(taken.images, taken.faces, strict=True))
    shards: I64 = np.unique(run.shards_of(np.array(taken.images, np.int64)))
    with run.folder.reading(store.PLAN), pq.ParquetFile(run.folder.source(store.PLAN)) as file:
        for shard in shards.tolist():
            table = file.read_row_group(shard)
            wanted = [image_id for image_id in run.inputs_of(shard) if image_id in faces]
            rows = table.filter(pc.is_in(table["image_id"], pa.array(wanted, pa.int64()))).to_pylist()
            yield from ((row, faces[row["image_id"]]) for row in rows)


def _content(sources: Sequence[Results]) -> str:
    """Tells what the sources hold now from what they held."""
    checksums = [receipt.checksums for source in sources for receipt in source.receipts]
    return hashlib.sha256(json.dumps(checksums).encode()).hexdigest()[:16]


def _digest(taken: Sequence[Chosen]) -> str:
    digest = hashlib.sha256()
    for found in taken:
        digest.update(np.array(found.images, np.int64).tobytes())
        digest.update(repr([faces for faces in found.faces if faces is not None]).encode())
    return digest.hexdigest()
