"""Pictures, meshes and samples of a run that grew: what it has more goes into new shards, what changed is made anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq

from ddfa_batch.pipeline import growth, plan
from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.receipts import withdraw
from ddfa_batch.schemas.errors import OptionError
from ddfa_batch.schemas.run import EXTENDED, RENEWED
from ddfa_batch.schemas.tables import PLAN as PLAN_SCHEMA
from ddfa_batch.tasks.files import store

#: What a row of the plan is known by: where its first input is in the run that it is made of, and which faces.
_Name = tuple[int, tuple[int, ...] | None]


def refuse_ranked(selection: dict[str, Any]) -> None:
    """Raise `OptionError` for a selection that chooses among all faces: those of a larger run are others."""
    for name in ("worst", "random"):
        if selection.get(name) is not None:
            raise OptionError(f"--{name} chooses anew among all faces of a run that grew; leave out --extend.")


def extended(run: Run, rows: Sequence[dict[str, Any]], asked: Run) -> Run:
    """The run with what `asked`, the same of `rows` as there are now, has more, planned in new shards.

    Receipts of shards that have a row which was made of something else by then are withdrawn first, then the plan is
    replaced, then run.json: interrupted anywhere, the same again ends the same. Rows that are chosen no more stay.
    """
    if run.identity == asked.identity:
        return run
    now = {_name(row): row for row in rows}
    planned, stale = [], set[int]()
    for shard, table in enumerate(growth.row_groups(run)):
        for row in table.to_pylist():
            new = now.pop(_name(row), row)
            if any(new[key] != row[key] for key in ("content", "n_source")):
                stale.add(shard)
            planned.append({**new, "image_id": row["image_id"]})
    added = [{**row, "image_id": run.n_inputs + i} for i, row in enumerate(now.values())]
    withdraw(run, stale)
    with run.folder.writing(store.PLAN) as work, pq.ParquetWriter(work, PLAN_SCHEMA) as writer:
        for shard in range(run.n_shards):
            ids = run.inputs_of(shard)
            plan.write_shards(writer, planned[ids.start : ids.stop], run.shard_size)
        plan.write_shards(writer, added, run.shard_size)
    return plan.write_run(_with(run, asked, len(added), sum(len(run.inputs_of(shard)) for shard in stale)))


def _name(row: dict[str, Any]) -> _Name:
    faces = row["face_index"]
    return row["source"], None if faces is None else tuple(faces)


def _with(run: Run, asked: Run, added: int, renewed: int) -> Run:
    for what, n in ((RENEWED, renewed), (EXTENDED, added)):
        run = plan.recorded(run, what, n) if n else run
    return replace(
        run,
        n_inputs=run.n_inputs + added,
        parts=[*run.parts, added] if added else run.parts,
        identity=asked.identity,
        notes=asked.notes,
    )
