"""Pictures to pixels within limits of time and memory: what may hang or swell is decoded in a process of its own.

JPEG, PNG, BMP and still WebP are decoded here: their decoders take time and memory in proportion to the pixels, whose
number is checked first. A JPEG may repeat its scans without end, the decoders of AVIF, TIFF, GIF, JPEG 2000 and of
animations believe sizes that no header tells: these go to a child (`decoder_process`), which is ended where it goes
beyond.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from typing import Any

import numpy as np
import psutil

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.config import ItemLimits
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.schemas.picture_formats import DEFAULT_FORMATS
from ddfa_batch.tasks.files import images
from ddfa_batch.tasks.files.decoder_process import ANSWER, MARK, REQUEST
from ddfa_batch.tasks.files.format_signatures import allowed_format, format_of
from ddfa_batch.tasks.files.item_limits import limits_in_force

#: Scans of a JPEG above which it goes to the child; encoders make some ten.
_MAX_SCANS = 64
#: What begins a JPEG's scan; in its pixels these two bytes cannot stand together.
_SCAN = b"\xff\xda"
#: The flag in a WebP's extended header that tells an animation.
_WEBP_ANIMATION = 0x02
#: Seconds between two looks at the memory of a child at work.
_LOOK_SECONDS = 0.02
#: Seconds beyond the limit after which a child is killed that the kernel's timer did not end: it was stopped.
_GRACE_SECONDS = 1.0
#: The least that a child may take, whatever its parent has.
_LEAST_BYTES = 256 << 20
_START = "import sys; sys.path[:] = sys.argv[1:]; from ddfa_batch.tasks.files.decoder_process import serve; serve()"


def decode(data: bytes, max_pixels: int, formats: Collection[str] = DEFAULT_FORMATS) -> U8:
    """Pixels (H, W, 3) BGR uint8 of an encoded picture, as `images.decode`, within the limits in force.

    Raises `ImageError`, also of kind timed_out, out_of_memory or crashed where the child was ended or ended itself.
    """
    allowed_format(data, formats)
    if needs_child(data):
        return _in_child(data, max_pixels, limits_in_force())
    return images.decode(data, max_pixels, formats)


def needs_child(data: bytes) -> bool:
    """Whether a picture, by its first bytes, is of a kind that is decoded in a process of its own."""
    form = format_of(data)
    if form is None or form.name in ("png", "bmp"):
        return False
    if form.name == "webp":
        return data[12:16] == b"VP8X" and bool(data[20:21]) and bool(data[20] & _WEBP_ANIMATION)
    return form.name != "jpeg" or data.count(_SCAN) > _MAX_SCANS


# ------------------------------------------------------------------------------------------------ the children

_idle: list[_Child] = []
_changing = threading.Lock()


class _Child:
    """A process that decodes."""

    def __init__(self) -> None:
        path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109
        command, pipe = [sys.executable, "-c", _START, *path], subprocess.PIPE
        started: Any = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0)
        self.process = started
        self.fresh = True
        os.set_blocking(started.stdin.fileno(), False)  # a child that is stopped reads nothing

    def ask(self, data: bytes, max_pixels: int, limits: ItemLimits) -> U8:
        """What the child makes of a picture; raises `ImageError`, and `_DiedError` where the child ended itself."""
        end = time.monotonic() + limits.seconds + _GRACE_SECONDS
        try:
            for part in (REQUEST.pack(len(data), max_pixels, limits.seconds), data):
                self._send(part, limits, end)
        except BrokenPipeError:
            raise _DiedError from None
        self._await(self.process.stdout, selectors.EVENT_READ, limits, end)
        height, width, size = ANSWER.unpack(self._received(ANSWER.size))
        answer = self._received(size)
        self.fresh = False
        if not height:
            raise ImageError(*answer.decode("utf-8").split(MARK, maxsplit=1))
        return np.frombuffer(answer, np.uint8).reshape(height, width, 3)

    def _send(self, part: bytes, limits: ItemLimits, end: float) -> None:
        left = memoryview(part)
        while left:
            self._await(self.process.stdin, selectors.EVENT_WRITE, limits, end)
            left = left[self.process.stdin.write(left) or 0 :]

    def _await(self, pipe: Any, event: int, limits: ItemLimits, end: float) -> None:
        """Wait until the child reads, answers or ends; raises `ImageError` where it is over a limit."""
        allowed = max(limits.memory_bytes - psutil.Process().memory_info().rss, _LEAST_BYTES)
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)
            while not selector.select(_LOOK_SECONDS):
                if time.monotonic() > end:
                    raise _too_slow(limits)
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

    def end(self) -> int:
        """End the child, whatever it does; how it ended, as `subprocess` has it."""
        if self.process.poll() is None:
            self.process.kill()
        code: int = self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        return code


class _DiedError(Exception):
    """A child ended itself."""


def _in_child(data: bytes, max_pixels: int, limits: ItemLimits) -> U8:
    with _changing:
        child = _idle.pop() if _idle else None
    child = child or _Child()
    whole = False
    try:
        pixels = child.ask(data, max_pixels, limits)
    except ImageError as fault:
        whole = fault.kind not in ("timed_out", "out_of_memory")
        raise
    except _DiedError:
        code, fresh = child.end(), child.fresh
        if code == -signal.SIGALRM:
            raise _too_slow(limits) from None
        if fresh:
            raise _fallen(code) from None
        # What an earlier picture did to it may have killed it.
    else:
        whole = True
        return pixels
    finally:
        if whole:
            with _changing:
                _idle.append(child)
        else:
            child.end()
    end_children()
    return _in_child(data, max_pixels, limits)


def _too_slow(limits: ItemLimits) -> ImageError:
    return ImageError("timed_out", f"The decoder was not done after {limits.seconds:g} s (--item-timeout).")


def _fallen(code: int) -> ImageError:
    if code == -signal.SIGKILL:
        return ImageError("out_of_memory", "The decoder was killed, as the system does where memory runs out.")
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return ImageError("crashed", f"The decoder's process died of this picture ({how}).")


def end_children() -> None:
    """End the processes that wait for pictures to decode; the next picture that needs one starts it."""
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
