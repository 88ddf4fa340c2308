"""A stage where it runs, in this process or on a worker of Dask's: its limits, its waiting, what it tells of itself."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any

from ddfa_batch.pipeline.progress import ShardProgress
from ddfa_batch.schemas.config import ItemLimits, RemoteLimits
from ddfa_batch.schemas.errors import ClusterError
from ddfa_batch.tasks.files.item_limits import item_limits
from ddfa_batch.tasks.files.remote_calls import limited

#: Seconds between two reports of a shard, at least.
REPORT_SECONDS = 0.25
#: Topic of Dask's events under which workers report.
TOPIC = "ddfa-batch-progress"

#: The first stage of a kind of run that writes files.
_WRITERS = frozenset({"draw", "gather", "meshes", "samples", "write"})

#: What is told of a shard at work.
Announce = Callable[[ShardProgress], None]


@dataclass(frozen=True)
class StageConditions:
    """Under what conditions a stage is run."""

    #: What an item may take.
    limits: ItemLimits
    #: How long stores are waited for.
    remote: RemoteLimits
    #: What keeps a worker from working at the run, as in `Job`; None in-process.
    fault: Callable[[], str | None] | None
    #: Seconds between two reports.
    every: float
    #: Whether it only waits for the disk.
    waits: bool


def run_stage(stage: Callable[..., Any], under: StageConditions, *arguments: Any) -> Any:
    """Run a stage, on a worker only if it has no fault; one that waits for the disk leaves its thread first."""
    worker = _dask_worker()
    if worker is not None:
        if under.fault is not None and (reason := under.fault()) is not None:
            raise ClusterError(f"The worker at {worker.address} {reason}.")
        if under.waits:
            _leave_thread()
    token = _every.set(under.every)
    try:
        with item_limits(under.limits, may_end=worker is not None), limited(under.remote):
            return stage(*arguments)
    finally:
        _every.reset(token)


def tied(stages: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """The same stages, those from the first that writes as one: a store sees files only as they are committed."""
    names = list(stages)
    first = next(i for i, name in enumerate(names) if name in _WRITERS)
    before = {name: stages[name] for name in names[:first]}
    return {**before, "-".join(names[first:]): functools.partial(_in_turn, [stages[name] for name in names[first:]])}


def _in_turn(stages: Sequence[Callable[..., Any]], out: str, shard: int, *made: Any) -> Any:
    """What the last of several stages gives, which waits for the disk."""
    *before, commit = stages
    for stage in before:
        made = (stage(out, shard, *made),)
    if _dask_worker() is not None:
        _leave_thread()
    return commit(out, shard, *made)


def _leave_thread() -> None:
    """Let the worker's thread go to another task while this one waits."""
    from distributed import secede

    secede()


def _dask_worker() -> Any:
    """The Dask worker that runs this task; None in-process."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:  # in-process, beside an imported distributed
        return None


_every: ContextVar[float] = ContextVar("every", default=REPORT_SECONDS)
#: Who is told in this process.
listener: ContextVar[Announce | None] = ContextVar("listener", default=None)


class Ticker:
    """Reports how far a shard is, now and then: to the listener in this process, or through Dask to the client."""

    def __init__(self, out: str, shard: int) -> None:
        self._out, self._shard = out, shard
        self._last, self._every = time.monotonic(), _every.get()
        self._listener, self._worker = listener.get(), _dask_worker()

    def __call__(self, images: int, faces: int, errors: int) -> None:
        """Report, unless the last report is too fresh."""
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        progress = ShardProgress(self._shard, images, faces, errors)
        if self._listener is not None:
            self._listener(progress)
        elif self._worker is not None:
            self._worker.log_event(TOPIC, {"out": self._out, "progress": asdict(progress)})
