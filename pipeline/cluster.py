"""Clusters: one started here, or one that is there already; its workers made ready, verified, and left as they were."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
from threadpoolctl import threadpool_limits

from ddfa_batch.pipeline.dask_settings import JOB_ENVIRONMENT, LOST_WORKER, SILENT
from ddfa_batch.pipeline.job_clusters import script, submitted
from ddfa_batch.pipeline.local_cluster import local_cluster
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import ClusterError
from ddfa_batch.schemas.job_clusters import BatchCluster, KubernetesCluster
from ddfa_batch.tasks.files.decoder_child import end_children

_log = logging.getLogger(__name__)

#: How long a scheduler may take to answer, and to have a worker.
_CONNECT_SECONDS, _WORKER_SECONDS = 30, 60
#: Threads of Arrow in a worker: to compute, and to read.
_ARROW_THREADS, _ARROW_IO_THREADS = 1, 2
_LOST = (
    "The connection to Dask's scheduler was lost in mid-run. What is finished is kept: when it is there again, run the "
    "same command again to resume."
)
#: What a command calls what it makes of workers, before its client's name.
_PREPARATION = "ddfa-batch-one-thread-each-"
#: How the address of a scheduler begins.
_PROTOCOLS = ("tcp://", "tls://", "ucx://", "ws://", "wss://")


@contextlib.contextmanager
def connected(execution: Execution) -> Iterator[Any]:
    """A client of the cluster asked for; a local one is started here and ends with the run.

    Raises `ClusterError` where the scheduler cannot be reached, or is lost meanwhile.
    """
    from distributed.comm.core import CommClosedError

    try:
        with _quiet_dask(), _client(execution) as client:
            if _log.isEnabledFor(logging.INFO):
                _log.info("Dask: %d workers, dashboard at %s", len(client.nthreads()), client.dashboard_link)
            with _loss_told(client):
                yield client
    except CommClosedError:
        raise ClusterError(_LOST) from None


def _client(execution: Execution) -> contextlib.AbstractContextManager[Any]:
    if execution.cluster is not None:
        return _asked_for(execution.cluster)
    return local_cluster(execution.workers) if execution.scheduler in ("auto", "local") else _remote(execution)


@contextlib.contextmanager
def _loss_told(client: Any) -> Iterator[None]:
    """Tell in a sentence of a scheduler that went away, also where Dask says that it connected to it in vain."""
    try:
        yield
    except OSError:
        if not lost(client):
            raise
        raise ClusterError(_LOST) from None


@contextlib.contextmanager
def _remote(execution: Execution) -> Iterator[Any]:
    from distributed import Client

    is_file = not execution.scheduler.startswith(_PROTOCOLS)
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
            _wait_for_a_worker(client, execution.scheduler)
        yield client


@contextlib.contextmanager
def _asked_for(cluster: BatchCluster | KubernetesCluster) -> Iterator[Any]:
    """A client of a cluster whose workers are asked for here, and end with the run; the first one is waited for."""
    import dask.config
    from distributed import Client

    settings = {"distributed.deploy.lost-worker-timeout": LOST_WORKER, "distributed.worker.profile.enabled": False}
    with dask.config.set(settings), submitted(cluster, JOB_ENVIRONMENT) as workers, Client(workers) as client:
        _log.info("Asked %s for %d workers; waiting for the first", cluster.kind, cluster.workers)
        try:
            client.wait_for_workers(1, timeout=cluster.wait)
        except TimeoutError:
            raise ClusterError(
                f"{cluster.kind} started no worker in {cluster.wait:g} s: look at its queue and at the logs of its "
                "jobs, or give the cluster's configuration a longer 'wait'."
            ) from None
        yield client


def submission(cluster: BatchCluster | KubernetesCluster) -> str:
    """What is handed to a batch system for each job, or to Kubernetes, as text; raises `ClusterError`."""
    return script(cluster, JOB_ENVIRONMENT)


def _wait_for_a_worker(client: Any, scheduler: str) -> None:
    try:
        client.wait_for_workers(1, timeout=_WORKER_SECONDS)
    except TimeoutError:
        raise ClusterError(
            f"The scheduler at {scheduler} has had no worker for {_WORKER_SECONDS} s; start some with 'dask worker'."
        ) from None


@contextlib.contextmanager
def _quiet_dask() -> Iterator[None]:
    """Keep Dask's tracebacks off the screen: what matters of them is said in a sentence. Undone on leaving."""
    import distributed  # noqa: F401 - it gives its loggers their levels

    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(SILENT)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


