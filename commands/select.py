"""`ddfa-batch select`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.config_file import config_option
from ddfa_batch.commands.options import RUN_PLACE
from ddfa_batch.commands.regroup_options import RegroupSettings, regroup_options, write_regrouped
from ddfa_batch.commands.selection_options import SelectionOptions, selection_options

if TYPE_CHECKING:
    from ddfa_batch.tasks.files.run_folders import Named


@click.command(short_help="Some faces of a run as a run of its own.")
@click.argument("run", metavar="OUT", type=RUN_PLACE)
@click.argument("new", type=RUN_PLACE)
@selection_options()
@regroup_options
@config_option
def select(run: Named, new: Named, selected: SelectionOptions, settings: RegroupSettings) -> None:
    """Write the faces of the run in OUT that are chosen, and the inputs they are of, to NEW, a run of its own.

    Inputs are numbered anew; `source` in NEW/plan.parquet is their image_id in OUT. Faces keep their face_index, and
    tracks their track_id.

    \b
    Examples:
      ddfa-batch select out/ profiles/ --where "abs(yaw) > 60 and score > 0.95"
      ddfa-batch select out/ crowds/ --where "n_faces > 10"
      ddfa-batch select out/ sample/ --random 1000 --seed 1
    """
    from ddfa_batch.pipeline.regroup_plan import select_request
    from ddfa_batch.pipeline.results import open_run
    from ddfa_batch.tasks.files.remote_calls import limited

    with limited(settings.remote):
        write_regrouped(select_request(open_run(run), new, selected.selection(), settings.shard_size), settings)
