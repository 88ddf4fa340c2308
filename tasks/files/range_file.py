"""A file of a store as Arrow and HDF5 read it: parts of it, each with bounded attempts and a time limit."""

from __future__ import annotations

import io
from collections.abc import Callable

#: Files of no more bytes are fetched whole; of larger ones so many at once.
_WHOLE, _BLOCK = 4 << 20, 1 << 19


class _Ranges(io.RawIOBase):
    """A file of `size` bytes, of which `fetch` gives those from one place to another."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size, self._fetch, self._place = size, fetch, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence] + offset
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # whose stub has a wider type
        end = min(self._place + len(buffer), self._size)
        if end <= self._place:
            return 0
        data = self._fetch(self._place, end)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def range_file(size: int, fetch: Callable[[int, int], bytes]) -> io.BytesIO | io.BufferedReader:
    """A file of `size` bytes to read and seek in; `fetch` gives those from one place to another."""
    if size <= _WHOLE:
        return io.BytesIO(fetch(0, size) if size else b"")
    return io.BufferedReader(_Ranges(size, fetch), _BLOCK)
