"""Crash accounting: which image a worker has in hand, so that one which kills its process can be told."""

from __future__ import annotations

import os
import struct
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ddfa_batch.tasks.files.store import SHARDS, shard_name

_RECORD = struct.Struct("<q")


class InFlight:
    """A mark on disk of the image that an attempt at a shard has in hand.

    One file of 8 bytes per attempt, so that no two write to the same one: the image in hand, or −1 between images.
    An attempt that dies leaves its file behind; `deaths` counts them per image.
    """

    def __init__(self, out: Path, shard: int) -> None:
        (out / SHARDS).mkdir(parents=True, exist_ok=True)
        self._deaths = Counter(image for path in _marks(out, shard) if (image := _in_hand(path)) >= 0)
        path = out / SHARDS / f".{shard_name(shard)}.{uuid.uuid4().hex}.inflight"
        self._path, self._descriptor = path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)

    def __enter__(self) -> InFlight:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no mark: an exception, even Ctrl-C, is no death of the process."""
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)

    def deaths(self, image_id: int) -> int:
        """How many attempts died while they held this image."""
        return self._deaths[image_id]

    def hold(self, image_id: int) -> None:
        """Note the image now in hand; −1 for none."""
        os.pwrite(self._descriptor, _RECORD.pack(image_id), 0)

    @staticmethod
    def forget(out: Path, shard: int) -> None:
        """Remove the marks of a finished shard."""
        for path in _marks(out, shard):
            path.unlink(missing_ok=True)


def _marks(out: Path, shard: int) -> Iterator[Path]:
    return (out / SHARDS).glob(f".{shard_name(shard)}.*.inflight")


def _in_hand(path: Path) -> int:
    """The image of a mark; −1 for none, and for a mark that ends early or is gone by now."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return -1
    return int(_RECORD.unpack(data)[0]) if len(data) == _RECORD.size else -1
