"""The seal of a complete run: checksums of what belongs to the whole of it, of which no receipt tells."""

from __future__ import annotations

from ddfa_batch.pipeline.plan import Run
from ddfa_batch.schemas.decoding import Document, decode_json
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.tasks.files import atomic, store
from ddfa_batch.tasks.files.run_records import sealed_record

#: The files, by whether the command that made the run makes them again where they are missing.
SEALED = {store.RUN: False, store.PLAN: False, store.TOPOLOGY: False, store.ALL_VERTICES: True, store.FITS: True}
_UNREADABLE = f"{store.SEAL} cannot be read: remove it and run the same command again"


def seal(run: Run) -> None:
    """Write the seal of a complete run; one that stands there holds on, but for files that are made again.

    It is removed whenever run.json is written anew, so that none tells of a run as it was before. It keeps a copy of
    run.json, which nothing else could give again.
    """
    before, _ = _read(run)
    there = [name for name in SEALED if run.folder.has(name)]
    now = {name: run.folder.checksum(name) for name in there if SEALED[name] or name not in before}
    checksums = {name: now.get(name) or before[name] for name in there}
    if checksums != before or sealed_record(run.folder) is None:
        copies = {store.RUN: run.folder.read(store.RUN).decode("utf-8", "replace")}
        run.folder.put(store.SEAL, atomic.as_json({"checksums": checksums, "copies": copies}))


def sealed_names(run: Run) -> frozenset[str]:
    """The files that the run's seal tells of."""
    return frozenset(_read(run)[0])


def is_sealed(run: Run, name: str) -> bool:
    """Whether a file is there as the run's seal has it."""
    checksum = _read(run)[0].get(name)
    return checksum is not None and run.folder.has(name) and run.folder.checksum(name) == checksum


def broken_seal(run: Run) -> tuple[list[str], bool]:
    """Files that are not as the run's seal says, in sentences, and whether there is a seal."""
    if not run.folder.has(store.SEAL):
        return [], False
    checksums, readable = _read(run)
    faults = [] if readable and _copies_right(run) else [_UNREADABLE]
    for name, checksum in checksums.items():
        if not run.folder.has(name):
            faults.append(f"{name} is missing")
        elif run.folder.checksum(name) != checksum:
            faults.append(f"{name} has another checksum than {store.SEAL} says")
    return faults, True


def _copies_right(run: Run) -> bool:
    """Whether the seal's copies are those that were sealed; seals of old have none."""
    return b'"copies"' not in run.folder.read(store.SEAL) or sealed_record(run.folder) is not None


def _read(run: Run) -> tuple[dict[str, str], bool]:
    try:
        document = Document(run.folder.where(store.SEAL), RunFolderError, "remove it")
        checksums = decode_json(run.folder.read(store.SEAL), dict[str, dict[str, str]], document)["checksums"]
    except (OSError, KeyError, RunFolderError):
        return {}, False
    return (checksums, True) if set(checksums) <= set(SEALED) else ({}, False)
