"""Tar archives, WebDatasets among them: members are found once and then read by offset; nothing is unpacked."""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from ddfa_batch.schemas.errors import ImageError, InputError
from ddfa_batch.tasks.files.containers import open_container, read_range

#: Bytes of one header that are read; what announces more is damaged or means harm.
_HEADER_BYTES = 1 << 22
#: How compressed files begin.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
#: What `tarfile` raises for headers that are damaged.
_FAULTS = (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError)
#: What stands for the members after a place where the archive is damaged.
DAMAGED = b"(damaged)"


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    #: Its name there, in bytes; it is never used as a path.
    name: bytes
    #: Where it is, as `Place.numbers`.
    numbers: tuple[int, ...]


def tar_members(where: str) -> Iterator[Member]:
    """The regular files of a tar, in its order.

    Where the archive is damaged or cut off the last one is called `DAMAGED` and tells the offset alone.
    Raises `InputError` for a file that is no tar, or a compressed one, in which no member can be found by offset.
    """
    with open_container(where) as file:
        _refuse_compressed(where, file.read(8))
        file.seek(0)
        yield from _walk(where, file)


def _walk(where: str, file: BinaryIO) -> Iterator[Member]:
    bounded: Any = _BoundedReads(file)
    try:
        archive = tarfile.open(fileobj=bounded, mode="r:")  # noqa: SIM115 - `file` is closed by who opened it
    except _FAULTS as fault:
        raise InputError(f"{where} is no readable tar ({fault}); leave it out, or repair it.") from None
    last = -1
    while (found := _next(archive)) is not None and found.size >= 0 and archive.offset > last:
        last = archive.offset
        if found.isreg() and not found.issparse():
            yield Member(os.fsencode(found.name.removeprefix("./")), (found.offset_data, found.size))
    if found is not None or not _ends_at(file, archive.offset):
        yield Member(DAMAGED, (archive.offset,))


def _next(archive: Any) -> tarfile.TarInfo | None:
    """The next member; None where no header follows."""
    found: tarfile.TarInfo | None = None
    with contextlib.suppress(*_FAULTS):
        found = archive.next()
    archive.members.clear()  # it would keep them all
    return found


def _ends_at(file: BinaryIO, offset: int) -> bool:
    """Whether an archive ends where no further header was found: with the file, or an empty block."""
    if offset > file.seek(0, os.SEEK_END):
        return False
    file.seek(offset)
    return not file.read(tarfile.BLOCKSIZE).strip(b"\0")


def _refuse_compressed(where: str, head: bytes) -> None:
    for start, method in _COMPRESSED.items():
        if head.startswith(start):
            raise InputError(
                f"{where} is a compressed tar ({method}), whose members cannot be read one by one; decompress it first."
            )


class _BoundedReads:
    """A file whose reads have a bound: `tarfile` reads as much as a header says."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_BYTES:
            raise tarfile.ReadError(f"a header announces {size:,} bytes")
        return self._file.read(size)


def read_tar_member(container: bytes, numbers: tuple[int, ...]) -> bytes:
    """The bytes of a member; raises `ImageError`."""
    if len(numbers) == 1:
        raise ImageError(
            "truncated", f"The archive is damaged from byte {numbers[0]:,} on: what follows cannot be found."
        )
    return read_range(container, *numbers)
