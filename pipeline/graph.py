"""How a shard is worked at: a chain of named stages, in this process or as a Dask graph on a cluster.

With `pipeline.cluster` and what that starts the only home of Dask. Whoever runs them, the stages are the same; in this
process Dask is not even imported, which takes as long as a dozen pictures.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import queue
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ddfa_batch.pipeline import cluster, worker_template
from ddfa_batch.pipeline.dask_settings import TEMPLATE_ENVIRONMENT
from ddfa_batch.pipeline.progress import ShardProgress
from ddfa_batch.pipeline.shard_window import Room
from ddfa_batch.pipeline.stage_running import (
    REPORT_SECONDS,
    TOPIC,
    Announce,
    StageConditions,
    listener,
    run_stage,
    tied,
)
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import ClusterError, DdfaError
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.files.decoder_child import end_children
from ddfa_batch.tasks.files.in_flight import InFlight
from ddfa_batch.tasks.files.remote_calls import is_url
from ddfa_batch.tasks.files.run_folders import run_folder_at

#: The stages of a shard by the name Dask's dashboard shows. The first is called with (out, shard), the others
#: with (out, shard, what the one before gave); the last gives the shard's `Receipt`. One called "commit" only waits
#: for the disk; where OUT is a URL it is one task with all from the first that writes files.
Stages = dict[str, Callable[..., Any]]

#: Times in a row that a shard is handed out again after Dask gave up on it, its workers dying of no image in hand.
_RESUBMISSIONS = 3
#: Seconds between two looks at the connection while nothing happens.
_POLL_SECONDS = 0.5
#: Reports a second that all workers may send together.
_REPORTS_PER_SECOND = 200


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
        worker_template.start(TEMPLATE_ENVIRONMENT)


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
    for name, stage in (tied(stages) if is_url(job.out) else stages).items():
        under = StageConditions(job.execution.limits, job.execution.remote, fault, every, waits=name == "commit")
        yield name, functools.partial(run_stage, stage, under)


# -------------------------------------------------------------------------------------------- who runs them


def _here(job: Job, shards: list[int], announce: Announce) -> Iterator[Receipt]:
    with cluster.one_thread_each(), contextlib.ExitStack() as end:
        end.callback(end_children)
        for shard in shards:
            token = listener.set(announce)
            try:
                made: tuple[Any, ...] = ()
                for _, run in _chain(job, shard, REPORT_SECONDS):
                    made = (run(job.out, shard, *made),)
            finally:
                listener.reset(token)
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
    every = max(REPORT_SECONDS, room.threads / _REPORTS_PER_SECOND)
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

    client.subscribe_topic(TOPIC, handle)
    try:
        yield
    finally:
        if not cluster.lost(client):
            client.unsubscribe_topic(TOPIC)


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
