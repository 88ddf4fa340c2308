"""What does `ddfa-batch compact --sort yaw` cost, and what does it bring those who query?

    python benchmarks/compacting.py RUN [--rows 1000000]

RUN is a finished `ddfa-batch process` run; a run with `--rows` inputs is made of it in a temporary folder by repeating
its rows. Prints the time and the peak memory of compact, and before and after it the number of files and medians over
five of the time of a DuckDB query for the faces of a range of yaw, with the row groups whose statistics let it in.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from report_page import long_run

import ddfa_batch

#: Degrees of yaw that are asked for.
LOW, HIGH = 60.0, 62.0
ROUNDS = 5
QUERY = "select key, yaw, score, params from '{}/faces/*.parquet' where yaw between {} and {}"


def queried(out: Path) -> str:
    """Time, rows and row groups of the query, and files."""
    spent, n = [], 0
    with duckdb.connect(config={"threads": 1}) as connection:
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            n = len(connection.sql(QUERY.format(out, LOW, HIGH)).to_arrow_table())
            spent.append(time.perf_counter() - begun)
    files = sorted((out / "faces").glob("*.parquet"))
    groups = [group for file in files for group in _groups(file)]
    admitted = sum(low <= HIGH and high >= LOW for low, high in groups)
    took = f"{statistics.median(spent):.2f} s for {n:,} rows"
    return f"{took}, {admitted} of {len(groups)} row groups, {len(files)} files"


def _groups(file: Path) -> list[tuple[float, float]]:
    """Least and greatest yaw of each row group."""
    metadata = pq.read_metadata(file)
    (place,) = (i for i in range(metadata.num_columns) if metadata.schema.column(i).path == "yaw")
    statistics_of = [metadata.row_group(g).column(place).statistics for g in range(metadata.num_row_groups)]
    return [(found.min, found.max) for found in statistics_of]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        long = long_run(ddfa_batch.open(arguments.run), arguments.rows, Path(folder) / "long")
        print(f"before: {queried(long)}", flush=True)
        new = Path(folder) / "new"
        command = [sys.executable, "-m", "ddfa_batch", "compact", str(long), str(new), "--sort", "yaw", "--quiet"]
        begun = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ)
        spent, peak = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(f"compact: {spent:.0f} s, {peak / 1e3:,.0f} MB at most", flush=True)
        print(f"after: {queried(new)}", flush=True)


if __name__ == "__main__":
    main()
