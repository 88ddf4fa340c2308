"""Files of a whole run that were lost or damaged, made again by the command that made the run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ddfa_batch.pipeline import plan, receipts
from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.seal import is_sealed, sealed_names
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.run import EXTENDED
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.mesh_files import put_topology
from ddfa_batch.tasks.files.run_folders import RunFolder


def put_back_record(folder: RunFolder) -> None:
    """Put run.json back as the seal keeps it, where it is gone or another."""
    record = store.sealed_record(folder)
    if record is not None and not (folder.has(store.RUN) and folder.read(store.RUN) == record):
        folder.put(store.RUN, record)


def put_back_plan(run: Run, rows: Iterable[dict[str, Any]], bundle: Bundle, verify: bool) -> None:
    """Make the topology and the plan of `rows` again, where they are gone or cannot be read.

    verify: also where they are not as they were sealed. Raises `RunFolderError` where the inputs as they are listed now
    do not give the plan that the run was made with.
    """
    folder, sealed = run.folder, sealed_names(run)

    def wrong(name: str) -> bool:
        return not folder.has(name) or (verify and name in sealed and not is_sealed(run, name))

    if wrong(store.TOPOLOGY):
        with folder.writing(store.TOPOLOGY) as work:
            put_topology(work, load_morphable(bundle))
    if wrong(store.PLAN) or receipts.planned_rows(run) is None:
        _refuse_grown(run)
        plan.write_plan(run, rows)
        if store.PLAN in sealed and not is_sealed(run, store.PLAN):
            folder.remove([store.PLAN])
            raise _lost(run)


def _refuse_grown(run: Run) -> None:
    """Raise where the plan is of several listings, in whose order one listing is not."""
    if any(entry.what == EXTENDED for entry in run.history):
        raise _lost(run)


def _lost(run: Run) -> RunFolderError:
    return RunFolderError(
        f"{run.folder.where(store.PLAN)} is lost, and the inputs as they are now do not give it again; the same "
        "command with --overwrite makes the run anew."
    )
