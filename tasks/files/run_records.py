"""Where a run's record stands besides run.json, so that one which is damaged or lost can be put back.

The seal of a complete run has a copy; before that the plan has one, as the run was planned.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.tasks.files.store import PLAN, REPLACING, RUN, SEAL, SHARDS

if TYPE_CHECKING:
    from ddfa_batch.tasks.files.run_folders import RunFolder

#: The plan's metadata: the record as the run was planned, and its XXH3 (128 bits, hex).
_COPY, _CHECKSUM = "ddfa-batch run.json", "ddfa-batch run.json xxh3"


def is_planned(folder: RunFolder) -> bool:
    """Whether a run is planned in a folder that is not half removed."""
    return not folder.has(REPLACING) and has_record(folder)


def has_record(folder: RunFolder) -> bool:
    """Whether a folder has a run's record, be it a copy."""
    return folder.has(RUN) or kept_record(folder) is not None


def kept_record(folder: RunFolder) -> bytes | None:
    """run.json as its copies have it; None where there are none that are whole.

    The plan's counts where run.json is damaged, or gone from a run that was begun: planning writes the plan first.
    """
    if (sealed := sealed_record(folder)) is not None:
        return sealed
    return planned_record(folder) if folder.has(RUN) or folder.entries(SHARDS) else None


def sealed_record(folder: RunFolder) -> bytes | None:
    """run.json as the seal of a complete run keeps it; None where there is none that is whole."""
    try:
        document = json.loads(folder.read(SEAL))
        record, checksum = document["copies"][RUN].encode(), document["checksums"][RUN]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return record if xxhash.xxh3_128_hexdigest(record) == checksum else None


def planned_record(folder: RunFolder) -> bytes | None:
    """run.json as the plan keeps it, without what was done since; None where there is none that is whole."""
    try:
        with folder.reading(PLAN), pq.ParquetFile(folder.source(PLAN)) as plan:
            told = plan.metadata.metadata or {}
    except (OSError, pa.ArrowException, RunFolderError):
        return None
    record = told.get(_COPY.encode())
    right = record is not None and xxhash.xxh3_128_hexdigest(record).encode() == told.get(_CHECKSUM.encode())
    return record if right else None


def keep_in_plan(writer: pq.ParquetWriter, record: bytes) -> None:
    """Add the record of the run that is planned to the plan."""
    writer.add_key_value_metadata({_COPY: record.decode(), _CHECKSUM: xxhash.xxh3_128_hexdigest(record)})
