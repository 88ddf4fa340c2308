"""How far a run is, in words: what it is doing, and what its images came to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

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
        self._display.show(run_step(progress))


def run_step(progress: Progress) -> Step:
    """A run's progress as it is shown."""
    from ddfa_batch.pipeline.progress import Phase

    if progress.phase is Phase.LISTING:
        return Step(progress.phase, progress.listed or None)
    if progress.run is None or progress.phase not in (Phase.WORKING, Phase.DONE):
        return Step(progress.phase)
    return Step(Phase.WORKING, progress.images, progress.n_inputs, "images", _details(progress, progress.run))


def _details(progress: Progress, run: Run) -> tuple[str, ...]:
    made = count(progress.faces, "face") if run.kind != "synth-videos" else products(run, progress.totals)
    errors = (count(progress.n_errors, "error"),) if progress.n_errors else ()
    return (made, *errors)
