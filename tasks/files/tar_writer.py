"""Tar archives written member by member; equal members are equal bytes."""

from __future__ import annotations

import tarfile
from typing import BinaryIO


class TarWriter:
    """Writes members into an open file; `tarfile` cannot take back what it has written, this can."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._kept = file, 0

    def member(self, name: str, data: bytes) -> None:
        """Add a member; time, user and mode are constants."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._file.write(info.tobuf(tarfile.USTAR_FORMAT))
        self._file.write(data)
        self._fill(-len(data) % tarfile.BLOCKSIZE)

    def keep(self) -> None:
        """What is written so far stays."""
        self._kept = self._file.tell()

    def discard(self) -> None:
        """Take back what was written since `keep`."""
        self._file.seek(self._kept)
        self._file.truncate()

    def close(self) -> None:
        """End the archive after what is kept, with two empty blocks, filled up to a whole record."""
        self.discard()
        self._fill(2 * tarfile.BLOCKSIZE)
        self._fill(-self._file.tell() % tarfile.RECORDSIZE)

    def _fill(self, n: int) -> None:
        self._file.write(bytes(n))
