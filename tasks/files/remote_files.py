"""Inputs behind URLs, read through fsspec: listed at planning, then each with bounded attempts and a time limit."""

from __future__ import annotations

import posixpath
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ddfa_batch.schemas.config import MAX_FILE_BYTES
from ddfa_batch.schemas.errors import ImageError, InputError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
#: A URL after pathlib, which makes one stroke of two.
_SQUEEZED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
#: What has to be installed for a scheme; for others fsspec says it.
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
    "abfs": "adlfs",
    "az": "adlfs",
}
#: Schemes whose files need not say their size before they are read.
_STREAMED = ("http", "https")
#: How often a file is asked for, how long one attempt may take, and the pause before the second, doubled each time.
ATTEMPTS, ATTEMPT_SECONDS, PAUSE_SECONDS = 4, 30.0, 0.25
#: How long a listing may take.
LISTING_SECONDS = 600.0
#: Answers of a server to a request that is wrong, but for these two: too slow, and too often.
_WRONG, _LATER = range(400, 500), (408, 429)
_CHUNK = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True)
class RemoteFile:
    """A file that a listing names."""

    #: Its URL.
    url: str
    #: Its path below what was listed.
    name: str
    #: Its bytes; None where the listing does not say.
    size: int | None


def is_url(name: str) -> bool:
    """Whether a name is that of a file elsewhere."""
    return bool(_URL.match(name))


def as_url(name: str) -> str:
    """A URL as it was written before it was a path, 's3:/b' being 's3://b'."""
    return _SQUEEZED.sub(r"\1://", name, count=1)


def scheme_of(url: str) -> str:
    """What stands before `://`."""
    found = _URL.match(url)
    return found.group(1).lower() if found else ""


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it; raises `InputError` naming the package that is missing."""
    import fsspec

    scheme = scheme_of(url)
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    except ImportError as fault:
        package = _PACKAGES.get(scheme)
        remedy = f"pip install {package}" if package else str(fault)
        raise InputError(f"{url} cannot be read: {scheme}:// needs a package that is missing ('{remedy}').") from None
    except ValueError:
        raise InputError(f"{url} cannot be read: fsspec knows no {scheme}://.") from None
    return found


def read_url(url: str, size: int | None = None) -> bytes:
    """The bytes of a remote file, whose `size` a listing may have told; raises `ImageError`."""
    if size is not None and size > MAX_FILE_BYTES:
        raise _too_large(size)

    def read(fs: Any, path: str) -> bytes:
        if scheme_of(url) in _STREAMED:
            return _in_time(ATTEMPT_SECONDS, lambda: _streamed(fs, path))
        told = size if size is not None else _within(ATTEMPT_SECONDS, fs, "info", path).get("size")
        if told is not None and told > MAX_FILE_BYTES:
            raise _too_large(told)
        return bytes(_within(ATTEMPT_SECONDS, fs, "cat_file", path))

    return _persistently(url, read)


def read_url_range(url: str, offset: int, size: int) -> bytes:
    """At most `size` bytes of a remote file from `offset` on; raises `ImageError`."""
    if not size:
        return b""

    def read(fs: Any, path: str) -> bytes:
        return bytes(_within(ATTEMPT_SECONDS, fs, "cat_file", path, start=offset, end=offset + size))

    return _persistently(url, read)


def list_url(url: str) -> list[RemoteFile]:
    """All files below a URL, or the one it names, in byte order; raises `InputError`."""
    fs, path = filesystem(url)
    try:
        found = _within(LISTING_SECONDS, fs, "find", path, detail=True)
    except FileNotFoundError:
        found = {}
    except Exception as fault:  # of a class that only the package of the file system knows
        raise InputError(f"{url} cannot be listed ({_reason(fault)}).") from None
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
        found = _within(LISTING_SECONDS, fs, "glob", path)
    except Exception as fault:  # as above
        raise InputError(f"{pattern} cannot be listed ({_reason(fault)}).") from None
    seen = (name for name in found if not posixpath.basename(name).startswith("."))
    return sorted((fs.unstrip_protocol(name) for name in seen), key=str.encode)


def parent_of(url: str) -> str:
    """The URL of the folder a file lies in, with its stroke."""
    return posixpath.dirname(url.rstrip("/")) + "/"


def _persistently(url: str, read: Callable[[Any, str], bytes]) -> bytes:
    """`read`, again where it may be better next time; raises `ImageError` with the last reason."""
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            fs, path = filesystem(url)
            return read(fs, path)
        except ImageError:
            raise
        except FileNotFoundError:
            raise ImageError("missing", "There is no such file.") from None
        except InputError as fault:
            raise ImageError("unreadable", str(fault)) from None
        except Exception as fault:  # of a class that only the package of the file system knows
            reason = _reason(fault)
            if _is_final(fault):
                raise ImageError("unreadable", f"The file cannot be read: {reason}.") from None
    raise ImageError("unreadable", f"The file cannot be read, {ATTEMPTS} attempts failed: {reason}.")


def _is_final(fault: Exception) -> bool:
    """Whether asking again gives the same answer."""
    status = getattr(fault, "status", None)
    return isinstance(fault, PermissionError | IsADirectoryError) or (status in _WRONG and status not in _LATER)


def _reason(fault: Exception) -> str:
    if isinstance(fault, TimeoutError):
        return f"no answer within {ATTEMPT_SECONDS:.0f} s"
    return (str(fault).splitlines() or [""])[0][:200].rstrip(".") or type(fault).__name__


def _within(seconds: float, fs: Any, method: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of a file system; raises `TimeoutError` where it takes longer."""
    if not fs.async_impl:
        return _in_time(seconds, lambda: getattr(fs, method)(*arguments, **options))
    from fsspec.asyn import sync

    return sync(fs.loop, getattr(fs, f"_{method}"), *arguments, timeout=seconds, **options)


def _in_time(seconds: float, work: Callable[[], T]) -> T:
    """Do `work` in a thread of its own, which is left to itself when the time is over: it cannot be ended."""
    done: list[T] = []
    faults: list[Exception] = []

    def run() -> None:
        try:
            done.append(work())
        except Exception as fault:  # it belongs to who waits
            faults.append(fault)

    thread = threading.Thread(target=run, daemon=True, name="ddfa-batch-remote-read")
    thread.start()
    thread.join(seconds)
    if faults:
        raise faults[0]
    if not done:
        raise TimeoutError
    return done[0]


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
