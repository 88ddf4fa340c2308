"""The bytes of archives and tables, of this machine or behind a URL: opened for indexing, read by ranges."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ddfa_batch.schemas.config import MAX_FILE_BYTES
from ddfa_batch.schemas.errors import DdfaError, ImageError, InputError
from ddfa_batch.tasks.files.remote_calls import filesystem, is_url
from ddfa_batch.tasks.files.remote_files import read_url_range

#: Bytes of a remote archive that are fetched at once while its members are found.
_REMOTE_BLOCK = 1 << 18


@contextlib.contextmanager
def open_container(where: str) -> Iterator[BinaryIO]:
    """A file to read and seek in; raises `InputError` where it cannot be opened, or read meanwhile."""
    try:
        with _opened(where) as file:
            yield file
    except DdfaError:
        raise
    except Exception as fault:  # of a class that only the package of the file system knows
        reason = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
        raise InputError(f"{where} cannot be read ({reason.splitlines()[0][:200]}).") from None


def _opened(where: str) -> BinaryIO:
    if not is_url(where):
        return Path(where).open("rb")
    fs, path = filesystem(where)
    remote: BinaryIO = fs.open(path, "rb", block_size=_REMOTE_BLOCK)
    return remote


def read_range(container: bytes, offset: int, size: int) -> bytes:
    """`size` bytes of a container from `offset` on.

    Raises `ImageError`: missing or unreadable for the container, too_large and truncated for what is asked.
    """
    if size > MAX_FILE_BYTES:
        raise ImageError("too_large", f"The archive announces {size:,} bytes; at most {MAX_FILE_BYTES:,} are read.")
    where = os.fsdecode(container)
    data = read_url_range(where, offset, size) if is_url(where) else _local_range(container, offset, size)
    if len(data) < size:
        raise ImageError("truncated", f"The archive ends before the picture does ({len(data):,} of {size:,} bytes).")
    return data


def _local_range(container: bytes, offset: int, size: int) -> bytes:
    try:
        descriptor = os.open(container, os.O_RDONLY | os.O_NONBLOCK)  # what became a pipe must not block
        try:
            there = os.fstat(descriptor).st_size - offset
            return os.pread(descriptor, max(0, min(size, there)), offset)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise ImageError("missing", f"There is no {os.fsdecode(container)} any more.") from None
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise ImageError("unreadable", f"{os.fsdecode(container)} cannot be read: {reason}.") from None
