"""The process that local workers are forked from: everything imported, nothing done, no session opened.

A worker that is started anew imports for a second what this process has imported once; forked from it, it is there in
some ten milliseconds. The template is started as soon as it is known that workers will be wanted, and imports on
another core while the command still lists and plans. It is Python's fork server, of which a process has one; where the
system has none (Windows) workers start as they always did.

Libraries start two threads as they are imported, jemalloc's, which is started anew after a fork, and one of
onnxruntime, which waits and holds nothing; a worker does without it, but must not wait for it at its end. It does not:
what the fork server forks ends by `os._exit`, without the libraries' own clearing up.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Mapping

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

    Environment variables that a C library reads when its process starts have to be those of the template.
    """
    if method() != FORKED:
        return
    from multiprocessing import forkserver

    with _environment(environment):
        multiprocessing.set_forkserver_preload(list(_IMPORTED))
        forkserver.ensure_running()


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
