"""How far a run is: receipts added up, and what is known of the shards that are at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ddfa_batch.pipeline.plan import Run
from ddfa_batch.schemas.run import HistoryEntry, Receipt
from ddfa_batch.tasks.files import store


class Phase(StrEnum):
    """What a run is doing, in the order in which it does it."""

    #: Listing the inputs; `Progress.listed` counts them.
    LISTING = "listing inputs"
    #: Loading and checking the model.
    MODEL = "loading the model"
    #: Writing the plan, or finding the run planned. From its end on `Progress.run` is known.
    PLANNING = "planning"
    #: Starting or reaching the workers, and verifying them.
    WORKERS = "starting workers"
    #: Shards are at work.
    WORKING = "working"
    #: All shards are done; files are joined.
    JOINING = "joining files"
    #: Nothing is left to do.
    DONE = "done"


@dataclass(frozen=True)
class Totals:
    """Receipts added up."""

    #: Shards with a receipt.
    shards_done: int = 0
    #: Rows by table.
    rows: tuple[tuple[str, int], ...] = ()
    #: Images without a face.
    no_face: int = 0
    #: Error rows by kind, the most first.
    errors: tuple[tuple[str, int], ...] = ()

    def count(self, table: str) -> int:
        """Rows of a table."""
        return dict(self.rows).get(table, 0)

    @property
    def images(self) -> int:
        """Inputs that are done, one row each."""
        return self.count(store.IMAGES)

    @property
    def faces(self) -> int:
        """Faces found."""
        return self.count(store.FACES)

    @property
    def n_errors(self) -> int:
        """Images that ended as an error row."""
        return sum(count for _, count in self.errors)

    def plus(self, receipt: Receipt, counted: Receipt | None = None) -> Totals:
        """These totals with one more receipt; where they hold `counted` of it already, with what it adds to that."""
        rows, errors = Counter(dict(self.rows)), Counter(dict(self.errors))
        rows.update(receipt.rows)
        errors.update(receipt.errors)
        if counted is not None:
            rows.subtract(counted.rows)
            errors.subtract(counted.errors)
        return Totals(
            self.shards_done + (counted is None),
            tuple(rows.items()),
            self.no_face + receipt.no_face - (counted.no_face if counted is not None else 0),
            tuple(sorted((+errors).items(), key=lambda pair: (-pair[1], pair[0]))),
        )


@dataclass(frozen=True)
class ShardProgress:
    """What a shard at work has done so far."""

    #: Which shard.
    shard: int
    #: Inputs that are done, errors among them.
    images: int = 0
    #: Faces found in them.
    faces: int = 0
    #: Inputs that ended as an error row.
    errors: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a run is. What is told of it never goes back, but for shards whose worker died."""

    #: What is being done.
    phase: Phase
    #: The run, once it is planned.
    run: Run | None = None
    #: The receipts of all shards that are done, of earlier commands too.
    totals: Totals = Totals()
    #: Inputs of the shards that this command is about, once the run is planned.
    n_inputs: int = 0
    #: Inputs listed so far, while they are listed.
    listed: int = 0
    #: Shards at work, of which something is known.
    at_work: tuple[ShardProgress, ...] = ()
    #: What this command adds to the run's history.
    changes: tuple[HistoryEntry, ...] = ()

    @property
    def images(self) -> int:
        """Inputs done, those within shards at work too."""
        return self.totals.images + sum(shard.images for shard in self.at_work)

    @property
    def faces(self) -> int:
        """Faces found, those within shards at work too."""
        return self.totals.faces + sum(shard.faces for shard in self.at_work)

    @property
    def n_errors(self) -> int:
        """Error rows, those within shards at work too."""
        return self.totals.n_errors + sum(shard.errors for shard in self.at_work)


#: What is called with every step of a run, in the thread of the caller.
Report = Callable[[Progress], None]


def unheard(_: Progress) -> None:
    """The `Report` of nobody who listens."""
