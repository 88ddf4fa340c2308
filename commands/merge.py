"""`ddfa-batch merge`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.config_file import config_option
from ddfa_batch.commands.options import RUN_PLACE
from ddfa_batch.commands.regroup_options import RegroupSettings, regroup_options, write_regrouped

if TYPE_CHECKING:
    from ddfa_batch.tasks.files.run_folders import Named


@click.command(short_help="Several runs as one.")
@click.argument("runs", metavar="RUNS...", type=RUN_PLACE, nargs=-1, required=True)
@click.argument("new", type=RUN_PLACE)
@regroup_options
@config_option
def merge(runs: tuple[Named, ...], new: Named, settings: RegroupSettings) -> None:
    """Write the tables of several runs of one model to NEW, a run of its own.

    Inputs, faces and tracks are numbered anew, those of the first run first. Keys become relative to the folder that
    all inputs lie in. Of an input that several runs have the first one's rows are taken, and it is told how many.

    \b
    Example:
      ddfa-batch merge monday/ tuesday/ week/
    """
    from ddfa_batch.pipeline.regroup_plan import merge_request
    from ddfa_batch.pipeline.results import open_run
    from ddfa_batch.tasks.files.remote_calls import limited

    with limited(settings.remote):
        write_regrouped(merge_request([open_run(run) for run in runs], new, settings.shard_size), settings)
