"""Inputs behind URLs, read through fsspec: listed at planning, then each with bounded attempts and a time limit."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ddfa_batch.schemas.config import MAX_FILE_BYTES
from ddfa_batch.schemas.errors import ImageError, InputError, StoreError
from ddfa_batch.tasks.files.remote_calls import (
    filesystem,
    in_time,
    limits,
    persistently,
    reason_of,
    scheme_of,
    within,
)

#: A URL after pathlib, which makes one stroke of two.
_SQUEEZED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
#: Schemes whose files need not say their size before they are read.
_STREAMED = ("http", "https")
#: How long a listing may take, seconds.
LISTING_SECONDS = 600.0
_CHUNK = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file that a listing names."""

    #: Its URL.
    url: str
    #: Its path below what was listed.
    name: str
    #: Its bytes; None where the listing does not say.
    size: int | None


def as_url(name: str) -> str:
    """A URL as it was written before it was a path, 's3:/b' being 's3://b'."""
    return _SQUEEZED.sub(r"\1://", name, count=1)


def read_url(url: str, size: int | None = None) -> bytes:
    """The bytes of a remote file, whose `size` a listing may have told; raises `ImageError`."""
    if size is not None and size > MAX_FILE_BYTES:
        raise _too_large(size)

    def read(fs: Any, path: str) -> bytes:
        if scheme_of(url) in _STREAMED:
            return in_time(limits().seconds, lambda: _streamed(fs, path))
        told = size if size is not None else within(limits().seconds, fs, "info", path).get("size")
        if told is not None and told > MAX_FILE_BYTES:
            raise _too_large(told)
        return bytes(within(limits().seconds, fs, "cat_file", path))

    return _asked(url, read)


def read_url_range(url: str, offset: int, size: int) -> bytes:
    """At most `size` bytes of a remote file from `offset` on; raises `ImageError`."""
    if not size:
        return b""

    def read(fs: Any, path: str) -> bytes:
        return bytes(within(limits().seconds, fs, "cat_file", path, start=offset, end=offset + size))

    return _asked(url, read)


def list_url(url: str) -> list[RemoteFile]:
    """All files below a URL, or the one it names, in byte order; raises `InputError`."""
    fs, path = filesystem(url)
    try:
        found = within(LISTING_SECONDS, fs, "find", path, detail=True)
    except FileNotFoundError:
        found = {}
    except Exception as fault:  # of a class that only the package of the file system knows
        raise InputError(f"{url} cannot be listed ({reason_of(fault)}).") from None
    root = path.rstrip("/")
    files = [
        RemoteFile(fs.unstrip_protocol(name), name.removeprefix(root).lstrip("/"), about.get("size"))
        for name, about in found.items()
        if about.get("type") == "file" and not name.endswith("/")
    ]
    return sorted(files, key=lambda file: file.name.encode("utf-8", "surrogatepass"))


def match_urls(pattern: str) -> list[str]:
    """The URLs that a pattern with wildcards matches, in byte order, nothing hidden; of the web it is a URL itself."""
    if scheme_of(pattern) in _STREAMED:
        return [pattern]
    fs, path = filesystem(pattern)
    try:
        found = within(LISTING_SECONDS, fs, "glob", path)
    except Exception as fault:  # as above
        raise InputError(f"{pattern} cannot be listed ({reason_of(fault)}).") from None
    seen = (name for name in found if not posixpath.basename(name).startswith("."))
    return sorted((fs.unstrip_protocol(name) for name in seen), key=str.encode)


def parent_of(url: str) -> str:
    """The URL of the folder a file lies in, with its stroke."""
    return posixpath.dirname(url.rstrip("/")) + "/"


def _asked(url: str, read: Callable[[Any, str], bytes]) -> bytes:
    """`read`, again where it may be better next time; raises `ImageError` with the last reason."""
    try:
        return persistently(url, read)
    except FileNotFoundError:
        raise ImageError("missing", "There is no such file.") from None
    except InputError as fault:
        raise ImageError("unreadable", str(fault)) from None
    except StoreError as fault:
        raise ImageError("unreadable", f"The file cannot be read{_joined(str(fault))}.") from None


def _joined(reason: str) -> str:
    """A reason as the end of a sentence that says what failed."""
    return f", {reason}" if " failed: " in reason else f": {reason}"


def _streamed(fs: Any, path: str) -> bytes:
    """A file that is read until it ends, or has more bytes than are read; nothing is asked of it before."""
    parts, total = [], 0
    with fs.open(path, "rb", block_size=0, size=1) as file:  # the size is that of no file: it spares a request
        while part := file.read(_CHUNK):
            parts.append(part)
            total += len(part)
            if total > MAX_FILE_BYTES:
                raise _too_large(total)
    return b"".join(parts)


def _too_large(size: int) -> ImageError:
    return ImageError("too_large", f"The file has {size:,} bytes or more; at most {MAX_FILE_BYTES:,} are read.")
