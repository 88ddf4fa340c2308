"""What may be written over and what may be removed in an output folder: a run's own files, and nothing else."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from ddfa_batch.schemas.errors import DdfaError, FilesGoneError, RunFolderError
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.run_folders import RunFolder
from ddfa_batch.tasks.files.run_records import has_record

#: Seconds that somebody who removes a run is waited for after the last entry went, and between two looks.
_REMOVAL_SECONDS, _LOOK_SECONDS = 2.0, 0.05


def refuse_strangers(folder: RunFolder) -> None:
    """Raise unless `folder` is absent, empty, a run, or holds only what planning leaves when it is interrupted."""
    folder.refuse_file()
    entries = folder.entries()
    if store.REPLACING in entries or has_record(folder):
        return
    strangers = [name for name in entries if name not in store.PLANNED and not name.endswith(".tmp")]
    if strangers:
        raise RunFolderError(
            f"{folder} is not empty and holds no run (it has {strangers[0]}); choose another output folder."
        )


def remove_run(folder: RunFolder, replaced: bool = False) -> None:
    """Remove a run's own files from `folder`; raises `RunFolderError` if what is there is no run.

    Within its folders only what is named as a run names it goes: photographs in a folder called `images` stay. A mark
    (`store.REPLACING`) stands from the beginning, by which a half-removed run is known should this be interrupted;
    where the run is to be `replaced` it stays until the new one is planned. Receipts go first, `run.json` last, so
    that a run whose removal began is never taken for whole.
    """
    refuse_strangers(folder)
    if folder.has(store.RUN):
        _refuse_what_no_run_wrote(folder)
        folder.put(store.REPLACING, b"")
    _remove_own(folder)
    if not replaced:
        folder.remove([store.REPLACING])


@contextlib.contextmanager
def rest_removed(folder: RunFolder) -> Iterator[None]:
    """Where a run fails inside the block because somebody removed its folder, remove what was written there since.

    Else the same command would find files there, and no run that they belong to. Raises `RunFolderError` then.
    """
    try:
        yield
    except (DdfaError, OSError) as fault:
        if not _was_removed(folder, isinstance(fault, FileNotFoundError | FilesGoneError)):
            raise
        _remove_own(folder)
        raise RunFolderError(f"{folder} was removed while the run was at work; run the same command again.") from None


def _was_removed(folder: RunFolder, missed: bool) -> bool:
    """Whether the run is gone; where something was missed, or its receipts are, a removal may be under way.

    It is waited for as long as entries go.
    """
    left, deadline = sys.maxsize, 0.0
    while folder.has(store.RUN):
        if not (missed or store.SHARDS not in folder.entries()):
            return False
        if (now := _left(folder)) < left:
            left, deadline = now, time.monotonic() + _REMOVAL_SECONDS
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _left(folder: RunFolder) -> int:
    """How many entries the run's folder and those in it have."""
    return sum(len(folder.entries(name)) for name in ("", *store.OWN_FOLDERS))


def _remove_own(folder: RunFolder) -> None:
    for name in store.OWN_FOLDERS:
        folder.empty(name, lambda entry: store.OWN_ENTRY.fullmatch(entry) is not None)
    for name in reversed(store.OWN_FILES):
        folder.remove([name])


def _refuse_what_no_run_wrote(folder: RunFolder) -> None:
    """Raise `RunFolderError` where another program wrote a `run.json`; a damaged one of ours may be removed."""
    if b'"ddfa-batch run"' not in folder.read(store.RUN):
        raise RunFolderError(f"{folder.where(store.RUN)} is not a ddfa-batch run; choose another output folder.")
