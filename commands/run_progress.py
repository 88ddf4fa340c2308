"""How far a run is, in words: what it is doing, and what its images came to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ddfa_batch.commands.json_events import EVENTS
from ddfa_batch.commands.progress import Display, Step
from ddfa_batch.commands.run_reports import products
from ddfa_batch.commands.wording import count

if TYPE_CHECKING:
    from ddfa_batch.pipeline.plan import Run
    from ddfa_batch.pipeline.progress import Progress


class RunProgress:
    """Shows a run's progress, and keeps what its summary needs: the time it took, and what was done before."""

    def __init__(self, display: Display, announce: Callable[[Run, Progress], None] = lambda run, now: None) -> None:
        self._display, self._announce = display, announce
        self._start = time.monotonic()
        self._run: Run | None = None
        self._before = self._images = 0

    @property
    def seconds(self) -> float:
        """Seconds since the run was planned, or found planned."""
        return time.monotonic() - self._start

    @property
    def done_now(self) -> int:
        """Images done since then."""
        return self._images - self._before

    def __call__(self, progress: Progress) -> None:
        """Show where the run is; what it is gets announced once, as soon as it is planned."""
        if progress.run is not None and self._run is None:
            self._run, self._before, self._start = progress.run, progress.totals.images, time.monotonic()
            self._display.close()
            self._announce(self._run, progress)
        self._images = progress.images
        EVENTS.hear(progress)
        self._display.show(run_step(progress))


def run_step(progress: Progress) -> Step:
    """A run's progress as it is shown."""
    from ddfa_batch.pipeline.progress import Phase

    waits_for = _waits_for(progress)
    if progress.phase is Phase.LISTING:
        return Step(progress.phase, progress.listed or None, waits_for=waits_for)
    if progress.run is None or progress.phase not in (Phase.WORKING, Phase.DONE):
        return Step(progress.phase, waits_for=waits_for)
    details = _details(progress, progress.run)
    return Step(Phase.WORKING, progress.images, progress.n_inputs, "images", details, waits_for)


def _waits_for(progress: Progress) -> str:
    """What would have to happen next in a run."""
    from ddfa_batch.pipeline.progress import Phase

    if progress.phase is not Phase.WORKING:
        return _NEXT[progress.phase]
    if progress.images >= progress.n_inputs:
        return "the last shards to be written, and the workers to end"
    named = ", ".join(str(shard.shard) for shard in progress.at_work[:_NAMED])
    more = f" and {len(progress.at_work) - _NAMED:,} more" if len(progress.at_work) > _NAMED else ""
    left = f"{progress.n_inputs - progress.images:,} of {progress.n_inputs:,} images"
    which = "is shard" if len(progress.at_work) == 1 else "are shards"
    return f"{left}; at work {which} {named}{more}" if named else left


#: What a run waits for, by what it is doing; keys are those of `Phase`.
_NEXT = {
    "listing inputs": "the rest of the list of inputs, or for its folder to be read",
    "loading the model": "the model to be loaded",
    "planning": "the plan and the receipts to be read or written, or for whoever plans this run",
    "starting workers": "workers to start, or to answer",
    "joining files": "files of the shards to be joined; all images are done",
    "done": "the command to end; all is written",
}
#: Shards at work that are named; the others are counted.
_NAMED = 8


def _details(progress: Progress, run: Run) -> tuple[str, ...]:
    made = count(progress.faces, "face") if run.kind != "synth-videos" else products(run, progress.totals)
    errors = (count(progress.n_errors, "error"),) if progress.n_errors else ()
    return (made, *errors)
