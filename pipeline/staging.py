"""How a shard gets its files: written under staged names, flushed, renamed, and then its receipt."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ddfa_batch.schemas.decoding import Document, decode_json
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.faces import ImageRecord
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.files import atomic, store
from ddfa_batch.tasks.files.in_flight import InFlight

#: How the note of a shard ends that is being replaced.
_NOTE = ".replacement"


@dataclass(frozen=True)
class StagedFile:
    """A file or folder of a shard that is written, under a staged name."""

    #: Where it lies now, absolute.
    work: str
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
        self._out = Path(out)
        self._staged: dict[str, Path] = {}

    def path(self, name: str) -> Path:
        """Where to write the file that is to be called `name`."""
        return self.add(name, atomic.staged(self._out / name))

    def add(self, name: str, work: Path) -> Path:
        """Take in a file or folder that is written elsewhere and is to be called `name`."""
        self._staged[name] = work
        return work

    def shard(self, records: list[ImageRecord], rows: dict[str, int]) -> StagedShard:
        """What was written, of a shard with these images, and `rows` in its other tables."""
        return StagedShard(
            {name: StagedFile(str(w), store.size_of(w), store.checksum(w)) for name, w in self._staged.items()},
            rows={store.IMAGES: len(records), **rows},
            no_face=sum(record.status == "no_face" for record in records),
            errors=dict(Counter(r.error_kind for r in records if r.error_kind is not None)),
        )

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


def commit(out: str, shard: int, staged: StagedShard) -> Receipt:
    """Flush a shard's files to disk, give them their names, and write its receipt, which is all the client sees.

    Nothing here computes: it waits for the disk, while the worker is at the next shard already. Doing it again, after
    any part of it was done, ends the same.
    """
    folder = Path(out)
    for name, file in staged.files.items():
        _publish(file, folder / name)
    receipt = Receipt(
        shard,
        staged.rows,
        staged.no_face,
        staged.errors,
        files={name: file.size for name, file in staged.files.items()},
        checksums={name: file.checksum for name, file in staged.files.items()},
    )
    store.write_receipt(folder, receipt)
    InFlight.forget(folder, shard)
    return receipt


def replace_shard(out: str, shard: int, staged: StagedShard) -> Receipt:
    """Commit a shard in place of the one that is there: all of its files or, whenever this is cut short, none.

    What is to get its name is written down first; from then on `finish_replacement` does the rest. While files of the
    old and the new stand side by side the shard has no receipt, so that nobody reads both.
    """
    folder, note = Path(out), _note(Path(out), shard)
    if not note.exists():
        for file in staged.files.values():
            if Path(file.work).exists():  # else this was done before, and commit finds it so
                atomic.flush(Path(file.work))
        work = atomic.staged(folder / store.SHARDS / store.shard_name(shard))
        work.write_text(json.dumps(asdict(staged)), encoding="utf-8")
        atomic.publish(work, note)
    return _replaced(folder, shard, staged)


def finish_replacement(out: Path, shard: int) -> None:
    """Finish a replacement that was cut short, if there is one; what cannot be finished leaves the shard undone."""
    note = _note(out, shard)
    if not note.exists():
        return
    try:
        _replaced(out, shard, decode_json(note.read_bytes(), StagedShard, Document(str(note), RunFolderError, "")))
    except RunFolderError:
        store.remove_receipt(out, shard)
        note.unlink()


def begun_replacements(out: Path) -> list[int]:
    """Shards whose replacement was cut short."""
    return sorted(int(note.name[1:].split(".")[0]) for note in (out / store.SHARDS).glob(f".[0-9]*{_NOTE}"))


def _note(out: Path, shard: int) -> Path:
    return out / store.SHARDS / f".{store.shard_name(shard)}{_NOTE}"


def _replaced(out: Path, shard: int, staged: StagedShard) -> Receipt:
    store.remove_receipt(out, shard)
    receipt = commit(str(out), shard, staged)
    _note(out, shard).unlink(missing_ok=True)
    return receipt


def _publish(file: StagedFile, path: Path) -> None:
    try:
        atomic.publish(Path(file.work), path)
    except FileNotFoundError:
        if not path.exists() or store.checksum(path) != file.checksum:
            raise RunFolderError(
                f"{path} was written and is gone before it got its name; run the same command again."
            ) from None
