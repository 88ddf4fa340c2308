"""Commands as they are disturbed: in a process group of their own, forked from one that has all loaded, or new."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ddfa_batch import cli

#: Seconds after which a command counts as hung; those of clusters start processes, which takes its time.
SECONDS, CLUSTER_SECONDS = 60.0, 150.0
#: A new command, where Ctrl-C counts though it be ignored here, as it is in jobs that run in the background.
_NEW = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ddfa_batch.cli import main; main()"
)


class HungError(Exception):
    """A command did not end in its time."""


@dataclass
class Started:
    """A command that was started."""

    #: Its process, the first of a group.
    pid: int
    #: Where what it says goes.
    told: Path
    #: Its exit code, negative for a signal; None as long as it runs.
    code: int | None = None

    def ended(self) -> bool:
        """Whether it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def wait(self, seconds: float = SECONDS) -> int:
        """Its exit code, when it has ended; raises `HungError` after so many seconds, and ends it."""
        end = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > end:
                self.end_all()
                raise HungError(f"not done after {seconds:g} s; {self.words()[-300:]}")
            time.sleep(0.005)
        assert self.code is not None
        return self.code

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if not self.ended():
            os.kill(self.pid, number)

    def end_all(self) -> None:
        """End it and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self.code is None:
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)

    def words(self) -> str:
        """What it said so far."""
        return self.told.read_text("utf-8", "replace")


def forked(words: list[str], told: Path, limits: dict[int, int] | None = None) -> Started:
    """Start a command in a fork of this process, under limits of the system's (`resource.RLIMIT_…`)."""
    return forked_call(lambda: _main(words), told, limits)


def forked_call(work: Callable[[], None], told: Path, limits: dict[int, int] | None = None) -> Started:
    """Do something in a fork of this process."""
    pid = os.fork()
    if pid:
        return Started(pid, told)
    code = 70
    try:
        os.setsid()
        _redirected(told)
        for limit, value in (limits or {}).items():
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
        work()
        code = 0
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main(words: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["ddfa-batch", *words]
    cli.main()


def _redirected(told: Path) -> None:
    nothing, file = os.open(os.devnull, os.O_RDONLY), os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, target in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(descriptor, target)


def new(words: list[str], told: Path, environment: dict[str, str] | None = None) -> Started:
    """Start a command in a new process."""
    with told.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", _NEW, *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    process.returncode = 0  # it is waited for here, by its pid
    return Started(process.pid, told)
