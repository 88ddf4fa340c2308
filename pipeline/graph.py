"""How a shard is worked at: a chain of named stages, in this process or as a Dask graph on a cluster.

With `pipeline.cluster` and what that starts the only home of Dask. Whoever runs them, the stages are the same; in this
process Dask is not even imported, which takes as long as a dozen pictures.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import queue
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any

from ddfa_batch.pipeline import cluster
from ddfa_batch.pipeline.local_cluster import expect_local_workers
from ddfa_batch.pipeline.progress import ShardProgress
from ddfa_batch.pipeline.shard_window import Room
from ddfa_batch.schemas.config import Execution, ItemLimits, RemoteLimits
from ddfa_batch.schemas.errors import ClusterError, DdfaError
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.files.decoder_child import end_children
from ddfa_batch.tasks.files.in_flight import InFlight
from ddfa_batch.tasks.files.item_limits import item_limits
from ddfa_batch.tasks.files.remote_calls import is_url, limited
from ddfa_batch.tasks.files.run_folders import run_folder_at

#: The stages of a shard by the name Dask's dashboard shows. The first is called with (out, shard), the others
#: with (out, shard, what the one before gave); the last gives the shard's `Receipt`. One called "commit" only waits
#: for the disk; where OUT is a URL it is one task with all from the first that writes files.
Stages = dict[str, Callable[..., Any]]
#: The first stage of a kind of run that writes files.
_WRITERS = frozenset({"draw", "meshes", "samples", "write"})

#: Times in a row that a shard is handed out again after Dask gave up on it, its workers dying of no image in hand.
_RESUBMISSIONS = 3
#: Seconds between two looks at the connection while nothing happens.
_POLL_SECONDS = 0.5
#: Seconds between two reports of a shard, at least; and reports a second that all workers may send together.
_REPORT_SECONDS, _REPORTS_PER_SECOND = 0.25, 200
#: Topic of Dask's events under which workers report.
_TOPIC = "ddfa-batch-progress"


@dataclass(frozen=True)
class Job:
    """What is done to every shard of a run, and where."""

    #: The run's folder, an absolute path or a URL.
    out: str
    #: What is done to a shard.
    stages: Stages
    #: Called on a worker: what keeps it from working at this run, None if nothing does.
    fault: Callable[[], str | None]
    #: Where it is done.
    execution: Execution
    #: Whether there is less to do than starting a local cluster is worth.
    few: bool
    #: Shards that are finished, of which other stages do the error rows again.
    retried: frozenset[int] = frozenset()
    #: Those stages.
    retry_stages: Stages = field(default_factory=dict)

    def stages_of(self, shard: int) -> Stages:
        """What is done to a shard."""
        return self.retry_stages if shard in self.retried else self.stages

    @property
    def in_process(self) -> bool:
        """Whether this process does it."""
        return is_in_process(self.execution, self.few)


def is_in_process(execution: Execution, few: bool) -> bool:
    """Whether this process does the work itself. few: there is less to do than starting a local cluster is worth."""
    if execution.cluster is not None:
        return False
    if execution.scheduler == "auto":
        return few and execution.workers in (None, 1)
    return execution.scheduler == "in-process"


def expect(execution: Execution, few: bool) -> None:
    """Begin to start local workers, where some will be wanted: while a run is planned they are made ready."""
    local = execution.cluster is None and execution.scheduler in ("auto", "local")
    if local and not is_in_process(execution, few):
        expect_local_workers()


#: What is told of a shard at work.
Announce = Callable[[ShardProgress], None]


def run_shards(
    job: Job, shards: list[int], announce: Announce, begun: Callable[[], None] = lambda: None
) -> Iterator[Receipt]:
    """Do the given shards of a run; yield their receipts as they come.

    `begun` is called when workers are ready, `announce` with what is known of shards at work, both in this thread.
    Raises `ClusterError` where the cluster cannot be reached, is lost, or has a worker that cannot do the work.
    """
    if not shards:
        return
    if job.in_process:
        begun()
        yield from _here(job, shards, announce)
        return
    end_children()  # those that listed videos: here there is nothing more to decode
    with cluster.connected(job.execution) as client, cluster.prepared(client, job.fault):
        begun()
        yield from _windowed(client, job, shards, announce)


def shard_graph(job: Job, shard: int, every: float) -> Any:
    """The chain of named tasks of a shard. Dask's dashboard shows the words before the digits."""
    from dask.delayed import delayed

    token = f"{shard:06d}-{uuid.uuid4().hex}"
    task: Any = None
    for name, run in _chain(job, shard, every):
        before = () if task is None else (task,)
        task = delayed(run, pure=False)(job.out, shard, *before, dask_key_name=f"{name}-{token}")
    return task


def _chain(job: Job, shard: int, every: float) -> Iterator[tuple[str, Callable[..., Any]]]:
    """What is called for a shard, by name: with (out, shard, what the one before gave)."""
    fault = None if job.in_process else job.fault
    stages = job.stages_of(shard)
    for name, stage in (_tied(stages) if is_url(job.out) else stages).items():
        how = _How(job.execution.limits, job.execution.remote, fault, every, waits=name == "commit")
        yield name, functools.partial(_run_stage, stage, how)


