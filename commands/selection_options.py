"""Which faces of a run a command takes: options that `render` and `export` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ddfa_batch.commands.options import grouped

if TYPE_CHECKING:
    from ddfa_batch.pipeline.selected_faces import Selection

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class SelectionOptions:
    """Which faces are wanted, as the user said it; as `Selection` has them."""

    #: A condition on their columns.
    where: str | None
    #: So many with the least score.
    worst: int | None
    #: So many at random.
    random: int | None
    #: Decides which.
    seed: int
    #: What could not be read.
    errors: bool

    def selection(self) -> Selection:
        """The same as the pipeline takes it; raises `click.UsageError` for options that exclude each other."""
        from ddfa_batch.pipeline.selected_faces import Selection

        if self.worst is not None and self.random is not None:
            raise click.UsageError("--worst and --random exclude each other.")
        if self.errors and (self.where is not None or self.worst is not None or self.random is not None):
            raise click.UsageError("--errors shows what has no face; leave out --where, --worst and --random.")
        return Selection(self.where, self.worst, self.random, self.seed, self.errors)


def selection_options(errors: bool = True) -> Callable[[F], F]:
    """The options of a selection, which reach the command as `selected`."""
    options = [
        click.option(
            "--where",
            metavar="CONDITION",
            help='Faces with these values, as in SQL: "yaw > 40 and score > 0.9"; or inputs: "n_faces > 2".',
        ),
        click.option("--worst", type=click.IntRange(1), metavar="N", help="So many faces with the least score."),
        click.option("--random", type=click.IntRange(1), metavar="N", help="So many faces at random."),
        click.option(
            "--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Decides which."
        ),
        click.option("--errors", is_flag=True, hidden=not errors, help="The inputs that ended as error rows."),
    ]
    return grouped("selected", SelectionOptions, options)
