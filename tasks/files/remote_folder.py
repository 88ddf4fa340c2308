"""A run's folder behind a URL: files are written on this machine, and put under their names when they are whole."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

import xxhash

from ddfa_batch.schemas.config import RunPart
from ddfa_batch.schemas.errors import RunFolderError, StoreError
from ddfa_batch.tasks.files import atomic, store
from ddfa_batch.tasks.files.lease import Lease
from ddfa_batch.tasks.files.range_file import range_file
from ddfa_batch.tasks.files.remote_calls import limits, persistently, scheme_of, within
from ddfa_batch.tasks.files.remote_files import LISTING_SECONDS, as_url
from ddfa_batch.tasks.files.run_folders import FolderLock, RunFolder
from ddfa_batch.tasks.files.url_secrets import refuse_secrets

#: Schemes of stores that have no folders, only names with strokes in them.
_FLAT = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "hf", "memory")
#: Bytes a second with which files have to be written at least, once an attempt's seconds are over.
_LEAST_SPEED = 1 << 20
#: Bytes that are read at once to check a file, and requests at once for many small ones.
_CHUNK, _AT_ONCE = 8 << 20, 16
#: What an entry of a store has that changes when it is written anew.
_STAMPS = ("ETag", "etag", "md5Hash", "generation", "LastModified", "mtime", "size")
#: Stores are asked each time: listings that this process has seen are not the truth.
_FRESH = {"use_listings_cache": False}

T = TypeVar("T")


class RemoteFolder(RunFolder):
    """A run's folder behind a URL, which alone says what is done: nothing on this machine is needed to go on."""

    def __init__(self, url: str) -> None:
        super().__init__(refuse_secrets(as_url(url)).rstrip("/"))
        self._lease = Lease(self)

    @property
    def address(self) -> str:
        """Its URL."""
        return str(self)

    @property
    def work(self) -> Path:
        """A folder of this user's under the temporary folder (`TMPDIR`), one for each URL; made if need be."""
        own = Path(tempfile.gettempdir()) / f"ddfa-batch-{os.getuid()}"
        folder = own / hashlib.sha256(self.address.encode()).hexdigest()[:16]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if own.is_symlink() or own.stat().st_uid != os.getuid():
            raise RunFolderError(f"{own} belongs to another user; choose another temporary folder (TMPDIR).")
        return folder

    @property
    def here(self) -> Path:
        """Raise `RunFolderError`: it is no folder of this machine."""
        raise RunFolderError(f"{self} is no folder of this machine, which this needs; copy it here and name the copy.")

    # ------------------------------------------------------------------------------------------- what is there

    def has(self, name: str) -> bool:
        """Whether there is such a file, or one below that name."""
        try:
            self._info(name)
        except FileNotFoundError:
            return False
        return True

    def entries(self, folder: str = "") -> list[str]:
        """The names in a folder."""

        def listed(fs: Any, path: str) -> list[str]:
            found = within(LISTING_SECONDS, fs, "ls", path, detail=False)
            return [entry.rstrip("/").removeprefix(f"{path}/") for entry in found if entry.rstrip("/") != path]

        try:
            return sorted(self._asked("list", folder, listed))
        except FileNotFoundError:
            return []

    def size(self, name: str) -> int:
        """Bytes of a file, or of all files below a folder."""
        about = self._info(name)
        return sum(self._below(name).values()) if about["type"] == "directory" else int(about["size"])

    def sizes(self) -> Callable[[str], int]:
        """`size` as one listing of the whole run tells it."""
        known: dict[str, int] = {}
        for entry, n_bytes in self._below("").items():
            for name in (entry, *map(str, PurePosixPath(entry).parents)):
                known[name] = known.get(name, 0) + n_bytes

        def size(name: str) -> int:
            if name not in known:
                raise FileNotFoundError(name)
            return known[name]

        return size

    def _below(self, folder: str) -> dict[str, int]:
        """The bytes of every file below a folder, by its name relative to that."""

        def listed(fs: Any, path: str) -> dict[str, int]:
            found = within(LISTING_SECONDS, fs, "find", path, detail=True)
            return {entry.removeprefix(f"{path}/"): about["size"] for entry, about in found.items() if entry != path}

        try:
            return self._asked("list", folder, listed)
        except FileNotFoundError:
            return {}

    def stamp(self, name: str) -> object:
        """What the store says of a file that changes with it."""
        about = self._info(name)
        return tuple(str(about.get(key)) for key in _STAMPS)

    def checksum(self, name: str) -> str:
        """`store.checksum` of a file or folder, all of which is read once."""
        hasher, about = xxhash.xxh3_128(), self._info(name)
        if about["type"] != "directory":
            self._hash(hasher, name, int(about["size"]))
            return hasher.hexdigest()
        for below, size in sorted(self._below(name).items(), key=lambda file: PurePosixPath(file[0])):
            hasher.update(store.named_in_folder(below, size))
            self._hash(hasher, f"{name}/{below}", size)
        return hasher.hexdigest()

    def _hash(self, hasher: Any, name: str, size: int) -> None:
        for start in range(0, size, _CHUNK):
            hasher.update(self._part(name, start, min(start + _CHUNK, size)))

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return self._asked("read", name, lambda fs, path: bytes(within(limits().seconds, fs, "cat_file", path)))

    def read_many(self, names: list[str]) -> Iterable[bytes | OSError]:
        """The contents of files, some at once, or `FileNotFoundError`; raises `StoreError`."""
        return _at_once(self._read_or_missing, names)

    def _read_or_missing(self, name: str) -> bytes | OSError:
        try:
            return self.read(name)
        except FileNotFoundError as fault:
            return fault

    def source(self, name: str) -> BinaryIO:
        """A file to read parts of."""
        found: io.IOBase = range_file(self.size(name), lambda start, end: self._part(name, start, end))
        return found  # type: ignore[return-value]  # io's classes are no typing.IO for mypy

    def _part(self, name: str, start: int, end: int) -> bytes:
        def read(fs: Any, path: str) -> bytes:
            return bytes(within(limits().seconds, fs, "cat_file", path, start=start, end=end))

        data = self._asked("read", name, read)
        if len(data) != end - start:
            raise StoreError(f"{self.where(name)} changed while it was read; run the same command again.")
        return data

    # ------------------------------------------------------------------------------------------ what is changed

    def refuse_file(self) -> None:
        """Raise `RunFolderError` where the URL is that of a file."""
        with contextlib.suppress(FileNotFoundError):
            if self._info("")["type"] == "file":
                raise RunFolderError(f"{self} is a file; choose a folder for the output.")

    def make(self) -> None:
        """Do nothing: folders of a store come with what is put into them."""

    def secure(self, work: str, name: str) -> str:
        """Put a staged file into the store, under a hidden name beside the one it is to get."""
        if not Path(work).exists():
            return work
        hidden = atomic.staged(Path("/") / name, make=False).relative_to("/").as_posix()
        self._put(Path(work), hidden)
        return hidden

    def publish(self, work: str, name: str) -> None:
        """Put a staged file or folder into the store under its name; of a folder there, what the new one has not goes.

        A file that `secure` put there is copied within the store.
        """
        if Path(work).is_dir():
            self._put_folder(Path(work), name)
        elif Path(work).is_absolute():
            self._put(Path(work), name)
        if Path(work).is_absolute():
            atomic.discard(Path(work))
            return
        size = self.size(work)
        seconds = limits().seconds + size / _LEAST_SPEED
        self._asked("write", name, lambda fs, path: within(seconds, fs, "cp_file", self._path(fs, work), path))
        self._check(name, size)
        self.remove([work])

    def _put_folder(self, work: Path, name: str) -> None:
        """Put the files of a folder into the store, some at once, and remove others that are there."""
        files = {file.relative_to(work).as_posix(): file for file in work.rglob("*") if file.is_file()}
        sent = list(_at_once(lambda below: self._send(files[below], f"{name}/{below}"), list(files)))
        there = self._below(name)
        for below, size in zip(files, sent, strict=True):
            self._refuse_other(f"{name}/{below}", there.get(below, 0), size)
        self.remove(f"{name}/{below}" for below in there.keys() - files.keys())

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, some at once; of a folder see `empty`."""
        for _ in _at_once(self._remove, list(names)):
            pass

    def empty(self, folder: str, own: Callable[[str], bool]) -> None:
        """Remove what is in a folder if it is `own` by its name, folders with all below them."""
        self.remove(f"{folder}/{below}" for below in self._below(folder) if own(below.partition("/")[0]))

    def put_new(self, name: str, data: bytes) -> bool:
        """Write a file if there is none, and tell whether; where a store cannot help it two may do so at once."""

        def create(fs: Any, path: str) -> bool:
            self._make_parent(fs, path)
            try:
                within(limits().seconds, fs, "pipe_file", path, data, mode="create")
            except FileExistsError:
                return False
            except Exception as fault:
                if _refused(fault):
                    return False
                raise
            return True

        return self._asked("write", name, create)

    def locked(self, command: str, part: RunPart | None = None) -> AbstractContextManager[FolderLock]:
        """Hold a lease of the folder; see `lease.Lease`. Raises `RunFolderError` for a part of a run."""
        if part is not None:
            self._lease.sharing(part)
        return self._locked(command)

    @contextlib.contextmanager
    def _locked(self, command: str) -> Iterator[FolderLock]:
        with self._lease.held(command):
            yield self._lease
        shutil.rmtree(self.work, ignore_errors=True)

    def still_locked(self) -> None:
        """Raise `RunFolderError` where another command took the lease."""
        self._lease.check()

    # ---------------------------------------------------------------------------------------------- one request

    def _asked(self, what: str, name: str, call: Callable[[Any, str], T]) -> T:
        """What a call gives of the file system and the path of a name; raises `StoreError` as one sentence."""
        url = f"{self}/{name}" if name else str(self)
        try:
            return persistently(url, call, **_FRESH)
        except StoreError as fault:
            raise StoreError(f"{url} cannot be {_DONE[what]}: {str(fault).rstrip('.')}; {_REMEDY}.") from None
        except FileNotFoundError:
            if what != "write":
                raise
            raise StoreError(f"{url} cannot be written: there is no such bucket or folder; name another.") from None

    def _path(self, fs: Any, name: str) -> str:
        path: str = fs._strip_protocol(f"{self}/{name}")
        return path

    def _info(self, name: str) -> dict[str, Any]:
        def info(fs: Any, path: str) -> dict[str, Any]:
            found: dict[str, Any] = within(limits().seconds, fs, "info", path)
            return found

        return self._asked("read", name, info)

    def _put(self, work: Path, name: str) -> None:
        self._check(name, self._send(work, name))

    def _send(self, work: Path, name: str) -> int:
        """Put a file into the store; give its bytes."""
        size = work.stat().st_size

        def put(fs: Any, path: str) -> None:
            self._make_parent(fs, path)
            within(limits().seconds + size / _LEAST_SPEED, fs, "put_file", str(work), path)

        self._asked("write", name, put)
        return size

    def _make_parent(self, fs: Any, path: str) -> None:
        if scheme_of(str(self)) not in _FLAT:
            within(limits().seconds, fs, "makedirs", path.rpartition("/")[0], exist_ok=True)

    def _check(self, name: str, size: int) -> None:
        self._refuse_other(name, self.size(name), size)

    def _refuse_other(self, name: str, there: int, size: int) -> None:
        if there != size:
            raise StoreError(f"{self.where(name)} has {there:,} bytes of {size:,} that were written; {_REMEDY}.")

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._asked("remove", name, lambda fs, path: within(limits().seconds, fs, "rm_file", path))


_DONE = {"read": "read", "write": "written", "list": "listed", "remove": "removed"}
_REMEDY = "what is finished is kept: run the same command again"


def _refused(fault: Exception) -> bool:
    """Whether a store says that a file which was to be new is there."""
    return "PreconditionFailed" in f"{fault!r}" or "pre-condition" in str(fault).lower()


def _at_once(do: Callable[[str], T], names: list[str]) -> Iterator[T]:
    """Do something to several names at once, in order."""
    if len(names) < 2:
        yield from map(do, names)
        return
    with ThreadPoolExecutor(min(_AT_ONCE, len(names))) as pool:
        waiting = [pool.submit(copy_context().run, do, name) for name in names]
        for future in waiting:
            yield future.result()
