"""One command at a time in a run's folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.tasks.files.store import LOCK

#: What `flock` says where somebody has the lock, and where a file system has no locks.
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(out: Path, command: str) -> Iterator[None]:
    """Hold the lock of the folder `out`, which is made if need be; raises `RunFolderError` naming who holds it.

    The lock is the kernel's (`flock`, which NFS hands to its server), so that of a process that died is free at once.
    The file it is on says who holds it, and is removed at the end. Where the file system has no locks, there is none.
    """
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    descriptor = _acquired(out)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, who(command).encode(), 0)
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)
        os.close(descriptor)
        if made:
            with contextlib.suppress(OSError):  # it is not empty: the run is in it
                out.rmdir()


def _acquired(out: Path) -> int:
    """A descriptor of the lock file, locked; the file may be removed by its last holder while we wait for nothing."""
    path = out / LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor, out)
            if _is_file(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, out: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        if fault.errno in _NO_LOCKS:
            return
        if fault.errno not in _HELD:
            raise
        holder = os.pread(descriptor, 4096, 0).decode("utf-8", "replace").strip() or "another command"
        raise RunFolderError(
            f"{out} is being worked in by {holder}; wait until it ends, or choose another output folder."
        ) from None


def _is_file(descriptor: int, path: Path) -> bool:
    """Whether the file we locked is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def who(command: str) -> str:
    """Who holds a lock, for a person."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return f"ddfa-batch {command}, process {os.getpid()} on {socket.gethostname()}, since {since}"
