"""Calls to stores behind URLs, through fsspec: a few attempts each, and a time limit for every attempt."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from ddfa_batch.schemas.config import RemoteLimits
from ddfa_batch.schemas.errors import DdfaError, InputError, StoreError
from ddfa_batch.tasks.files.url_secrets import without_secrets

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
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
#: The pause before the second attempt, seconds, doubled each time.
_PAUSE_SECONDS = 0.25
#: Answers of a server to a request that is wrong, but for these two: too slow, and too often.
_WRONG, _LATER = range(400, 500), (408, 429)

T = TypeVar("T")
_DEFAULT = RemoteLimits()
_limits: ContextVar[RemoteLimits] = ContextVar("limits", default=_DEFAULT)


def is_url(name: str) -> bool:
    """Whether a name is that of a file elsewhere."""
    return bool(_URL.match(name))


def scheme_of(url: str) -> str:
    """What stands before `://`."""
    found = _URL.match(url)
    return found.group(1).lower() if found else ""


def limits() -> RemoteLimits:
    """How long stores are waited for in this thread."""
    return _limits.get()


@contextlib.contextmanager
def limited(to: RemoteLimits) -> Iterator[None]:
    """Wait for stores no longer than that, in this thread."""
    token = _limits.set(to)
    try:
        yield
    finally:
        _limits.reset(token)


def filesystem(url: str, **options: Any) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it; raises `InputError` naming the package that is missing."""
    import fsspec

    scheme, shown = scheme_of(url), without_secrets(url)
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url, **options)
    except ImportError as fault:
        package = _PACKAGES.get(scheme)
        remedy = f"pip install {package}" if package else str(fault)
        raise InputError(f"{shown} cannot be read: {scheme}:// needs a package that is missing ('{remedy}').") from None
    except ValueError:
        raise InputError(f"{shown} cannot be read: fsspec knows no {scheme}://.") from None
    return found


def persistently(url: str, call: Callable[[Any, str], T], **options: Any) -> T:
    """What `call` gives of a URL's file system and path, asked again where it may be better next time.

    Raises `FileNotFoundError`, `InputError` for what is no URL here, and `StoreError` with the last reason.
    """
    reason, attempts = "", limits().attempts
    for attempt in range(attempts):
        if attempt:
            time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            return call(*filesystem(url, **options))
        except (FileNotFoundError, FileExistsError, DdfaError):
            raise
        except Exception as fault:  # of a class that only the package of the file system knows
            reason = reason_of(fault)
            if _is_final(fault):
                raise StoreError(reason) from None
    raise StoreError(f"{attempts} attempt{'s' if attempts > 1 else ''} failed: {reason}")


def _is_final(fault: Exception) -> bool:
    """Whether asking again gives the same answer."""
    status = getattr(fault, "status", None)
    return isinstance(fault, PermissionError | IsADirectoryError) or (status in _WRONG and status not in _LATER)


def reason_of(fault: Exception) -> str:
    """Why a call failed, without a full stop and without what a URL keeps secret."""
    if isinstance(fault, TimeoutError):
        return str(fault) or f"no answer within {limits().seconds:g} s"
    said = (str(fault).splitlines() or [""])[0][:200].rstrip(".")
    return without_secrets(said) or type(fault).__name__


def within(seconds: float, fs: Any, method: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of a file system; raises `TimeoutError` where it takes longer."""
    try:
        if not fs.async_impl:
            return in_time(seconds, lambda: getattr(fs, method)(*arguments, **options))
        from fsspec.asyn import sync

        return sync(fs.loop, getattr(fs, f"_{method}"), *arguments, timeout=seconds, **options)
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:g} s") from None


def in_time(seconds: float, work: Callable[[], T]) -> T:
    """Do `work` in a thread of its own, which is left to itself when the time is over: it cannot be ended."""
    done: list[T] = []
    faults: list[Exception] = []

    def run() -> None:
        try:
            done.append(work())
        except Exception as fault:  # it belongs to who waits
            faults.append(fault)

    thread = threading.Thread(target=run, daemon=True, name="ddfa-batch-remote")
    thread.start()
    thread.join(seconds)
    if faults:
        raise faults[0]
    if not done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return done[0]
