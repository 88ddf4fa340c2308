"""How long does `ddfa-batch report` take, and how large is its page?

    python benchmarks/report_page.py RUN [--rows 1000000]

RUN is a finished `ddfa-batch process` run, of 1,000 photographs of 450×450 pixels for the figures in docs/report.md.
The command is started as a user starts it, Python's own start included: on RUN, without and with faces to turn, and on
a run with `--rows` inputs, made in a temporary folder by repeating RUN's rows. Medians over three rounds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import ddfa_batch
from ddfa_batch.pipeline import plan
from ddfa_batch.pipeline.results import Results
from ddfa_batch.schemas.config import FACES_PER_IMAGE
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.files import atomic, store
from ddfa_batch.tasks.files.run_folders import run_folder_at

ROUNDS = 3
#: Inputs of a shard of the long run, about.
SHARD = 4000


def shifted(table: pa.Table, by: int) -> pa.Table:
    """The table with its ids moved on by so many inputs."""
    for name, step in (("image_id", by), ("face_id", by * FACES_PER_IMAGE)):
        if name in table.column_names:
            place = table.schema.get_field_index(name)
            table = table.set_column(place, table.schema.field(name), pa.array(table[name].to_numpy() + step))
    return table


def varied(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """The table with the numbers of each row a little larger or smaller, so that no two rows are the same bytes."""
    factor = (1 + rng.normal(0, 1e-3, len(table))).astype(np.float32)
    for place, field in enumerate(table.schema):
        column = table[field.name].combine_chunks()
        if field.type == pa.float32():
            table = table.set_column(place, field, pa.array(column.to_numpy(zero_copy_only=False) * factor))
        elif pa.types.is_fixed_size_list(field.type) and field.type.value_type == pa.float32():
            values = column.flatten().to_numpy() * np.repeat(factor, field.type.list_size)
            table = table.set_column(place, field, pa.FixedSizeListArray.from_arrays(pa.array(values), type=field.type))
    return table


def repeated(table: pa.Table, n: int, first: int, times: int) -> pa.Table:
    parts = [shifted(table, first + n * k) for k in range(times)]
    return pa.concat_tables([varied(part, np.random.default_rng([first, k])) for k, part in enumerate(parts)])


def long_run(run: Results, rows: int, out: Path) -> Path:
    """A run of at least `rows` inputs in `out`: those of a run, again and again."""
    n, folder = run.run.n_inputs, run_folder_at(out)
    times = max(1, SHARD // n)
    shards = -(-rows // (n * times))
    total = shards * n * times
    out.mkdir()
    record = replace(run.run, folder=folder, n_inputs=total, shard_size=n * times, parts=[total])
    (out / store.TOPOLOGY).write_bytes((run.path / store.TOPOLOGY).read_bytes())
    inputs = pq.read_table(run.path / store.PLAN)
    with pq.ParquetWriter(out / store.PLAN, inputs.schema) as writer:
        for shard in range(shards):
            writer.write_table(repeated(inputs, n, shard * n * times, times))
    for name in (store.IMAGES, store.FACES, store.SHARDS):
        (out / name).mkdir()
    tables = {store.IMAGES: run.images(), store.FACES: run.faces()}
    for shard in range(shards):
        files, counted = {}, {}
        for name, table in tables.items():
            path = out / store.table_name(name, shard)
            store.put_table(path, repeated(table, n, shard * n * times, times))
            files[store.table_name(name, shard)] = path.stat().st_size
            counted[name] = len(table) * times
        receipt = Receipt(shard, counted, *failed(run, times), files=files)
        (out / store.receipt_name(shard)).write_bytes(atomic.as_json(asdict(receipt)))
    plan.write_run(record)
    return out


def failed(run: Results, times: int) -> Iterator[object]:
    status, kinds = (np.asarray(run.images([name])[name].to_pylist()) for name in ("status", "error_kind"))
    yield int((status == "no_face").sum()) * times
    yield {str(kind): int((kinds == kind).sum()) * times for kind in set(kinds[status == "error"])}


def told(out: Path, page: Path, *words: str) -> str:
    command = [sys.executable, "-m", "ddfa_batch", "report", str(out), "--page", str(page), *words]
    spent = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        spent.append(time.perf_counter() - begun)
    return f"{statistics.median(spent):.1f} s, {page.stat().st_size / 1e6:.2f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    run = ddfa_batch.open(arguments.run)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        print(f"{run.run.n_inputs:,} inputs, without faces to turn: {told(run.path, page, '--no-viewer')}", flush=True)
        print(f"{run.run.n_inputs:,} inputs: {told(run.path, page)}", flush=True)
        long = long_run(run, arguments.rows, Path(folder) / "long")
        n = ddfa_batch.open(long).run.n_inputs
        print(f"{n:,} inputs: {told(long, page)}", flush=True)


if __name__ == "__main__":
    main()
