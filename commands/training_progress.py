"""How far a training is: the branch selected, the vertex errors, the validation error, speed and time left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.progress import Step, open_display
from ddfa_batch.commands.wording import count

if TYPE_CHECKING:
    from ddfa_batch.pipeline.train import TrainingStart
    from ddfa_batch.tasks.training.state import Record


class TrainingProgress:
    """Shows every iteration of a training; a plain line for each where no terminal is."""

    def __init__(self, iterations: int, samples: int, quiet: bool) -> None:
        self._iterations, self._samples, self._quiet = iterations, samples, quiet
        self._display = open_display(quiet, plain_every=0.0)
        self._validation: tuple[str, ...] = ()

    def begun(self, start: TrainingStart) -> None:
        """Say what is trained on."""
        if self._quiet:
            return
        for note in start.notes:
            click.echo(note)
        total = self._samples * self._iterations
        click.echo(
            f"The net has {start.parameters / 1e6:.2f} M parameters and {start.macs / 1e6:.1f} M MACs "
            f"({start.macs_as_paper / 1e6:.1f} M as the paper counts, with normalisation)."
        )
        click.echo(
            f"{count(start.n_training, 'clip')} to train on, {start.n_validation:,} held out; {total:,} "
            f"samples on {start.device}."
        )
        if start.resumed:
            click.echo(f"Resuming after iteration {start.resumed:,} of {self._iterations:,}.")
        self._display.show(Step("the first iteration"))

    def __call__(self, record: Record) -> None:
        """Show one iteration."""
        if record.validation is not None:
            self._validation = (f"validation {record.validation:.2f} %",)
        errors = ", ".join(f"{name} {error:.2f}" for name, error in record.errors.items())
        details = (
            record.selected,
            f"vertex error {errors} px",
            *self._validation,
            f"{record.pixels} px",
            f"{self._samples / max(record.seconds, 1e-3):,.0f} samples/s",
        )
        self._display.show(Step("training", record.iteration + 1, self._iterations, "iterations", details))

    def close(self) -> None:
        """Make room for what is said afterwards."""
        self._display.close()
