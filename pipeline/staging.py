"""How a shard gets its files: written under staged names, flushed, renamed, and then its receipt."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ddfa_batch.schemas.decoding import Document, decode_json
from ddfa_batch.schemas.errors import FilesGoneError, RunFolderError
from ddfa_batch.schemas.faces import ImageRecord
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.files import atomic, store
from ddfa_batch.tasks.files.in_flight import InFlight
from ddfa_batch.tasks.files.run_folders import Named, RunFolder, run_folder_at

#: The note of a shard that is being replaced.
_NOTE = re.compile(r"\.(\d+)\.replacement")


@dataclass(frozen=True)
class StagedFile:
    """A file or folder of a shard that is written, under a staged name."""

    #: Where it lies now: an absolute path, or what the run's folder calls it (`RunFolder.secure`); None for a file that
    #: has its name already, and keeps it.
    work: str | None
    #: Its bytes.
    size: int
    #: Its XXH3.
    checksum: str


@dataclass(frozen=True)
class StagedShard:
    """A shard's files under their staged names, by the names they will have, and its counts."""

    #: The files, by their names relative to the run.
    files: dict[str, StagedFile]
    #: Rows by table.
    rows: dict[str, int]
    #: Images without a face.
    no_face: int
    #: Error rows by kind.
    errors: dict[str, int]


class Staging:
    """Names to write a shard's files under, and in the end the `StagedShard` of them."""

    def __init__(self, out: str) -> None:
        self._folder = run_folder_at(out)
        self._staged: dict[str, Path] = {}

    def path(self, name: str) -> Path:
        """Where to write the file that is to be called `name`."""
        return self.add(name, self._folder.staged(name))

    def add(self, name: str, work: Path) -> Path:
        """Take in a file or folder that is written elsewhere and is to be called `name`."""
        self._staged[name] = work
        return work

    def shard(self, records: list[ImageRecord], rows: dict[str, int]) -> StagedShard:
        """What was written, of a shard with these images, and `rows` in its other tables."""
        no_face = sum(record.status == "no_face" for record in records)
        errors = dict(Counter(r.error_kind for r in records if r.error_kind is not None))
        return StagedShard(self.files(), {store.IMAGES: len(records), **rows}, no_face, errors)

    def files(self) -> dict[str, StagedFile]:
        """What was written, by the names it will have."""
        return {name: StagedFile(str(w), store.size_of(w), store.checksum(w)) for name, w in self._staged.items()}

    def discard(self) -> None:
        """Remove everything that was written."""
        for work in self._staged.values():
            atomic.discard(work)


@contextlib.contextmanager
def staging(out: str) -> Iterator[Staging]:
    """Give a `Staging` for a shard of the run in `out`; after a fault nothing of it is left."""
    begun = Staging(out)
    try:
        yield begun
    except BaseException:
        begun.discard()
        raise


@contextlib.contextmanager
def staged_work(out: str, name: str) -> Iterator[Path]:
    """Give a path to write the file or folder to that is to be called `name`; after a fault nothing of it is left."""
    work = run_folder_at(out).staged(name)
    try:
        yield work
    except BaseException:
        atomic.discard(work)
        raise


def commit(out: str, shard: int, staged: StagedShard) -> Receipt:
    """Flush a shard's files to disk, give them their names, and write its receipt, which is all the client sees.

    Nothing here computes: it waits for the disk, while the worker is at the next shard already. Doing it again, after
    any part of it was done, ends the same.
    """
    folder = run_folder_at(out)
    for name, file in staged.files.items():
        _publish(folder, file, name)
    receipt = Receipt(
        shard,
        staged.rows,
        staged.no_face,
        staged.errors,
        files={name: file.size for name, file in staged.files.items()},
        checksums={name: file.checksum for name, file in staged.files.items()},
    )
    store.write_receipt(folder, receipt)
    InFlight.forget(folder.work, shard)
    return receipt


def replace_shard(out: str, shard: int, staged: StagedShard) -> Receipt:
    """Commit a shard in place of the one that is there: all of its files or, whenever this is cut short, none.

    What is to get its name is written down first; from then on `finish_replacement` does the rest. While files of the
    old and the new stand side by side the shard has no receipt, so that nobody reads both.
    """
    folder, note = run_folder_at(out), _note(shard)
    if not folder.has(note):
        files = {n: replace(f, work=f.work and folder.secure(f.work, n)) for n, f in staged.files.items()}
        staged = replace(staged, files=files)
        folder.put(note, json.dumps(asdict(staged)).encode())
    return _replaced(folder, shard, _noted(folder, note))


def finish_replacement(out: Named | RunFolder, shard: int) -> None:
    """Finish a replacement that was cut short, if there is one; what cannot be finished leaves the shard undone."""
    folder, note = run_folder_at(out), _note(shard)
    if not folder.has(note):
        return
    try:
        _replaced(folder, shard, _noted(folder, note))
    except RunFolderError:
        folder.remove([store.receipt_name(shard), note])


def begun_replacements(folder: RunFolder) -> list[int]:
    """Shards whose replacement was cut short."""
    notes = (_NOTE.fullmatch(name) for name in folder.entries(store.SHARDS))
    return sorted(int(note.group(1)) for note in notes if note)


def _note(shard: int) -> str:
    return f"{store.SHARDS}/.{store.shard_name(shard)}.replacement"


def _noted(folder: RunFolder, note: str) -> StagedShard:
    """What a note says is to get its name."""
    return decode_json(folder.read(note), StagedShard, Document(folder.where(note), RunFolderError, ""))


def _replaced(folder: RunFolder, shard: int, staged: StagedShard) -> Receipt:
    folder.remove([store.receipt_name(shard)])
    receipt = commit(folder.address, shard, staged)
    folder.remove([_note(shard)])
    return receipt


def _publish(folder: RunFolder, file: StagedFile, name: str) -> None:
    if file.work is None:
        return
    try:
        folder.publish(file.work, name)
    except FileNotFoundError:
        if not folder.has(name) or folder.checksum(name) != file.checksum:
            raise FilesGoneError(
                f"{folder.where(name)} was written and is gone before it got its name; run the same command again."
            ) from None
