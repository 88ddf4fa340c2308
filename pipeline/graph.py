"""Where the work is done: in this process, on a local cluster, or on a cluster that is already there.

The only home of Dask. Whatever runs it, a shard is the same small graph, a chain of a few named stages.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import dask
import dask.base
import dask.config
import pyarrow as pa
from dask.delayed import delayed
from threadpoolctl import threadpool_limits

from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import ClusterError, DdfaError
from ddfa_batch.tasks.files.store import Receipt

_log = logging.getLogger(__name__)

#: The stages of a shard by the name Dask's dashboard shows. The first is called with (out, shard), the others
#: with (out, shard, what the one before gave); the last gives the shard's `Receipt`. One called "commit" only waits
#: for the disk.
Stages = dict[str, Callable[..., Any]]

#: Shards in flight for every worker thread: one at work, one waiting, and a little to hide the round trip.
_WINDOW_PER_THREAD = 2
#: Times a shard is handed out again after Dask gave up on it because its workers kept dying.
_RESUBMISSIONS = 3
#: How long a scheduler may take to answer.
_CONNECT_SECONDS = 30
#: Dask's nanny lets malloc give memory back above 64 KiB, which doubles the time to decode a JPEG: every
#: picture's buffer is mapped and cleared anew. 256 MiB keeps them.
_MALLOC_BYTES = str(256 << 20)
_MALLOC = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def run_shards(out: str, shards: list[int], few: bool, execution: Execution, stages: Stages) -> Iterator[Receipt]:
    """Do the given shards of the run in `out`; yield their receipts as they come.

    `few`: there is less to do than starting a local cluster is worth.
    """
    if not shards:
        return
    if _in_process(execution, few):
        yield from _here(out, shards, stages)
        return
    with _client(execution) as client:
        _log.info("Dask: %d workers, dashboard at %s", len(client.nthreads()), client.dashboard_link)
        _prepare_workers(client, out)
        yield from _windowed(client, out, shards, stages)


def _in_process(execution: Execution, few: bool) -> bool:
    if execution.scheduler == "auto":
        return few and execution.workers in (None, 1)
    return execution.scheduler == "in-process"


def shard_graph(out: str, shard: int, stages: Stages) -> Any:
    """The chain of named tasks of a shard. Dask's dashboard shows the words before the digits."""
    token = f"{shard:06d}-{uuid.uuid4().hex}"
    task: Any = None
    for name, stage in stages.items():
        before = () if task is None else (task,)
        run = functools.partial(_run_aside, stage) if name == "commit" else stage
        task = delayed(run, pure=False)(out, shard, *before, dask_key_name=f"{name}-{token}")
    return task


def _run_aside(stage: Callable[..., Any], *arguments: Any) -> Any:
    """Run a stage that waits for the disk, leaving a Dask worker's thread to the next task first."""
    if "distributed" in sys.modules:
        from distributed import get_worker, secede

        try:
            get_worker()
        except ValueError:  # in-process, beside an imported distributed
            return stage(*arguments)
        secede()
    return stage(*arguments)


