"""What is to do of a run: shards without a good receipt, and error rows that a user wants done again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ddfa_batch.pipeline import graph
from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.progress import Totals
from ddfa_batch.pipeline.receipts import good_receipts
from ddfa_batch.pipeline.requirements import requirements
from ddfa_batch.schemas.config import Execution, RunPart
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.files import store


@dataclass(frozen=True)
class Retry:
    """Which error rows of finished shards are done again, and by which stages."""

    #: Some of `errors.ERROR_KINDS`.
    kinds: frozenset[str]
    #: What is done to a shard that has such rows.
    stages: graph.Stages

    def count(self, receipt: Receipt) -> int:
        """How many rows of a shard are done again."""
        return sum(n for kind, n in receipt.errors.items() if kind in self.kinds)

    def kept(self, receipt: Receipt) -> Receipt:
        """The receipt of a shard without those rows."""
        errors = {kind: n for kind, n in receipt.errors.items() if kind not in self.kinds}
        images = receipt.rows[store.IMAGES] - self.count(receipt)
        return replace(receipt, rows={**receipt.rows, store.IMAGES: images}, errors=errors)


@dataclass(frozen=True)
class Outstanding:
    """What is to do of a run, and what is done."""

    #: Shards without a receipt.
    pending: list[int]
    #: Shards that are done but for error rows which are done again: their receipts without those.
    again: dict[int, Receipt]
    #: What does them again.
    retry: Retry | None
    #: Inputs of all shards that are looked at.
    n_inputs: int
    #: Inputs of the pending shards.
    n_pending: int
    #: Error rows that are done again.
    n_retried: int
    #: The receipts of what is done.
    totals: Totals

    @staticmethod
    def of(run: Run, retry: Retry | None, part: RunPart | None = None) -> Outstanding:
        """What is to do of a run, or of a part of it."""
        shards = range(run.n_shards) if part is None else part.shards(run.n_shards)
        again: dict[int, Receipt] = {}
        totals, n_retried, done = Totals(), 0, set()
        for receipt in good_receipts(run, shards):
            done.add(receipt.shard)
            if retry is not None and (failed := retry.count(receipt)):
                again[receipt.shard], n_retried = retry.kept(receipt), n_retried + failed
            totals = totals.plus(again.get(receipt.shard, receipt))
        pending = [shard for shard in shards if shard not in done]
        n_inputs, n_pending = (sum(len(run.inputs_of(shard)) for shard in some) for some in (shards, pending))
        return Outstanding(pending, again, retry, n_inputs, n_pending, n_retried, totals)

    @property
    def shards(self) -> list[int]:
        """The shards there is something to do in."""
        return sorted([*self.pending, *self.again])

    def job(self, run: Run, stages: graph.Stages, execution: Execution, few: int) -> graph.Job:
        """It as the graph takes it."""
        return graph.Job(
            run.folder.address,
            stages,
            requirements(run),
            execution,
            self.n_pending + self.n_retried < few,
            frozenset(self.again),
            self.retry.stages if self.retry is not None else {},
        )
