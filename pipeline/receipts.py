"""What of a run is done: receipts added up, shards without a good one, and whether the files are as they say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.progress import Totals
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.files import atomic, clip_files, store


def receipts(run: Run, shards: Iterable[int] | None = None) -> Iterator[Receipt]:
    """The receipts there are, in shard order; raises `RunFolderError` for one that is damaged."""
    for shard in range(run.n_shards) if shards is None else shards:
        if (receipt := store.read_receipt(run.out, shard)) is not None:
            yield receipt


def total(run: Run) -> Totals:
    """The receipts of all shards that are done, added up."""
    totals = Totals()
    for receipt in good_receipts(run):
        totals = totals.plus(receipt)
    return totals


def pending_shards(run: Run) -> list[int]:
    """The shards to do: without a receipt or with a damaged one, or whose files are missing or of another size.

    Sizes cost one look into the folder per file. Damage that leaves the size is found by `verify_run`.
    """
    done = {receipt.shard for receipt in good_receipts(run)}
    return [shard for shard in range(run.n_shards) if shard not in done]


def good_receipts(run: Run) -> Iterator[Receipt]:
    """The receipts whose files are there, of the size they say."""
    for _, receipt in _examined(run):
        if receipt is not None:
            yield receipt


def spoiled_shards(run: Run) -> list[int]:
    """The shards that were finished and have no good receipt any more."""
    return [shard for shard, receipt in _examined(run) if receipt is None]


def _examined(run: Run) -> Iterator[tuple[int, Receipt | None]]:
    """The shards with a receipt, and that if it is good: not damaged, and its files there, of the size it says."""
    for shard in range(run.n_shards):
        try:
            receipt = store.read_receipt(run.out, shard)
        except RunFolderError:
            yield shard, None
            continue
        if receipt is not None:
            sizes = (_wrong_size(run.out, *file) for file in receipt.files.items())
            yield shard, None if any(sizes) else receipt


def verify_run(run: Run) -> list[str]:
    """What does not add up, in sentences: receipts, sizes, checksums, rows. Reads every file of the run once."""
    return [fault for faults in damaged_shards(run).values() for fault in faults]


def damaged_shards(run: Run) -> dict[int, list[str]]:
    """The shards that were finished and do not add up, with what is wrong with them."""
    found: dict[int, list[str]] = {}
    for shard in range(run.n_shards):
        try:
            receipt = store.read_receipt(run.out, shard)
        except RunFolderError as fault:
            found[shard] = [str(fault)]
            continue
        if receipt is not None and (faults := _faults(run, receipt)):
            found[shard] = faults
    return found


def _faults(run: Run, receipt: Receipt) -> list[str]:
    found = [fault for name in receipt.files if (fault := _fault_of(run.out, receipt, name)) is not None]
    if run.kind == "synth-videos":
        found += _unlabelled(run, receipt.shard)
    planned = len(run.inputs_of(receipt.shard))
    if (done := receipt.rows.get(store.IMAGES)) != planned:
        found.append(f"shard {receipt.shard} has {done} rows for {planned} inputs")
    return found


def _fault_of(out: Path, receipt: Receipt, name: str) -> str | None:
    if (fault := _wrong_size(out, name, receipt.files[name])) is not None:
        return fault
    path, table = out / name, name.split("/", maxsplit=1)[0]
    expected = receipt.checksums.get(name)
    if expected is not None and store.checksum(path) != expected:
        return f"{name} has another checksum than its receipt says: its content was altered or is damaged"
    if path.suffix == ".parquet" and table != clip_files.CLIPS and (rows := _rows(path)) != receipt.rows.get(table):
        return f"{name} has {rows} rows, its receipt says {receipt.rows.get(table)}"
    return None


def _unlabelled(run: Run, shard: int) -> list[str]:
    """What of a shard's clips has no label, and what labels have no picture."""
    labels = run.out / store.FRAMES / f"{store.shard_name(shard)}.parquet"
    form = run.options["format"]
    if _rows(labels) is None or not clip_files.clips_path(run.out, shard, form).exists():
        return []  # told already: the receipt names both
    keys = pq.read_table(labels, columns=["frame_key"])["frame_key"].to_pylist()
    return clip_files.mismatches(run.out, shard, form, set(keys))


def _wrong_size(out: Path, name: str, size: int) -> str | None:
    try:
        now = store.size_of(out / name)
    except FileNotFoundError:
        return f"{name} is missing"
    return None if now == size else f"{name} has {now:,} bytes, its receipt says {size:,}"


def planned_rows(run: Run) -> int | None:
    """The rows of a run's plan; None where it cannot be read."""
    return _rows(run.out / store.PLAN)


def _rows(path: Path) -> int | None:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return None


def withdraw(run: Run, shards: Iterable[int]) -> None:
    """Remove the receipts of shards, so that they are done again."""
    for shard in shards:
        store.remove_receipt(run.out, shard)


def remove_leftovers(run: Run) -> None:
    """Remove what attempts that were killed left half-written in a run that is complete."""
    for name in store.OWN_FOLDERS:
        for entry in (run.out / name).glob(".[0-9]*"):
            atomic.discard(entry)
