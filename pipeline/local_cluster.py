"""Local workers: a cluster of Dask's on this machine, which is started here and ends with the run, or with a signal."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from ddfa_batch.pipeline import worker_template
from ddfa_batch.pipeline.dask_settings import LOST_WORKER, SILENT, TEMPLATE_ENVIRONMENT, local_environment, preloads
from ddfa_batch.schemas.errors import ClusterError
from ddfa_batch.tasks.files.in_flight import forgive

_log = logging.getLogger(__name__)

#: What a local worker does first: Ctrl-C, which the terminal sends to all, is for the command, which ends its workers.
_DEAF_TO_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
#: Where a local cluster's web servers listen, its dashboard, if somebody asked to be told of it, among them: on this
#: machine alone, at any port. Without an address Dask takes port 8787, and complains where that is taken.
_HERE = "127.0.0.1:0"
#: Where Dask notes that it told a fork server what to import.
_HAS_PRELOADED = "_forkserver_preload_set"
#: How long a loop that is stopped is waited for, and between two looks at it.
_STOP_SECONDS, _LOOK_SECONDS = 1.0, 0.01


def usable_cores() -> int:
    """Cores this process may use, as its affinity mask says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def local_cluster(n_workers: int | None) -> Iterator[Any]:
    """A client of so many workers on this machine; None for one on each core.

    Raises `ClusterError` where they do not start.
    """
    worker_template.start(TEMPLATE_ENVIRONMENT)
    _spare_dask_another_template()
    import dask.config
    from distributed import Client

    settings = {
        "distributed.worker.multiprocessing-method": worker_template.method(),
        "distributed.nanny.pre-spawn-environ": local_environment(),
        "distributed.worker.preload": [*preloads(), _DEAF_TO_CTRL_C],
        "distributed.admin.tick.interval": "1s",
        "distributed.deploy.lost-worker-timeout": LOST_WORKER,
        "distributed.worker.profile.enabled": False,  # a thread that wakes every 10 ms and wants the GIL
    }
    begun: list[Any] = []
    nannies: list[Any] = []
    with dask.config.set(settings):
        try:
            with _started(begun, nannies, n_workers or usable_cores()) as local, contextlib.ExitStack() as closing:
                try:
                    yield closing.enter_context(_noted(Client, begun)(local))
                except KeyboardInterrupt:
                    _end_workers(local)
                    raise
        except KeyboardInterrupt:
            if begun:
                _give_up(nannies, *begun)
            raise


def _spare_dask_another_template() -> None:
    """Keep Dask from importing what it would have a template of its own hold, pandas too: a third of a second."""
    from distributed import utils

    if worker_template.method() == worker_template.FORKED and hasattr(utils, _HAS_PRELOADED):
        setattr(utils, _HAS_PRELOADED, True)


def _started(begun: list[Any], nannies: list[Any], n_workers: int) -> Any:
    """Dask's local cluster, noted in `begun` before its workers are there; their nannies are noted, too.

    Where a worker dies while it starts, Dask gives all of them up: they are started once more.
    """
    try:
        return _begin(begun, nannies, n_workers)
    except RuntimeError:
        begun.clear()
        nannies.clear()
    try:
        return _begin(begun, nannies, n_workers)
    except RuntimeError as fault:
        raise ClusterError(f"The local workers did not start ({fault}); run the same command again.") from None


def _begin(begun: list[Any], nannies: list[Any], n_workers: int) -> Any:
    from distributed import LocalCluster, Nanny

    return _noted(LocalCluster, begun)(
        n_workers=n_workers,
        threads_per_worker=1,
        processes=True,
        worker_class=_noted(Nanny, nannies),
        env=dict(os.environ),  # the template's is as old as itself
        silence_logs=SILENT,
        dashboard_address=_HERE,
        worker_dashboard_address=_HERE,
        scheduler_kwargs={"dashboard": _log.isEnabledFor(logging.INFO)},
    )


def _noted(kind: Any, begun: list[Any]) -> Any:
    """A class of which every object is noted as soon as it begins to be made."""

    class Noted(kind):  # type: ignore[misc]
        def __init__(self, *what: Any, **how: Any) -> None:
            begun.append(self)
            super().__init__(*what, **how)

    Noted.__name__ = kind.__name__  # Dask tells of it by name
    return Noted


def _give_up(nannies: list[Any], local: Any, client: Any = None) -> None:
    """End a cluster whose start, or whose end, a signal cut short: Dask would wait for its workers, and complain.

    Its loop is stopped first, or it would start what is ended here again.
    """
    local.shutdown_on_close = False  # nothing more is done about it when the interpreter ends
    if client is not None:
        client.status = "closed"
    with contextlib.suppress(AttributeError, RuntimeError):  # it has no loop yet, or one that does not run yet
        _stop(local.loop)
    worker_template.end([pid for nanny in nannies if (pid := getattr(nanny, "pid", None))])


def _stop(loop: Any) -> None:
    """Stop a loop of Dask's, which says nothing of what it leaves undone."""
    loop.asyncio_loop.set_exception_handler(lambda *_: None)
    loop.add_callback(loop.stop)
    deadline = time.monotonic() + _STOP_SECONDS
    while loop.asyncio_loop.is_running() and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)


def _end_workers(local: Any) -> None:
    """End the workers of a local cluster at once: Dask waits four seconds for those that have an image in hand.

    No image is to blame for it. Their nannies are told before that none is to be started again.
    """
    for nanny in list(local.workers.values()):
        nanny.close_gracefully()
        if pid := nanny.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)  # nothing moves while its marks are removed
                forgive(pid)
                os.kill(pid, signal.SIGKILL)