# ---------------------------------------------------------------------------------------- where a stage runs


@dataclass(frozen=True)
class _How:
    """How a stage is run."""

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


def _run_stage(stage: Callable[..., Any], how: _How, *arguments: Any) -> Any:
    """Run a stage, on a worker only if it has no fault; one that waits for the disk leaves its thread first."""
    worker = _dask_worker()
    if worker is not None:
        if how.fault is not None and (reason := how.fault()) is not None:
            raise ClusterError(f"The worker at {worker.address} {reason}.")
        if how.waits:
            _leave_thread()
    token = _every.set(how.every)
    try:
        with item_limits(how.limits, may_end=worker is not None), limited(how.remote):
            return stage(*arguments)
    finally:
        _every.reset(token)


def _tied(stages: Stages) -> Stages:
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


_every: ContextVar[float] = ContextVar("every", default=_REPORT_SECONDS)
_listener: ContextVar[Announce | None] = ContextVar("listener", default=None)


class Ticker:
    """Reports how far a shard is, now and then: to the listener in this process, or through Dask to the client."""

    def __init__(self, out: str, shard: int) -> None:
        self._out, self._shard = out, shard
        self._last, self._every = time.monotonic(), _every.get()
        self._listener, self._worker = _listener.get(), _dask_worker()

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
            self._worker.log_event(_TOPIC, {"out": self._out, "progress": asdict(progress)})


# -------------------------------------------------------------------------------------------- who runs them


def _here(job: Job, shards: list[int], announce: Announce) -> Iterator[Receipt]:
    with cluster.one_thread_each(), contextlib.ExitStack() as end:
        end.callback(end_children)
        for shard in shards:
            token = _listener.set(announce)
            try:
                made: tuple[Any, ...] = ()
                for _, run in _chain(job, shard, _REPORT_SECONDS):
                    made = (run(job.out, shard, *made),)
            finally:
                _listener.reset(token)
            yield made[0]


@dataclass(frozen=True)
class _Attempt:
    """How often a shard was handed out again because its workers died."""

    #: Times in a row without an image to blame.
    vain: int = 0
    #: Deaths that are blamed on images so far: each brings the shard nearer to its end, since none is tried for ever.
    blamed: int = 0

    def after_deaths(self, out: str, shard: int) -> _Attempt | None:
        """The next attempt; None where there is no hope in one."""
        blamed = InFlight.n_deaths(run_folder_at(out).work, shard)
        if blamed > self.blamed:
            return _Attempt(0, blamed)
        return _Attempt(self.vain + 1, blamed) if self.vain < _RESUBMISSIONS else None


def _windowed(client: Any, job: Job, shards: list[int], announce: Announce) -> Iterator[Receipt]:
    """Keep a bounded number of shards on the cluster, so that neither side grows with the dataset."""
    room = Room(client)
    every = max(_REPORT_SECONDS, room.threads / _REPORTS_PER_SECOND)
    waiting = iter(shards)
    attempts: dict[Any, tuple[int, _Attempt]] = {}
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def submit(shard: int, attempt: _Attempt) -> None:
        future = client.compute(shard_graph(job, shard, every), optimize_graph=False, retries=1)
        attempts[future] = (shard, attempt)
        future.add_done_callback(events.put)

    with _reports(client, job.out, events.put):
        while True:
            for shard in itertools.islice(waiting, max(room.shards() - len(attempts), 0)):
                submit(shard, _Attempt())
            if not attempts:
                return
            event = _next(client, events)
            if isinstance(event, ShardProgress):
                announce(event)
                continue
            shard, attempt = attempts.pop(event)
            cluster.refuse_lost(client)
            fault = event.exception()
            if fault is None:
                yield event.result()
            elif _workers_died(event, fault) and (again := attempt.after_deaths(job.out, shard)) is not None:
                submit(shard, again)
            else:
                raise _explained(fault, shard)
            event.release()


def _next(client: Any, events: queue.SimpleQueue[Any]) -> Any:
    """The next future that is done, or report; raises `ClusterError` where the scheduler is lost meanwhile."""
    while True:
        with contextlib.suppress(queue.Empty):
            return events.get(timeout=_POLL_SECONDS)
        cluster.refuse_lost(client)


@contextlib.contextmanager
def _reports(client: Any, out: str, tell: Announce) -> Iterator[None]:
    """Hand what workers report of the run in `out` to `tell`."""

    def handle(event: tuple[float, dict[str, Any]]) -> None:
        _, report = event
        if report["out"] == out:
            tell(ShardProgress(**report["progress"]))

    client.subscribe_topic(_TOPIC, handle)
    try:
        yield
    finally:
        if not cluster.lost(client):
            client.unsubscribe_topic(_TOPIC)


def _workers_died(future: Any, fault: BaseException) -> bool:
    from distributed.scheduler import KilledWorker

    return isinstance(fault, KilledWorker) or bool(future.cancelled())


def _explained(fault: BaseException, shard: int) -> DdfaError:
    if isinstance(fault, DdfaError):
        return fault
    return ClusterError(
        f"Shard {shard} failed on the cluster ({type(fault).__name__}: {fault}). What is finished is kept: run "
        "the same command again to resume."
    )
