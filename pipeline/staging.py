"""How a shard gets its files: written under staged names, flushed, renamed, and then its receipt."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.faces import ImageRecord
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.files import atomic, store
from ddfa_batch.tasks.files.in_flight import InFlight


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


def _publish(file: StagedFile, path: Path) -> None:
    try:
        atomic.publish(Path(file.work), path)
    except FileNotFoundError:
        if not path.exists() or store.checksum(path) != file.checksum:
            raise RunFolderError(
                f"{path} was written and is gone before it got its name; run the same command again."
            ) from None
