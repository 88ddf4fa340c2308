"""Ends a worker whose item takes too long or too much memory, whatever hangs or swells: a small process beside it.

The worker writes on a board in shared memory which items its threads hold; `watchdog_process` looks at it.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ddfa_batch.schemas.config import ItemLimits
from ddfa_batch.tasks.files import watchdog_process
from ddfa_batch.tasks.files.watchdog_process import SLOT, SLOTS

#: Seconds more than its own limit that a worker has for an item whose decoder is ended by then without the worker.
_GRACE_SECONDS = 2.0
_changing = threading.Lock()
_taken: set[int] = set()
_items = itertools.count(1)


class _Watchdog:
    """The board, and the process that looks at it."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            file.truncate(SLOT.size * SLOTS)
            self.board = mmap.mmap(file.fileno(), SLOT.size * SLOTS)
            command = [sys.executable, "-I", "-S", watchdog_process.__file__, str(os.getpid()), str(file.fileno())]
            self.process: Any = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[file.fileno()],
            )


_watchdog: _Watchdog | None = None


def _started() -> _Watchdog:
    """This process's watchdog; it ends with the process."""
    global _watchdog  # noqa: PLW0603 - one a process
    if _watchdog is None or _watchdog.process.poll() is not None:
        _watchdog = _Watchdog()
    return _watchdog


@contextlib.contextmanager
def watched(mark: Path, limits: ItemLimits) -> Iterator[Callable[[bool], None]]:
    """Give a function to call with True where an item is taken up and False between items, `mark` being in hand.

    While an item is held longer than the limits allow, or the process has more memory, it is killed, and why is added
    to the mark.
    """
    with _changing:
        board = _started().board
        free = next((place for place in range(SLOTS) if place not in _taken), None)
        if free is None:
            raise RuntimeError(f"a worker has at most {SLOTS} threads")
        _taken.add(free)
    raw = os.fsencode(mark)

    def hold(held: bool) -> None:
        item = next(_items) if held else 0
        seconds = limits.seconds + _GRACE_SECONDS
        SLOT.pack_into(board, free * SLOT.size, item, seconds, limits.memory_bytes, len(raw), raw)

    hold(False)
    try:
        yield hold
    finally:
        hold(False)
        with _changing:
            _taken.discard(free)
