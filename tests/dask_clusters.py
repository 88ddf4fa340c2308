"""Dask clusters as a site starts them: a scheduler and workers, processes of their own, found by a scheduler file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_SECONDS = 60


@dataclass(frozen=True)
class Cluster:
    """A cluster that is running."""

    file: Path
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


def local_workers(command: int | None = None) -> list[psutil.Process]:
    """The workers of a local cluster that a command, or this process, has started: what is forked from its template."""
    return [process for template in templates(command) for process in template.children()]


def templates(command: int | None = None) -> list[psutil.Process]:
    """What the workers of a command, or of this process, are forked from."""
    below = psutil.Process(command).children(recursive=True)
    servers = {process.pid: process for process in below if _serves_forks(process)}
    return [process for process in servers.values() if process.ppid() not in servers]


def _serves_forks(process: psutil.Process) -> bool:
    try:
        return "forkserver" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # or one that has ended and waits for that to be heard of
        return False


def dask(*words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dask", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def stop(*running: subprocess.Popen[bytes]) -> None:
    for each in running:
        if each.poll() is None:
            os.killpg(each.pid, signal.SIGKILL)
        each.wait()


def worker(file: Path, n_threads: int) -> subprocess.Popen[bytes]:
    words = ["--nthreads", str(n_threads), "--host", "127.0.0.1", "--no-dashboard"]
    return dask("worker", "--scheduler-file", str(file), *words, "--local-directory", str(file.parent))


@contextlib.contextmanager
def cluster(folder: Path, n_workers: int, n_threads: int = 1) -> Iterator[Cluster]:
    """A scheduler and workers on loopback."""
    file = folder / "scheduler.json"
    words = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0"]
    scheduler = dask("scheduler", "--scheduler-file", str(file), *words)
    workers = [worker(file, n_threads) for _ in range(n_workers)]
    try:
        deadline = time.monotonic() + _SECONDS
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield Cluster(file, scheduler, workers)
    finally:
        stop(*workers, scheduler)
