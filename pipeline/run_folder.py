"""What may be written over and what may be removed in an output folder: a run's own files, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.tasks.files import store


def refuse_strangers(out: Path) -> None:
    """Raise unless `out` is absent, empty, a run, or holds only what planning leaves when it is interrupted."""
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"{out} is a file; choose a folder for the output.")
    if not out.is_dir() or (out / store.RUN).exists() or (out / store.REPLACING).exists():
        return
    strangers = sorted(e.name for e in out.iterdir() if e.name not in store.PLANNED and not e.name.endswith(".tmp"))
    if strangers:
        raise RunFolderError(
            f"{out} is not empty and holds no run (it has {strangers[0]}); choose another output folder."
        )


def remove_run(out: Path, replaced: bool = False) -> None:
    """Remove a run's own files from `out`; raises `RunFolderError` if what is there is no run.

    Within its folders only what is named as a run names it goes: photographs in a folder called `images` stay. A mark
    (`store.REPLACING`) stands from the beginning, by which a half-removed run is known should this be interrupted;
    where the run is to be `replaced` it stays until the new one is planned. Receipts go first, `run.json` last, so
    that a run whose removal began is never taken for whole.
    """
    refuse_strangers(out)
    if (out / store.RUN).exists():
        _refuse_what_no_run_wrote(out / store.RUN)
        (out / store.REPLACING).touch()
    for name in store.OWN_FOLDERS:
        _remove_entries(out / name)
    for name in reversed(store.OWN_FILES):
        (out / name).unlink(missing_ok=True)
    if not replaced:
        (out / store.REPLACING).unlink(missing_ok=True)


def _remove_entries(folder: Path) -> None:
    if not folder.is_dir() or folder.is_symlink():
        return
    for entry in list(folder.iterdir()):
        if store.OWN_ENTRY.fullmatch(entry.name):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _refuse_what_no_run_wrote(path: Path) -> None:
    """Raise `RunFolderError` where another program wrote a `run.json`; a damaged one of ours may be removed."""
    if b'"ddfa-batch run"' not in path.read_bytes():
        raise RunFolderError(f"{path} is not a ddfa-batch run; choose another output folder.")
