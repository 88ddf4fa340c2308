"""Which processes are the workers of a local cluster."""

from __future__ import annotations

from contextlib import suppress

import psutil


def local_workers(command: psutil.Process) -> list[psutil.Process]:
    """The workers that a command has started: what is forked from its template, which bears the same words."""
    with suppress(psutil.Error):
        below = command.children(recursive=True)
        templates = {process.pid for process in below if "forkserver" in _words(process)}
        return [process for process in below if _parent(process) in templates]
    return []


def _words(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _parent(process: psutil.Process) -> int | None:
    with suppress(psutil.Error):
        return process.ppid()
    return None
