"""`ddfa-batch compact`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.config_file import config_option
from ddfa_batch.commands.options import RUN_PLACE
from ddfa_batch.commands.regroup_options import RegroupSettings, regroup_options, write_regrouped

if TYPE_CHECKING:
    from ddfa_batch.tasks.files.run_folders import Named


@click.command(short_help="The same tables in few large files, sorted, for those who query them.")
@click.argument("run", metavar="OUT", type=RUN_PLACE)
@click.argument("new", type=RUN_PLACE)
@click.option("--sort", metavar="COLUMN", help="Sort the faces of each file: yaw, score …  [default: as the inputs]")
@regroup_options
@config_option
def compact(run: Named, new: Named, sort: str | None, settings: RegroupSettings) -> None:
    """Write the tables of the run in OUT to NEW, a run of its own, in few large files.

    Ids, numbers and tracks are the same. Row groups are small and sorted, so that whoever asks for some yaws reads
    little else. Dense meshes are left out: they are rebuilt from the parameters, bit for bit, when they are asked for.
    OUT is not changed, and is what `process` goes on with.

    \b
    Examples:
      ddfa-batch compact out/ compact/
      ddfa-batch compact out/ by-yaw/ --sort yaw
      ddfa-batch compact s3://bucket/runs/a/ s3://bucket/compact/
    """
    from ddfa_batch.pipeline.regroup_plan import compact_request
    from ddfa_batch.pipeline.results import open_run
    from ddfa_batch.tasks.files.remote_calls import limited

    with limited(settings.remote):
        write_regrouped(compact_request(open_run(run), new, sort, settings.shard_size), settings)
