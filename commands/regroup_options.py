"""Options of the commands that make a run of other runs, and how they do it: compact, select, merge."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.execution import carry_out
from ddfa_batch.commands.options import RunSettings, grouped, quiet_option, remote_options
from ddfa_batch.commands.wording import count
from ddfa_batch.schemas.config import MAX_SHARD_SIZE, RemoteLimits

if TYPE_CHECKING:
    from ddfa_batch.pipeline.regroup_plan import Regrouping


@dataclass(frozen=True)
class RegroupSettings:
    """How the run is written."""

    #: Inputs of a file; None for some ten thousands.
    shard_size: int | None
    #: Replace the run in NEW.
    overwrite: bool
    #: Read what is finished, and do anew what is damaged.
    verify: bool
    #: How often stores behind URLs are asked, and how many seconds each attempt may take.
    remote_attempts: int
    remote_timeout: float
    #: Print errors only.
    quiet: bool

    @property
    def remote(self) -> RemoteLimits:
        """How long stores are waited for."""
        return RemoteLimits(self.remote_attempts, self.remote_timeout)

    def as_run(self) -> RunSettings:
        """The settings of a run in this process."""
        return RunSettings(
            workers=1,
            scheduler="in-process",
            shard_size=self.shard_size,
            overwrite=self.overwrite,
            verify=self.verify,
            remote_attempts=self.remote_attempts,
            remote_timeout=self.remote_timeout,
            quiet=self.quiet,
        )


regroup_options = grouped(
    "settings",
    RegroupSettings,
    [
        click.option(
            "--shard-size",
            type=click.IntRange(1, MAX_SHARD_SIZE),
            metavar="N",
            help="Inputs of a file.  [default: 65,536]",
        ),
        click.option("--overwrite", is_flag=True, help="Replace the run in NEW."),
        click.option("--verify", is_flag=True, help="Read what is finished first, and do anew what is damaged."),
        *remote_options,
        quiet_option,
    ],
)


def write_regrouped(request: Regrouping, settings: RegroupSettings) -> None:
    """Announce a run that is made of others, write it, and say what came of it."""
    from ddfa_batch.pipeline.regroup import regroup

    of = " and ".join(str(source.run.folder) for source in request.sources)
    words = f"{count(request.run.n_inputs, 'input')} of {of} in {count(request.run.n_shards, 'file')} a table."
    carry_out(functools.partial(regroup, request), lambda run: words, settings.as_run())
