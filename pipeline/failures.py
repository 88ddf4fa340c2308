"""The inputs of a run that ended as error rows."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.receipts import good_receipts
from ddfa_batch.schemas.tables import IMAGES
from ddfa_batch.tasks.files import atomic, store

_COLUMNS = ("key", "error_kind", "error_message")
#: What a cell may begin with that a spreadsheet takes for a formula, or skips to find one.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def failed_inputs(run: Run) -> pa.Table:
    """Key, kind and message of the error rows of finished shards, by kind, then in the plan's order."""
    schema = pa.schema([IMAGES.field(name) for name in _COLUMNS])
    parts = [schema.empty_table()]
    for receipt in good_receipts(run):
        if receipt.errors:
            parts.append(_failed(run, receipt.shard).cast(schema))
    order = [("error_kind", "ascending"), ("place", "ascending")]
    found = pa.concat_tables(parts)
    return found.append_column("place", pa.array(range(len(found)))).sort_by(order).drop_columns("place")


def _failed(run: Run, shard: int) -> pa.Table:
    name = store.table_name(store.IMAGES, shard)
    with run.folder.reading(name):
        return pq.read_table(run.folder.source(name), columns=list(_COLUMNS), filters=[("status", "=", "error")])


def write_errors_csv(failed: pa.Table, path: Path) -> None:
    """Write failed inputs as CSV, UTF-8; what a spreadsheet would take for a formula gets an apostrophe before it."""
    with atomic.whole_file(path) as work, work.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(failed.column_names)
        for row in failed.to_pylist():
            writer.writerow([_inert(row[name]) for name in failed.column_names])


def _inert(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
