"""Processes that decode for this one (`decoder_process`), each ended where it is over the limits in force."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil

from ddfa_batch.schemas.config import ItemLimits
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.files.decoder_process import ANSWER, MARK, REQUEST
from ddfa_batch.tasks.files.item_limits import limits_in_force

#: Seconds between two looks at the memory of a child at work.
_LOOK_SECONDS = 0.02
#: Seconds beyond the limit after which a child is killed that the kernel's timer did not end: it was stopped.
_GRACE_SECONDS = 1.0
#: Bytes of the pipe that pixels come through: with the usual 64 KiB a frame of 1080p takes twice as long.
_PIPE_BYTES = 1 << 20
#: The least that a child may take, whatever its parent has.
_LEAST_BYTES = 256 << 20
_START = "import sys; sys.path[:] = sys.argv[1:]; from ddfa_batch.tasks.files.decoder_process import serve; serve()"


class WornError(Exception):
    """A child ended itself that had done something before, which may have damaged it: a fresh one may do it."""


class _DiedError(Exception):
    """A child ended itself."""


class Child:
    """A process that decodes."""

    def __init__(self) -> None:
        path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109
        command, pipe = [sys.executable, "-c", _START, *path], subprocess.PIPE
        started: Any = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0)
        self.process = started
        self.fresh = True
        self.limits = ItemLimits()
        self._end = 0.0
        os.set_blocking(started.stdin.fileno(), False)  # a child that is stopped reads nothing
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):  # the system may allow no more than it gave
                fcntl.fcntl(started.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def request(self, what: int, data: bytes, max_pixels: int) -> None:
        """Ask for `what` of `data`; raises `ImageError` where the child takes too long to listen."""
        self._begin()
        try:
            for part in (REQUEST.pack(what, len(data), max_pixels, self.limits.seconds), data):
                self._send(part)
        except BrokenPipeError:
            raise _DiedError from None

    def answer(self, most_bytes: int, began: bool = False) -> tuple[int, int, bytearray]:
        """The next answer: height and width, both 0 for an error, and what it consists of.

        began: the time of the request counts for it. Raises `ImageError` where the child is over a limit.
        """
        if not began:
            self._begin()
        self._await(self.process.stdout, selectors.EVENT_READ)
        height, width, size = ANSWER.unpack(self._received(ANSWER.size))
        if size > most_bytes:  # a decoder that was taken over says what it likes
            raise _DiedError
        return height, width, self._received(size)

    def _begin(self) -> None:
        self.limits = limits_in_force()
        self._end = time.monotonic() + self.limits.seconds + _GRACE_SECONDS

    def _send(self, part: bytes) -> None:
        left = memoryview(part)
        while left:
            self._await(self.process.stdin, selectors.EVENT_WRITE)
            left = left[self.process.stdin.write(left) or 0 :]

    def _await(self, pipe: Any, event: int) -> None:
        """Wait until the child reads, answers or ends; raises `ImageError` where it is over a limit."""
        allowed = max(self.limits.memory_bytes - psutil.Process().memory_info().rss, _LEAST_BYTES)
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)
            while not selector.select(_LOOK_SECONDS):
                if time.monotonic() > self._end:
                    raise _too_slow(self.limits)
                with contextlib.suppress(psutil.Error):
                    if psutil.Process(self.process.pid).memory_info().rss > allowed:
                        raise ImageError(
                            "out_of_memory",
                            f"The decoder took more than {allowed >> 20:,} MiB of memory (--memory-limit).",
                        )

    def _received(self, size: int) -> bytearray:
        answer = bytearray(size)
        left = memoryview(answer)
        while left:
            if not (n := self.process.stdout.readinto(left)):
                raise _DiedError
            left = left[n:]
        return answer

    def end(self, patience: float = 0.0) -> int:
        """End the child, whatever it does; how it ended, as `subprocess` has it.

        patience: seconds it has to end by itself. Pipes are closed before a process is gone.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        if self.process.poll() is None:
            self.process.kill()
        code: int = self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        return code


def fault_of(answer: bytes | bytearray) -> ImageError:
    """The error that an answer tells."""
    kind, _, message = answer.decode("utf-8", "replace").partition(MARK)
    return ImageError(kind, message)


# -------------------------------------------------------------------------------------------- those that wait

_idle: list[Child] = []
_changing = threading.Lock()


@contextlib.contextmanager
def borrowed() -> Iterator[Child]:
    """A child for one request and all of its answers; one that is not asked to the end, or is over a limit, is ended.

    Raises `ImageError` of kind timed_out, out_of_memory or crashed where it ended itself, and `WornError`.
    """
    with _changing:
        child = _idle.pop() if _idle else None
    child = child or Child()
    try:
        yield child
    except _DiedError:
        code = child.end(_GRACE_SECONDS)
        if code == -signal.SIGALRM:
            raise _too_slow(child.limits) from None
        if child.fresh:
            raise _fallen(code) from None
        end_children()
        raise WornError from None
    except BaseException:
        child.end()
        raise
    child.fresh = False
    with _changing:
        _idle.append(child)


def _too_slow(limits: ItemLimits) -> ImageError:
    return ImageError("timed_out", f"The decoder was not done after {limits.seconds:g} s (--item-timeout).")


def _fallen(code: int) -> ImageError:
    if code == -signal.SIGKILL:
        return ImageError("out_of_memory", "The decoder was killed, as the system does where memory runs out.")
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return ImageError("crashed", f"The decoder's process died of it ({how}).")


def end_children() -> None:
    """End the processes that wait for something to decode; what next needs one starts it."""
    while True:
        with _changing:
            child = _idle.pop() if _idle else None
        if child is None:
            return
        child.end()


def _forget() -> None:
    """In a forked child the processes are its parent's."""
    _idle.clear()


os.register_at_fork(after_in_child=_forget)
atexit.register(end_children)