# -------------------------------------------------------------------------------------------- the workers


@contextlib.contextmanager
def prepared(client: Any, fault: Callable[[], str | None]) -> Iterator[None]:
    """Workers with one thread per library, now and late joiners, and none with a `fault`; put back as they were after.

    What commands left that were killed meanwhile is put back first.
    Raises `ClusterError` for a worker with a fault. Those that join later ask for it themselves, stage by stage.
    """
    from distributed import WorkerPlugin

    class OneThreadEach(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            enter_one_thread()

        def teardown(self, worker: Any) -> None:
            end_children()
            leave_one_thread()

    name = _PREPARATION + client.id
    _verify(client, fault)
    for left in _left_by_the_dead(client):
        client.unregister_worker_plugin(left)
    client.register_plugin(OneThreadEach(), name=name)
    try:
        yield
    finally:
        if not lost(client):
            client.unregister_worker_plugin(name)


def _left_by_the_dead(client: Any) -> list[str]:
    """What commands made of the workers that were killed since, and could not put back."""

    def found(dask_scheduler: Any) -> list[str]:
        connected = {_PREPARATION + client for client in dask_scheduler.clients}
        return [name for name in {*dask_scheduler.worker_plugins} - connected if name.startswith(_PREPARATION)]

    left: list[str] = client.run_on_scheduler(found)
    return left


def _verify(client: Any, fault: Callable[[], str | None]) -> None:
    for address, reason in client.run(fault, on_error="return").items():
        if isinstance(reason, OSError) and address not in client.scheduler_info()["workers"]:
            continue  # it died when it was asked; what comes in its place asks itself
        if isinstance(reason, BaseException):
            raise ClusterError(
                f"The worker at {address} cannot run ddfa-batch ({reason}): install the same on all workers."
            )
        if reason is not None:
            raise ClusterError(f"The worker at {address} {reason}.")


def lost(client: Any) -> bool:
    """Whether the client has no scheduler any more."""
    return client.status != "running"


def refuse_lost(client: Any) -> None:
    """Raise `ClusterError` where the connection to the scheduler is lost: what it was handed is lost with it."""
    if lost(client):
        raise ClusterError(_LOST)


# -------------------------------------------------------------------------------------------- their threads

_using, _undo, _changing = 0, contextlib.ExitStack(), threading.Lock()


def enter_one_thread() -> None:
    """One thread for everything in this process that would start its own, until as many have left as entered."""
    global _using  # noqa: PLW0603 - the settings are the process's, and so is the count of those who rely on them
    with _changing:
        if not _using:
            _undo.callback(cv2.setNumThreads, cv2.getNumThreads())
            _undo.callback(pa.set_cpu_count, pa.cpu_count())
            _undo.callback(pa.set_io_thread_count, pa.io_thread_count())
            cv2.setNumThreads(0)
            pa.set_cpu_count(_ARROW_THREADS)
            pa.set_io_thread_count(_ARROW_IO_THREADS)
            _undo.enter_context(threadpool_limits(1))
        _using += 1


def leave_one_thread() -> None:
    """Put everything back, if nobody relies on it any more."""
    global _using  # noqa: PLW0603
    with _changing:
        _using -= 1
        if not _using:
            _undo.close()


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """One thread for everything that would start its own, as in a worker; undone on leaving."""
    enter_one_thread()
    try:
        yield
    finally:
        leave_one_thread()
