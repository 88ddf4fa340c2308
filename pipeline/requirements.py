"""What a worker must have and see before it works at a run: asked of each at the start, and of late joiners."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ddfa_batch.pipeline import plan
from ddfa_batch.pipeline.plan import Run
from ddfa_batch.schemas.bundle import MANIFEST
from ddfa_batch.schemas.errors import DdfaError, InputError
from ddfa_batch.tasks.bundles.model_bundle import recorded_folder
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.checksums import sha256
from ddfa_batch.tasks.files.inputs import resolve_path
from ddfa_batch.tasks.files.remote_calls import filesystem, is_url
from ddfa_batch.tasks.files.run_folders import run_folder_at

#: Inputs of the plan among which one is sought that can be read here, for workers to prove that they can.
_PROBES = 100


@dataclass(frozen=True)
class Requirements:
    """What a worker must have and see to work at a run."""

    #: The run's folder, an absolute path or a URL.
    out: str
    #: The version of ddfa-batch.
    version: str
    #: Where the model lies.
    model: str
    #: The sha256 of its `model.json`.
    digest: str
    #: The first input that can be read here; None if none of the first ones can.
    probe: str | None


def requirements(run: Run) -> Callable[[], str | None]:
    """What a worker of a run is asked before it works: called there, it says what is amiss, or None."""
    probe = None
    for row in plan.read_shard(run.folder, 0)[:_PROBES]:
        place = row.item.place
        path = os.fsdecode(place.container) if place else str(resolve_path(Path(run.root), row.item))
        if is_url(path) or _unreadable(Path(path)) is None:
            probe = path
            break
    needed = Requirements(run.folder.address, version("ddfa-batch"), run.model.folder, run.model.digest, probe)
    return functools.partial(worker_fault, needed)


_passed: set[Requirements] = set()
_SHARED = (
    "the run folder, the images and the model must lie on a file system that all workers share, under the same path"
)


def worker_fault(needed: Requirements) -> str | None:
    """Called on a worker: why it cannot work at a run, as the rest of a sentence that names it; None if it can."""
    if needed in _passed:
        return None
    for check in (_other_version, _unseen_run, _other_model, _unseen_inputs):
        if (reason := check(needed)) is not None:
            return reason
    _passed.add(needed)
    return None


def _other_version(needed: Requirements) -> str | None:
    if (here := version("ddfa-batch")) != needed.version:
        return f"has ddfa-batch {here}, and the command {needed.version}: install the same on all workers"
    return None


def _unseen_run(needed: Requirements) -> str | None:
    try:
        return None if run_folder_at(needed.out).has(store.RUN) else f"cannot see {needed.out}: {_SHARED}"
    except DdfaError as fault:
        return f"cannot see {needed.out} ({str(fault).rstrip('.')})"


def _other_model(needed: Requirements) -> str | None:
    manifest = recorded_folder(needed.model, needed.digest) / MANIFEST
    if (reason := _unreadable(manifest)) is not None:
        return f"cannot read the model in {needed.model} ({reason}): {_SHARED}"
    if sha256(manifest) != needed.digest:
        return f"has another model in {needed.model} than the run was planned with: {_SHARED}"
    return None


def _unseen_inputs(needed: Requirements) -> str | None:
    if needed.probe is not None and is_url(needed.probe):
        return _no_filesystem(needed.probe)
    if needed.probe is not None and (reason := _unreadable(Path(needed.probe))) is not None:
        return f"cannot read the first input, {needed.probe} ({reason}): {_SHARED}"
    return None


def _no_filesystem(url: str) -> str | None:
    """Why this worker has no package to read `url` with; nothing is fetched, for stores may be slow."""
    try:
        filesystem(url)
    except InputError as fault:
        return f"cannot read the inputs: {str(fault).rstrip('.')}"
    return None


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except (OSError, ValueError) as fault:
        return getattr(fault, "strerror", None) or str(fault)
    return None
