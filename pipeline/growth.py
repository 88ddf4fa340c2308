"""Runs that grow: inputs added since a run was planned go into new shards; no row that is there changes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline import plan
from ddfa_batch.pipeline.plan import Run, RunRequest
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.run import EXTENDED
from ddfa_batch.schemas.tables import PLAN as PLAN_SCHEMA
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.inputs import Ignored, Input, list_inputs
from ddfa_batch.tasks.files.places import take_place
from ddfa_batch.tasks.files.video_inputs import Frame, video_key

#: The columns that tell an input from others.
_NAMED_BY = ["key", "path", "form", "container", "numbers", "column", "sample", "video", "frame", "time_s"]


def extended(run: Run, request: RunRequest, asked: Run) -> Run:
    """The run `run` with what `asked`, the same run of the inputs there are now, has more, planned in new shards.

    A name counts as often as it is listed. Rows of inputs that are listed no more stay. The plan is replaced before
    run.json, which tells how much of it counts: interrupted in between, the run is as it was. All names are held in
    memory, some 150 bytes each. Raises `RunFolderError` where an archive was rewritten whose members are planned.
    """
    if run.identity["inputs"] == asked.identity["inputs"]:
        return run
    planned, members = _planned(run)
    digest = hashlib.sha256()

    def new_rows() -> Iterator[dict[str, Any]]:
        image_id = run.n_inputs
        for item in list_inputs(request.source, request.folder.address, Ignored()):
            digest.update(item.name + b"\0")
            if planned[item.name]:
                planned[item.name] -= 1
                continue
            if item.place is not None and item.key in members:
                raise _moved(run, item)
            if item.frame is not None and video_key(item.key, item.frame.number) in members:
                raise _other_frames(run, item.frame, item.key)
            yield plan.planned_row(request, image_id, item)
            image_id += 1

    with run.folder.writing(store.PLAN) as work, pq.ParquetWriter(work, PLAN_SCHEMA) as writer:
        for table in row_groups(run):
            writer.write_table(table, row_group_size=run.shard_size)
        added = plan.write_shards(writer, new_rows(), run.shard_size)
        if digest.hexdigest() != asked.identity["inputs"]:
            raise plan.changed_meanwhile(asked)
    return plan.write_run(_with(run, asked, added, gone=planned.total()))


def _planned(run: Run) -> tuple[Counter[bytes], set[str]]:
    """How often each input is planned, by its name; and the keys of those that are no files of their own, and of the
    videos whose frames are."""
    names: Counter[bytes] = Counter()
    members: set[str] = set()
    for table in row_groups(run):
        for row in table.select(_NAMED_BY).to_pylist():
            video, number, time_s = (row.pop(name) for name in ("video", "frame", "time_s"))
            frame = None if video is None else Frame(0, number, time_s)
            item = Input(row.pop("key"), row.pop("path"), take_place(row), frame)
            names[item.name] += 1
            if item.place is not None:
                members.add(item.key)
            if number is not None:
                members.add(video_key(item.key, number))
    return names, members


def row_groups(run: Run) -> Iterator[pa.Table]:
    """The plan, shard by shard; columns that it was written without are null."""
    with run.folder.reading(store.PLAN), pq.ParquetFile(run.folder.source(store.PLAN)) as there:
        for shard in range(run.n_shards):
            table = there.read_row_group(shard)
            missing = {f.name: pa.nulls(len(table), f.type) for f in PLAN_SCHEMA if f.name not in table.column_names}
            columns = [missing[f.name] if f.name in missing else table[f.name] for f in PLAN_SCHEMA]
            yield pa.Table.from_arrays(columns, schema=PLAN_SCHEMA)


def _moved(run: Run, item: Input) -> RunFolderError:
    assert item.place is not None
    return RunFolderError(
        f"{os.fsdecode(item.place.container)} was written anew since {run.folder} was planned: '{item.key}' stands "
        "elsewhere in it. Add pictures at its end or in a file of their own, or choose another output folder."
    )


def _other_frames(run: Run, frame: Frame, key: str) -> RunFolderError:
    return RunFolderError(
        f"{video_key(key, frame.number)} has other frames than when {run.folder} was planned; only whole videos are "
        "taken up: give it another name, or choose another output folder."
    )


def _with(run: Run, asked: Run, added: int, gone: int) -> Run:
    notes = list(asked.notes)
    if gone:
        notes.append(f"{gone:,} of the run's inputs {'is' if gone == 1 else 'are'} listed no more; the rows stay.")
    return replace(
        plan.recorded(run, EXTENDED, added),
        n_inputs=run.n_inputs + added,
        parts=[*run.parts, added] if added else run.parts,
        identity={**run.identity, "inputs": asked.identity["inputs"]},
        notes=notes,
    )
