"""The process that local workers are forked from: everything imported, nothing done, no session opened.

A worker that is started anew imports for a second what this process has imported once; forked from it, it is there in
some ten milliseconds. The template is started as soon as it is known that workers will be wanted: where that is plain
from the words of a command, before that imports anything large itself, for both take about a second. It is Python's
fork server, of which a process has one; where the system has none (Windows) workers start as they always did.

Libraries start two threads as they are imported, jemalloc's, which is started anew after a fork, and one of
onnxruntime, which waits and holds nothing; a worker does without it, but must not wait for it at its end. It does not:
what the fork server forks ends by `os._exit`, without the libraries' own clearing up.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Collection, Iterator, Mapping

#: The process id of the fork server, if `start` started it.
_own: int | None = None
#: How workers come to be: Dask's name of it.
FORKED, SPAWNED = "forkserver", "spawn"
#: What the template imports: what a worker is, and what it does.
_IMPORTED = ("distributed.nanny", "ddfa_batch.pipeline.process")
#: Bytes that the path of a socket may have (of Linux's 108 and macOS's 104, less its end), and those of what the fork
#: server calls its own below the temporary folder: /pymp-xxxxxxxx/listener-xxxxxxxx.
_SOCKET_PATH, _BELOW = 103, 32


def method() -> str:
    """How workers come to be on this system, and with this temporary folder."""
    path = len(os.fsencode(tempfile.gettempdir())) + _BELOW
    return FORKED if FORKED in multiprocessing.get_all_start_methods() and path <= _SOCKET_PATH else SPAWNED


def start(environment: Mapping[str, str]) -> None:
    """Start the template, unless it runs; what is forked from it has `environment` besides this process's own.

    Environment variables that a C library reads when its process starts have to be those of the template. It and its
    workers inherit that Ctrl-C, which a terminal sends to all, does not count: that is for the command.
    """
    if method() != FORKED:
        return
    from multiprocessing import forkserver, resource_tracker

    global _own  # noqa: PLW0603 - the fork server is the process's, and so is whose it is
    running = _running()
    resource_tracker.ensure_running()  # the template would start it, which lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        with _environment(environment):
            multiprocessing.set_forkserver_preload(list(_IMPORTED))
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if _running() != running:
        _own = _running()
    atexit.unregister(_end)
    atexit.register(_end)


def _end() -> None:
    """End the template with this process: one that still imports would hold the command's output open so long."""
    if _own is not None and _own == _running():
        with contextlib.suppress(ProcessLookupError):
            os.kill(_own, signal.SIGTERM)


def end(workers: Collection[int]) -> None:
    """End these workers, by their process ids, and what else was forked from the template, and the template itself.

    Only the workers, where it is not `start` that started the fork server, or where whoever uses it besides has a
    process of it.
    """
    import psutil

    others = {child.pid for child in multiprocessing.active_children()}.difference(workers)
    for pid in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    if _own is None or _own != _running():
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        template = psutil.Process(_own)
        forked = template.children()
        if not any(process.pid in others for process in forked):
            for process in (*forked, template):
                process.kill()


def _running() -> int | None:
    """The process id of this process's fork server; None where there is none, or Python does not say."""
    from multiprocessing import forkserver

    pid: int | None = getattr(forkserver._forkserver, "_forkserver_pid", None)
    return pid


@contextlib.contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
