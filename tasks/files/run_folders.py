"""Where the files of a run lie, by names relative to the run: a folder of this machine, or one behind a URL."""

from __future__ import annotations

import contextlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa

from ddfa_batch.schemas.config import RunPart
from ddfa_batch.schemas.errors import DdfaError, FilesGoneError, RunFolderError
from ddfa_batch.tasks.files import atomic, run_lock, store
from ddfa_batch.tasks.files.remote_calls import is_url

#: How a user names a run's folder: a path, or a URL.
Named = str | os.PathLike[str]
#: What parsers of tables, arrays and meshes raise for damaged files; Arrow's own errors are some of these.
_DAMAGED = (OSError, ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, MemoryError, pa.ArrowException)


class FolderLock(Protocol):
    """A folder that is kept for one command, or for those that do parts of a run."""

    @property
    def shared(self) -> bool:
        """Whether those who do other parts of the run may be here, too."""

    def sharing(self, part: RunPart) -> AbstractContextManager[None]:
        """Let those in who do other parts of the planned run, and nobody else; raises where somebody does this one."""


class RunFolder(ABC):
    """A run's files, each under a name relative to the run, with strokes. A name is given to whole files only."""

    def __init__(self, named: str) -> None:
        self._named = named

    def __str__(self) -> str:
        return self._named

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunFolder) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)

    def where(self, name: str) -> str:
        """Where a file lies, for a person."""
        return f"{self._named.rstrip('/')}/{name}"

    @property
    @abstractmethod
    def address(self) -> str:
        """The folder as every process can name it, wherever that works."""

    @property
    @abstractmethod
    def work(self) -> Path:
        """The folder of this machine where files are written before they get their names."""

    @property
    @abstractmethod
    def here(self) -> Path:
        """The folder itself, of this machine; raises `RunFolderError` where it is none."""

    def free(self) -> int | None:
        """Bytes that can still be written there; None where nobody says."""
        return None

    # ------------------------------------------------------------------------------------------- what is there

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is a file or folder of this name."""

    @abstractmethod
    def entries(self, folder: str = "") -> list[str]:
        """The names in a folder, without those below them, in order; none where there is no such folder."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file, or of all files below a folder; raises `FileNotFoundError`."""

    def sizes(self) -> Callable[[str], int]:
        """`size`, for many names at about this moment."""
        return self.size

    @abstractmethod
    def stamp(self, name: str) -> object:
        """What changes when a file is written anew; raises `FileNotFoundError`."""

    @abstractmethod
    def checksum(self, name: str) -> str:
        """`store.checksum` of a file or folder."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file; raises `OSError`, `FileNotFoundError` where there is none."""

    def read_many(self, names: list[str]) -> Iterable[bytes | OSError]:
        """The contents of files in that order, or why one could not be read."""
        for name in names:
            try:
                yield self.read(name)
            except OSError as fault:
                yield fault

    @abstractmethod
    def source(self, name: str) -> Path | BinaryIO:
        """A file as Arrow and HDF5 take it to read parts of it."""

    # ------------------------------------------------------------------------------------------ what is changed

    @abstractmethod
    def refuse_file(self) -> None:
        """Raise `RunFolderError` where it is a file."""

    @abstractmethod
    def make(self) -> None:
        """Make the folder, if it is not there."""

    def staged(self, name: str) -> Path:
        """A path of this machine to write a file or folder to that is to get `name`."""
        return atomic.staged(self.work / name)

    @abstractmethod
    def secure(self, work: str, name: str) -> str:
        """Keep a staged file where `publish` finds it even after this machine is gone; give what it is called there."""

    @abstractmethod
    def publish(self, work: str, name: str) -> None:
        """Give a staged file or folder its name, in place of what is there; raises `FileNotFoundError`."""

    @abstractmethod
    def remove(self, names: Iterable[str]) -> None:
        """Remove files and folders, one after the other, those that are there."""

    def empty(self, folder: str, own: Callable[[str], bool]) -> None:
        """Remove what is in a folder if it is `own` by its name, and the folder if nothing is left."""
        self.remove([f"{folder}/{name}" for name in self.entries(folder) if own(name)])

    def put(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        with self.writing(name) as work:
            work.write_bytes(data)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a path to write the file `name` to; on success it gets its name, else it is removed."""
        work = self.staged(name)
        try:
            yield work
            self.publish(str(work), name)
        finally:
            atomic.discard(work)

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Name the file `name`, in a `RunFolderError`, where whatever parses it trips over it inside the block."""
        try:
            yield
        except DdfaError:
            raise
        except _DAMAGED as fault:
            reason = (str(fault) or type(fault).__name__).splitlines()[0]
            kind = FilesGoneError if isinstance(fault, FileNotFoundError) else RunFolderError
            raise kind(f"{self.where(name)} cannot be read ({reason}); see 'ddfa-batch status'.") from None

    def still_locked(self) -> None:  # noqa: B027 - most folders have nothing to do
        """Raise `RunFolderError` where the lock of `locked` was lost meanwhile, which some folders cannot help."""

    @abstractmethod
    def locked(self, command: str, part: RunPart | None = None) -> AbstractContextManager[FolderLock]:
        """Keep every other command out, meanwhile; raises `RunFolderError` naming who is there.

        With a `part` wait for who plans the run to do others, and join those that do others; see `FolderLock.sharing`.
        """


class LocalFolder(RunFolder):
    """A run's folder on this machine, or on a file system that it shares with others."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def where(self, name: str) -> str:
        """The path of a file."""
        return str(self._path / name)

    @property
    def address(self) -> str:
        """Its absolute path, links resolved."""
        return str(self._path.resolve())

    @property
    def work(self) -> Path:
        """The folder itself: staged files lie beside those they replace."""
        return self._path

    @property
    def here(self) -> Path:
        """The folder itself."""
        return self._path

    def free(self) -> int | None:
        """Bytes that the disk has free."""
        path = self._path.absolute()
        return shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free

    def has(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        return (self._path / name).exists()

    def entries(self, folder: str = "") -> list[str]:
        """The names in a folder."""
        try:
            return sorted(os.listdir(self._path / folder))  # noqa: PTH208 - names, not paths
        except (FileNotFoundError, NotADirectoryError):
            return []

    def size(self, name: str) -> int:
        """Bytes of a file or folder."""
        return store.size_of(self._path / name)

    def stamp(self, name: str) -> object:
        """When a file was written."""
        return (self._path / name).stat().st_mtime_ns

    def checksum(self, name: str) -> str:
        """The checksum of a file or folder."""
        return store.checksum(self._path / name)

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return (self._path / name).read_bytes()

    def source(self, name: str) -> Path:
        """The path of a file."""
        return self._path / name

    def refuse_file(self) -> None:
        """Raise `RunFolderError` where it is a file."""
        if self._path.exists() and not self._path.is_dir():
            raise RunFolderError(f"{self._path} is a file; choose a folder for the output.")

    def make(self) -> None:
        """Make the folder."""
        self._path.mkdir(parents=True, exist_ok=True)

    def secure(self, work: str, name: str) -> str:
        """Wait until a staged file is on the disk."""
        if Path(work).exists():
            atomic.flush(Path(work))
        return work

    def publish(self, work: str, name: str) -> None:
        """Rename a staged file or folder."""
        atomic.publish(Path(work), self._path / name)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files and folders."""
        for name in names:
            atomic.remove(self._path / name)

    def empty(self, folder: str, own: Callable[[str], bool]) -> None:
        """Remove what a run wrote into a folder that is no link: what that leads to may be anybody's."""
        there = self._path / folder
        if there.is_dir() and not there.is_symlink():
            super().empty(folder, own)
            if not self.entries(folder):
                with contextlib.suppress(FileNotFoundError):  # somebody else removes it, too
                    there.rmdir()

    def locked(self, command: str, part: RunPart | None = None) -> AbstractContextManager[FolderLock]:
        """Hold the folder's lock; see `run_lock`."""
        return run_lock.locked(self._path, command, part)


def run_folder_at(named: Named | RunFolder) -> RunFolder:
    """The folder of that path or URL; raises `InputError` for a URL with credentials in it."""
    if isinstance(named, RunFolder):
        return named
    name = os.fspath(named)
    if is_url(name):
        from ddfa_batch.tasks.files.remote_folder import RemoteFolder

        return RemoteFolder(name)
    return LocalFolder(Path(name))
