"""What of a run is done: receipts added up, shards without a good one, and whether the files are as they say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.progress import Totals
from ddfa_batch.schemas.config import RunPart
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.files import clip_files, store
from ddfa_batch.tasks.files.run_folders import RunFolder

#: What an attempt that was killed leaves of a shard.
_LEFTOVER = re.compile(r"\.{1,2}\d")
_HALF_WRITTEN = re.compile(r"\.(.+)\.[0-9a-f]{32}\.tmp")


def receipts(run: Run, shards: Iterable[int] | None = None) -> Iterator[Receipt]:
    """The receipts there are, in shard order; raises `RunFolderError` for one that is damaged."""
    for shard, answer in _read(run, range(run.n_shards) if shards is None else shards):
        if (receipt := store.decode_receipt(run.folder, shard, answer)) is not None:
            yield receipt


def _read(run: Run, shards: Iterable[int]) -> Iterator[tuple[int, bytes | OSError]]:
    """What reading the receipts of shards gives, in order."""
    wanted = list(shards)
    answers = run.folder.read_many([store.receipt_name(shard) for shard in wanted])
    return zip(wanted, answers, strict=True)


def total(run: Run) -> Totals:
    """The receipts of all shards that are done, added up."""
    totals = Totals()
    for receipt in good_receipts(run):
        totals = totals.plus(receipt)
    return totals


def pending_shards(run: Run, part: RunPart | None = None) -> list[int]:
    """The shards to do: without a receipt or with a damaged one, or whose files are missing or of another size.

    Of a part of the run, if one is given. Sizes cost one look into the folder per file. Damage that leaves the size is
    found by `verify_run`.
    """
    shards = range(run.n_shards) if part is None else part.shards(run.n_shards)
    done = {receipt.shard for receipt in good_receipts(run, shards)}
    return [shard for shard in shards if shard not in done]


def good_receipts(run: Run, shards: Iterable[int] | None = None) -> Iterator[Receipt]:
    """The receipts, of these shards or of all, whose files are there, of the size they say."""
    for _, receipt in _examined(run, shards):
        if receipt is not None:
            yield receipt


def spoiled_shards(run: Run) -> list[int]:
    """The shards that were finished and have no good receipt any more."""
    return [shard for shard, receipt in _examined(run) if receipt is None]


def _examined(run: Run, shards: Iterable[int] | None = None) -> Iterator[tuple[int, Receipt | None]]:
    """The shards with a receipt, and that if it is good: not damaged, and its files there, of the size it says."""
    size_of = run.folder.sizes()
    for shard, answer in _read(run, range(run.n_shards) if shards is None else shards):
        try:
            receipt = store.decode_receipt(run.folder, shard, answer)
        except RunFolderError:
            yield shard, None
            continue
        if receipt is not None:
            sizes = (_wrong_size(size_of, *file) for file in receipt.files.items())
            yield shard, None if any(sizes) else receipt


def verify_run(run: Run) -> list[str]:
    """What does not add up, in sentences: receipts, sizes, checksums, rows. Reads every file of the run once."""
    return [fault for faults in damaged_shards(run).values() for fault in faults]


def damaged_shards(run: Run) -> dict[int, list[str]]:
    """The shards that were finished and do not add up, with what is wrong with them."""
    found: dict[int, list[str]] = {}
    size_of = run.folder.sizes()
    for shard, answer in _read(run, range(run.n_shards)):
        try:
            receipt = store.decode_receipt(run.folder, shard, answer)
        except RunFolderError as fault:
            found[shard] = [str(fault)]
            continue
        if receipt is not None and (faults := _faults(run, receipt, size_of)):
            found[shard] = faults
    return found


def _faults(run: Run, receipt: Receipt, size_of: Callable[[str], int]) -> list[str]:
    found = [fault for name in receipt.files if (fault := _fault_of(run.folder, receipt, name, size_of)) is not None]
    if run.kind == "synth-videos":
        found += _unlabelled(run, receipt.shard)
    planned = len(run.inputs_of(receipt.shard))
    if (done := receipt.rows.get(store.IMAGES)) != planned:
        found.append(f"shard {receipt.shard} has {done} rows for {planned} inputs")
    return found


def _fault_of(folder: RunFolder, receipt: Receipt, name: str, size_of: Callable[[str], int]) -> str | None:
    if (fault := _wrong_size(size_of, name, receipt.files[name])) is not None:
        return fault
    table, expected = name.split("/", maxsplit=1)[0], receipt.checksums.get(name)
    if expected is not None and folder.checksum(name) != expected:
        return f"{name} has another checksum than its receipt says: its content was altered or is damaged"
    if not name.endswith(".parquet") or table == clip_files.CLIPS:
        return None
    there, told = _rows(folder, name), receipt.rows.get(table)
    return None if there == told else f"{name} has {there} rows, its receipt says {told}"


def _unlabelled(run: Run, shard: int) -> list[str]:
    """What of a shard's clips has no label, and what labels have no picture."""
    labels, form = store.table_name(store.FRAMES, shard), run.options["format"]
    if _rows(run.folder, labels) is None or not clip_files.clips_path(run.out, shard, form).exists():
        return []  # told already: the receipt names both
    keys = pq.read_table(run.folder.source(labels), columns=["frame_key"])["frame_key"].to_pylist()
    return clip_files.mismatches(run.out, shard, form, set(keys))


def _wrong_size(size_of: Callable[[str], int], name: str, size: int) -> str | None:
    try:
        now = size_of(name)
    except FileNotFoundError:
        return f"{name} is missing"
    return None if now == size else f"{name} has {now:,} bytes, its receipt says {size:,}"


def planned_rows(run: Run) -> int | None:
    """The rows of a run's plan; None where it cannot be read."""
    return _rows(run.folder, store.PLAN)


def _rows(folder: RunFolder, name: str) -> int | None:
    try:
        return int(pq.read_metadata(folder.source(name)).num_rows)
    except (OSError, pa.ArrowException):
        return None


def withdraw(run: Run, shards: Iterable[int]) -> None:
    """Remove the receipts of shards, so that they are done again."""
    run.folder.remove(store.receipt_name(shard) for shard in shards)


def remove_leftovers(run: Run) -> None:
    """Remove what attempts that were killed left half-written in a run that is complete."""
    for name in store.OWN_FOLDERS:
        run.folder.remove(f"{name}/{entry}" for entry in run.folder.entries(name) if _LEFTOVER.match(entry))
    whole = (_HALF_WRITTEN.fullmatch(entry) for entry in run.folder.entries())
    run.folder.remove(match[0] for match in whole if match and match[1] in store.OWN_FILES)
