"""Crash accounting: which image a worker has in hand, so that one which kills its process can be told."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import struct
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ddfa_batch.tasks.files.item_limits import limits_in_force, may_end_process
from ddfa_batch.tasks.files.store import SHARDS, shard_name
from ddfa_batch.tasks.files.watchdog import watched
from ddfa_batch.tasks.files.watchdog_process import OUT_OF_MEMORY, TIMED_OUT

#: Attempts that may die on an image before it is given up: those that crashed or lost a worker; and those whose
#: process, the command itself, ended without a word, as it does where somebody kills it or the power fails.
DEATHS, WORDLESS_DEATHS = 2, 6
_RECORD = struct.Struct("<q")
_NONE = -1
#: What the marks of a command's own process are called, and what Python's fault handler adds to one, first of all.
_OWN, _CRASHED = ".own.inflight", b"F"
#: What the watchdog adds to a record, once or, where the process is long in dying, again; and what `error_kind` it is.
_CAUSES = {TIMED_OUT: "timed_out", OUT_OF_MEMORY: "out_of_memory"}


class InFlight:
    """A mark on disk of the image that an attempt at a shard has in hand.

    One file of 8 bytes per attempt, so that no two write to the same one: the image in hand, or −1 between images.
    An attempt that dies leaves its file behind; `deaths` counts them per image. Where the process may be ended for an
    item (`item_limits`), the watchdog does so when the item is over its limits, and adds the cause to the mark. Where
    it may not, the process is the command itself, which people kill: there the fault handler adds to the mark that the
    process crashed (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT), and a death without it is hardly the image's fault.
    """

    def __init__(self, out: Path, shard: int) -> None:
        (out / SHARDS).mkdir(parents=True, exist_ok=True)
        found = [_in_hand(path) for path in _marks(out, shard)]
        self._deaths = Counter(image for image, _, _ in found if image != _NONE)
        self._wordless = Counter(image for image, _, wordless in found if image != _NONE and wordless)
        self._causes = {image: cause for image, cause, _ in found if cause is not None}
        self._own = not may_end_process()
        path = out / SHARDS / f".{shard_name(shard)}.{uuid.uuid4().hex}{_OWN if self._own else '.inflight'}"
        self._path, self._descriptor = path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self._watched = contextlib.ExitStack()
        self._hold: Callable[[bool], None] = lambda held: None

    def __enter__(self) -> InFlight:
        if not self._own:
            self._hold = self._watched.enter_context(watched(self._path, limits_in_force()))
        elif not faulthandler.is_enabled():
            os.pwrite(self._descriptor, _RECORD.pack(_NONE), 0)
            os.lseek(self._descriptor, _RECORD.size, os.SEEK_SET)
            faulthandler.enable(self._descriptor, all_threads=False)
            self._watched.callback(faulthandler.disable)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no mark: an exception, even Ctrl-C, is no death of the process."""
        self._watched.close()
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)

    def deaths(self, image_id: int) -> int:
        """How many attempts died while they held this image."""
        return self._deaths[image_id]

    def gives_up(self, image_id: int) -> bool:
        """Whether so many attempts died while they held this image that it is not tried again."""
        wordless = self._wordless[image_id]
        return self._deaths[image_id] - wordless >= DEATHS or wordless >= WORDLESS_DEATHS

    def cause(self, image_id: int) -> str | None:
        """Why the watchdog ended an attempt that held this image, as an `error_kind`; None where it did not."""
        return self._causes.get(image_id)

    def hold(self, image_id: int) -> None:
        """Note the image now in hand."""
        os.pwrite(self._descriptor, _RECORD.pack(image_id), 0)
        self._hold(True)

    def release(self) -> None:
        """Note that the image in hand is done."""
        self._hold(False)

    @staticmethod
    def n_deaths(out: Path, shard: int) -> int:
        """How many attempts at a shard died while they held an image."""
        return sum(_in_hand(path)[0] != _NONE for path in _marks(out, shard))

    @staticmethod
    def forget(out: Path, shard: int) -> None:
        """Remove the marks of a finished shard."""
        for path in _marks(out, shard):
            path.unlink(missing_ok=True)


def forgive(pid: int) -> None:
    """Remove the marks of a process that is ended for no image's sake, where the system tells of them (Linux)."""
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if (held := Path(os.readlink(descriptor))).suffix == ".inflight":  # noqa: PTH115
                    held.unlink()


def _marks(out: Path, shard: int) -> Iterator[Path]:
    return (out / SHARDS).glob(f".{shard_name(shard)}.*.inflight")


def _in_hand(path: Path) -> tuple[int, str | None, bool]:
    """The image of a mark, why the watchdog ended its attempt, and whether the command itself ended without a word.

    The image is −1 for a mark that ends early or is gone by now.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return _NONE, None, False
    if len(data) < _RECORD.size:
        return _NONE, None, False
    added = data[_RECORD.size : _RECORD.size + 1]
    return int(_RECORD.unpack_from(data)[0]), _CAUSES.get(added), path.name.endswith(_OWN) and added != _CRASHED
