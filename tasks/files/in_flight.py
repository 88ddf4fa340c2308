"""Crash accounting: which image a worker has in hand, so that one which kills its process can be told."""

from __future__ import annotations

import contextlib
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

_RECORD = struct.Struct("<q")
#: What the watchdog adds to a record, once or, where the process is long in dying, again; and what `error_kind` it is.
_CAUSES = {TIMED_OUT: "timed_out", OUT_OF_MEMORY: "out_of_memory"}


class InFlight:
    """A mark on disk of the image that an attempt at a shard has in hand.

    One file of 8 bytes per attempt, so that no two write to the same one: the image in hand, or −1 between images.
    An attempt that dies leaves its file behind; `deaths` counts them per image. Where the process may be ended for an
    item (`item_limits`), the watchdog does so when the item is over its limits, and adds the cause to the mark.
    """

    def __init__(self, out: Path, shard: int) -> None:
        (out / SHARDS).mkdir(parents=True, exist_ok=True)
        found = [_in_hand(path) for path in _marks(out, shard)]
        self._deaths = Counter(image for image, _ in found if image >= 0)
        self._causes = {image: cause for image, cause in found if cause is not None}
        path = out / SHARDS / f".{shard_name(shard)}.{uuid.uuid4().hex}.inflight"
        self._path, self._descriptor = path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self._watched = contextlib.ExitStack()
        self._hold: Callable[[bool], None] = lambda held: None

    def __enter__(self) -> InFlight:
        if may_end_process():
            self._hold = self._watched.enter_context(watched(self._path, limits_in_force()))
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no mark: an exception, even Ctrl-C, is no death of the process."""
        self._watched.close()
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)

    def deaths(self, image_id: int) -> int:
        """How many attempts died while they held this image."""
        return self._deaths[image_id]

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
        return sum(_in_hand(path)[0] >= 0 for path in _marks(out, shard))

    @staticmethod
    def forget(out: Path, shard: int) -> None:
        """Remove the marks of a finished shard."""
        for path in _marks(out, shard):
            path.unlink(missing_ok=True)


def _marks(out: Path, shard: int) -> Iterator[Path]:
    return (out / SHARDS).glob(f".{shard_name(shard)}.*.inflight")


def _in_hand(path: Path) -> tuple[int, str | None]:
    """The image of a mark, and why the watchdog ended its attempt; −1 for a mark that ends early or is gone by now."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return -1, None
    if len(data) < _RECORD.size:
        return -1, None
    return int(_RECORD.unpack_from(data)[0]), _CAUSES.get(data[_RECORD.size : _RECORD.size + 1])