def _here(out: str, shards: list[int], stages: Stages) -> Iterator[Receipt]:
    with single_threaded():
        for shard in shards:
            (receipt,) = dask.base.compute(shard_graph(out, shard, stages), scheduler="synchronous")
            yield receipt


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """One thread for everything that would start its own, as in a worker; undone on leaving."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(before)


def _windowed(client: Any, out: str, shards: list[int], stages: Stages) -> Iterator[Receipt]:
    """Keep a bounded number of shards on the cluster, so that neither side grows with the dataset."""
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    threads = sum(client.nthreads().values()) or 1
    waiting = iter(shards)
    attempts: dict[Any, tuple[int, int]] = {}
    done = as_completed([], with_results=False)

    def submit(shard: int, attempt: int) -> None:
        future = client.compute(shard_graph(out, shard, stages), optimize_graph=False, retries=1)
        attempts[future] = (shard, attempt)
        done.add(future)

    for shard in itertools.islice(waiting, _WINDOW_PER_THREAD * threads + 1):
        submit(shard, 0)
    while attempts:
        future = next(done)
        shard, attempt = attempts.pop(future)
        fault = future.exception()
        if fault is None:
            yield future.result()
        elif attempt < _RESUBMISSIONS and (isinstance(fault, KilledWorker) or future.cancelled()):
            submit(shard, attempt + 1)
        else:
            raise _explained(fault, shard)
        future.release()
        if (next_shard := next(waiting, None)) is not None:
            submit(next_shard, 0)


def _explained(fault: BaseException, shard: int) -> DdfaError:
    if isinstance(fault, DdfaError):
        return fault
    return ClusterError(
        f"Shard {shard} failed on the cluster ({type(fault).__name__}: {fault}). What is finished is kept: run "
        "the same command again to resume."
    )


@contextlib.contextmanager
def _client(execution: Execution) -> Iterator[Any]:
    """A client of the cluster asked for; a local one is started here and ends with the run."""
    from distributed import Client, LocalCluster

    if execution.scheduler in ("auto", "local"):
        workers = execution.workers or usable_cores()
        settings = {
            "distributed.nanny.pre-spawn-environ": _worker_environment(),
            "distributed.admin.tick.interval": "1s",
            "distributed.worker.profile.enabled": False,  # a thread that wakes every 10 ms and wants the GIL
        }
        with (
            dask.config.set(settings),
            LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, silence_logs=50,
                dashboard_address=":0",
            ) as cluster,
            Client(cluster) as client,
        ):  # fmt: skip
            yield client
        return
    is_file = not execution.scheduler.startswith(("tcp://", "tls://", "ucx://", "ws://", "wss://"))
    if is_file and not Path(execution.scheduler).is_file():
        raise ClusterError(
            f"'{execution.scheduler}' is no scheduler: give in-process, local, tcp://HOST:PORT, or the file a "
            "'dask scheduler --scheduler-file FILE' wrote."
        )
    where = {"scheduler_file": execution.scheduler} if is_file else {"address": execution.scheduler}
    try:
        client = Client(**where, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as fault:
        raise ClusterError(
            f"The scheduler at {execution.scheduler} does not answer ({fault}); is it running, and reachable from here?"
        ) from None
    with client:
        if not client.nthreads():
            client.wait_for_workers(1, timeout=60)
        yield client


def _worker_environment() -> dict[str, str]:
    environment = copy.deepcopy(dask.config.get("distributed.nanny.pre-spawn-environ", {}))
    return {**environment, **dict.fromkeys(_MALLOC, _MALLOC_BYTES)}


def usable_cores() -> int:
    """Cores this process may use, as its affinity mask says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _prepare_workers(client: Any, out: str) -> None:
    """One thread per library on every worker, now and for late joiners; and can they see the run?"""
    from distributed import WorkerPlugin

    class OneThreadEach(WorkerPlugin):
        name = "ddfa-batch-one-thread-each"

        def setup(self, worker: Any) -> None:
            quiet_worker()

    client.register_plugin(OneThreadEach())
    try:
        blind = [address for address, sees in client.run(sees_run, out).items() if not sees]
    except ModuleNotFoundError as fault:
        raise ClusterError(f"A worker has no {fault.name}: install the same ddfa-batch on all workers.") from None
    if blind:
        raise ClusterError(
            f"The worker at {blind[0]} cannot see {out}: the run folder, the images and the model must lie on a "
            "file system that all workers share, under the same path."
        )


def quiet_worker() -> None:
    """Called on every worker: one thread per library, no chatter of the image decoders."""
    cv2.setNumThreads(0)
    threadpool_limits(1)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(2)


def sees_run(out: str) -> bool:
    """Called on every worker: whether the run folder is there."""
    return (Path(out) / "run.json").is_file()
