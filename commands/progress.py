"""How far a run or a training is: one live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.run_reports import announcement
from ddfa_batch.commands.wording import count, duration

if TYPE_CHECKING:
    from ddfa_batch.pipeline.plan import Run, RunRequest
    from ddfa_batch.pipeline.progress import Progress
    from ddfa_batch.pipeline.train import Progress as TrainingProgress
    from ddfa_batch.tasks.training.state import Record


class LiveLine:
    """A line on stderr that the next one replaces on a terminal, and that stays elsewhere."""

    def __init__(self) -> None:
        self.live, self._last = sys.stderr.isatty(), ""

    def show(self, text: str) -> None:
        """Show `text` in place of what was shown before."""
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            click.echo("\r" + text[:width].ljust(min(len(self._last), width)), nl=False, err=True)
        else:
            click.echo(text, err=True)
        self._last = text

    def end(self) -> None:
        """Leave what is shown and go to the next line."""
        if self.live and self._last:
            click.echo(err=True)


class ProgressBar:
    """Progress in images and faces: one live line on a terminal, a plain line now and then elsewhere."""

    #: Seconds between plain lines, and between redraws.
    _PLAIN_EVERY, _REDRAW_EVERY = 15.0, 0.1
    _WIDTH = 24

    def __init__(self, request: RunRequest, quiet: bool) -> None:
        self._request, self._quiet = request, quiet
        self._line = LiveLine()
        self._start = self._shown = time.monotonic()
        self._before: int | None = None
        self.done_now = 0

    @property
    def seconds(self) -> float:
        """Seconds since the first call."""
        return time.monotonic() - self._start

    def __call__(self, progress: Progress) -> None:
        """Show where the run is; the first call with a planned run also announces it."""
        now, run = time.monotonic(), progress.run
        if run is None:
            return
        if self._before is None:
            self._before, self._start, self._shown = progress.totals.images, now, now
            if not self._quiet:
                click.echo("\n".join([announcement(self._request, run.n_inputs, run.shard_size), *run.notes]))
                if self._before:
                    click.echo(f"Resuming: {self._before:,} images are done already.")
            return
        self.done_now = progress.images - self._before
        if self._quiet:
            return
        every = self._REDRAW_EVERY if self._line.live else self._PLAIN_EVERY
        if now - self._shown < every and progress.images < run.n_inputs:
            return
        self._shown = now
        self._line.show(self._text(run, progress))

    def _text(self, run: Run, progress: Progress) -> str:
        done = progress.images
        share = done / run.n_inputs
        rate = self.done_now / max(self.seconds, 1e-3)
        left = (run.n_inputs - done) / rate if rate else 0.0
        filled = int(share * self._WIDTH)
        bar = f"[{'#' * filled}{'.' * (self._WIDTH - filled)}] " if self._line.live else ""
        end = f"{duration(left)} left" if done < run.n_inputs else f"in {duration(self.seconds)}"
        errors = f", {count(progress.n_errors, 'error')}" if progress.n_errors else ""
        return (
            f"{bar}{share:4.0%}  {done:,}/{run.n_inputs:,} images, {count(progress.faces, 'face')}{errors}, "
            f"{rate:,.0f} images/s, {end}"
        )

    def close(self) -> None:
        """End the live line."""
        self._line.end()


class TrainingBar:
    """A line per iteration: the branch selected, the vertex errors, the validation error, speed and time left."""

    def __init__(self, iterations: int, samples: int, quiet: bool) -> None:
        self._iterations, self._samples, self._quiet = iterations, samples, quiet
        self._line = LiveLine()
        self._validation = ""

    def begun(self, progress: TrainingProgress) -> None:
        """Say what is trained on."""
        if self._quiet:
            return
        for note in progress.notes:
            click.echo(note)
        total = self._samples * self._iterations
        click.echo(f"The net has {progress.parameters / 1e6:.2f} M parameters and {progress.macs / 1e6:.1f} M MACs.")
        click.echo(
            f"{count(progress.n_training, 'clip')} to train on, {progress.n_validation:,} held out; {total:,} "
            f"samples on {progress.device}."
        )
        if progress.resumed:
            click.echo(f"Resuming after iteration {progress.resumed:,} of {self._iterations:,}.")

    def __call__(self, record: Record) -> None:
        """Show one iteration."""
        if self._quiet:
            return
        if record.validation is not None:
            self._validation = f", validation {record.validation:.2f} %"
        done = record.iteration + 1
        errors = ", ".join(f"{name} {error:.2f}" for name, error in record.errors.items())
        self._line.show(
            f"{done:,}/{self._iterations:,}  {record.selected}  vertex error {errors} px{self._validation}, "
            f"{record.pixels} px, {self._samples / max(record.seconds, 1e-3):,.0f} samples/s, "
            f"{duration(record.seconds * (self._iterations - done))} left"
        )

    def close(self) -> None:
        """End the live line."""
        self._line.end()
