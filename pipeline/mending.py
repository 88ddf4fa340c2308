"""Files of a whole run that were lost or damaged, made again by the command that made the run."""

from __future__ import annotations

import json

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
from ddfa_batch.tasks.files.run_records import kept_record, planned_record, sealed_record


def put_back_record(folder: RunFolder) -> None:
    """Put run.json back as the seal or the plan keeps it, where it is gone or another and no run is being replaced."""
    if folder.has(store.REPLACING) or not broken_record(folder):
        return
    if (record := kept_record(folder)) is not None:
        folder.put(store.RUN, record)


def broken_record(folder: RunFolder) -> bool:
    """Whether run.json is gone, damaged, or says something else than its copy does; that of the plan has no history."""
    if not folder.has(store.RUN):
        return True
    record, sealed = folder.read(store.RUN), sealed_record(folder)
    if sealed is not None:
        return record != sealed
    planned = planned_record(folder)
    return planned is not None and _without_history(record) != _without_history(planned)


def _without_history(record: bytes) -> object:
    try:
        return {**json.loads(record), "history": None}
    except (ValueError, TypeError):
        return None


def put_back_plan(run: Run, rows: plan.Rows, bundle: Bundle, verify: bool) -> None:
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
        plan.write_plan(run, rows())
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
