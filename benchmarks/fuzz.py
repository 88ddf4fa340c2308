"""Damaged pictures of every format through `process`, whole runs with workers: no run may stop, no row may be missing.

    python benchmarks/fuzz.py --pictures 2000 --seed 1

A round mutates small pictures of every format (bits, numbers, cuts, copies, and PNG chunks with their checksums put
right), processes the folder with two workers, and counts what became of them. It ends with an error where a run stops,
an input has no row, a row says `failed` or tells of an unexpected error in a decoder's process, a process has more
memory than it may, or verifying the run finds a fault. The seed makes a round again; what offends
is kept with --keep.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from fuzz_mutants import mutated, pictures

import ddfa_batch
from ddfa_batch.pipeline.plan import read_run
from ddfa_batch.pipeline.verification import verify_run
from ddfa_batch.schemas.config import DEFAULT_MEMORY_BYTES
from ddfa_batch.schemas.picture_formats import FORMATS

#: Seconds that an input may take in a round, and seconds beyond within which it is to be ended.
ITEM_SECONDS, BEYOND_SECONDS = 10.0, 5.0
#: Pictures of a round.
_ROUND = 500


def one_round(folder: Path, n: int, rng: np.random.Generator, workers: int) -> Counter[str]:
    """Process n damaged pictures; what became of them. Raises `AssertionError` where the run is not as it must be."""
    whole = pictures(rng)
    names = list(whole)
    (folder / "in").mkdir(parents=True)
    for i in range(n):
        name = names[rng.integers(len(names))]
        (folder / "in" / f"{i:05d}-{name}").write_bytes(mutated(whole[name], rng))
    began = time.monotonic()
    with watched_memory() as peak:
        results = ddfa_batch.process(
            folder / "in",
            folder / "out",
            workers=workers,
            scheduler="local",
            vertices="none",
            formats=FORMATS,
            item_timeout=ITEM_SECONDS,
        )
    rows = results.images().to_pylist()
    assert len(rows) >= n, f"{n - len(rows)} inputs have no row"
    slow = [row["key"] for row in rows if (row["decode_ms"] or 0) > (ITEM_SECONDS + BEYOND_SECONDS) * 1e3]
    failed = [f"{row['key']}: {row['error_message']}" for row in rows if unexpected(row)]
    assert peak() <= DEFAULT_MEMORY_BYTES, f"{peak() >> 20} MiB in one process"
    assert not slow, f"over their time: {slow}"
    assert not failed, f"unexpected errors: {failed}"
    assert not verify_run(read_run(folder / "out")).faults
    kinds = Counter(row["error_kind"] or "pixels" for row in rows)
    kinds["seconds"] = round(time.monotonic() - began)
    return kinds


def unexpected(row: dict[str, Any]) -> bool:
    """Whether a row tells of a bug: an error that nobody raised on purpose, here or in a decoder's process."""
    return row["error_kind"] == "failed" or (row["error_kind"] == "crashed" and "exit code" in row["error_message"])


@contextlib.contextmanager
def watched_memory() -> Iterator[Callable[[], int]]:
    """Look at the memory of every process below this one, ten times a second; gives the most that one had, bytes."""
    most, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    most[0] = max(most[0], process.memory_info().rss)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield lambda: most[0]
    finally:
        ended.set()
        looking.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="where the folders of rounds are kept; removed otherwise")
    args = parser.parse_args()
    total: Counter[str] = Counter()
    for n_round in range(-(-args.pictures // _ROUND)):
        n = min(_ROUND, args.pictures - n_round * _ROUND)
        folder = Path(tempfile.mkdtemp(dir=args.keep))
        total += one_round(folder, n, np.random.default_rng([args.seed, n_round]), args.workers)
        if args.keep is None:
            shutil.rmtree(folder)
        total["inputs"] += n
        print(", ".join(f"{n:,} {kind}" for kind, n in sorted(total.items())), flush=True)


if __name__ == "__main__":
    main()
