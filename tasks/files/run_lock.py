"""One command at a time in a run's folder, or one for each of its parts."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ddfa_batch.schemas.config import RunPart
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.tasks.files.store import LOCK, SHARDS

#: What `flock` says where somebody has the lock, and where a file system has no locks.
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


#: Seconds between two attempts to get a lock that a part of the same run holds while it plans.
_RETRY_SECONDS = 0.2
#: What a command says of itself that plans a run for all of its parts.
_PLANS = ", part "


class RunLock:
    """The lock of a folder, held."""

    def __init__(self, path: Path, descriptor: int, shared: bool) -> None:
        self._path, self._descriptor = path, descriptor
        #: Whether those who do other parts of the run may be here, too.
        self.shared = shared

    @contextlib.contextmanager
    def sharing(self, part: RunPart) -> Iterator[None]:
        """Let those in who do other parts of the planned run, and nobody else; raises where somebody does this one."""
        if not self.shared:
            _write(self._descriptor, "commands that do parts of it")
            _flock(self._descriptor, fcntl.LOCK_SH)
            self.shared = True
        path = self._path.parent / SHARDS / f".{part.index:06d}.of-{part.count}.lock"
        path.parent.mkdir(exist_ok=True)
        with contextlib.closing(_acquired(path, who(str(part)))):
            yield

    def close(self) -> None:
        """Let go of it, and remove its file unless others share it."""
        with contextlib.suppress(BlockingIOError):
            _flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


@contextlib.contextmanager
def locked(out: Path, command: str, part: RunPart | None = None) -> Iterator[RunLock]:
    """Hold the lock of the folder `out`, which is made if need be; raises `RunFolderError` naming who holds it.

    The lock is the kernel's (`flock`, which NFS hands to its server), so that of a process that died is free at once.
    The file it is on says who holds it, and is removed at the end. Where the file system has no locks, there is none.
    part: the part of the run that is to be done, by a command that waits until the one that plans the run for all parts
    has done so, and joins those that share the lock then (`RunLock.sharing`).
    """
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    holder = who(command if part is None else f"{command}, {part}")
    try:
        with contextlib.closing(_acquired(out / LOCK, holder, joins=part is not None)) as lock:
            yield lock
    finally:
        if made:
            with contextlib.suppress(OSError):  # it is not empty: the run is in it
                out.rmdir()


def _acquired(path: Path, holder: str, joins: bool = False) -> RunLock:
    """The lock file, locked; it may be removed by its last holder meanwhile.

    joins: share it with those who share it, once they do.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            shared = _lock(descriptor, path, joins)
            if shared is not None and _is_file(descriptor, path):
                if not shared:
                    _write(descriptor, holder)
                return RunLock(path, descriptor, shared)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if shared is None:
            time.sleep(_RETRY_SECONDS)


def _lock(descriptor: int, path: Path, joins: bool) -> bool | None:
    """Lock it, and say whether others share it; None where those are about to who plan the run."""
    with contextlib.suppress(BlockingIOError):
        _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    with contextlib.suppress(BlockingIOError):
        if joins:
            _flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    holder = os.pread(descriptor, 4096, 0).decode("utf-8", "replace").strip()
    if joins and (not holder or _PLANS in holder):
        return None
    raise RunFolderError(
        f"{_run_of(path)} is being worked in by {holder or 'another command'}; wait until it ends, or choose another "
        "output folder."
    )


def _run_of(path: Path) -> Path:
    return path.parent.parent if path.parent.name == SHARDS else path.parent


def _write(descriptor: int, holder: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, holder.encode(), 0)


def _flock(descriptor: int, how: int) -> None:
    """`flock`, which does nothing where there are no locks; raises `BlockingIOError` where somebody has the lock."""
    try:
        fcntl.flock(descriptor, how)
    except OSError as fault:
        if fault.errno in _HELD:
            raise BlockingIOError from None
        if fault.errno not in _NO_LOCKS:
            raise


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
