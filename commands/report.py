"""`ddfa-batch report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.config_file import config_option
from ddfa_batch.commands.options import PATH, RUN_PLACE, remote_options
from ddfa_batch.commands.wording import byte_size
from ddfa_batch.schemas.config import RemoteLimits

if TYPE_CHECKING:
    from ddfa_batch.tasks.files.run_folders import Named


@click.command(short_help="One HTML page that shows what a run found, how fast, and what failed.")
@click.argument("out", type=RUN_PLACE)
@click.option("--page", type=PATH, metavar="FILE", help="Where to.  [default: OUT/report.html]")
@click.option("--viewer/--no-viewer", default=True, show_default=True, help="With some faces that one can turn.")
@click.option(
    "--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Decides which faces are shown."
)
@remote_options[0]
@remote_options[1]
@config_option
def report(out: Named, page: Path | None, viewer: bool, seed: int, remote_attempts: int, remote_timeout: float) -> None:
    """Write a page that shows the run in OUT: counts, times, errors, distributions, poses, contact sheets, videos.

    One file that needs no network and can be sent: pictures of some faces are in it. Photographs are read again from
    where the run had them; of those that are gone the numbers are told.

    \b
    Examples:
      ddfa-batch report out/
      ddfa-batch report out/ --page monday.html --no-viewer
      ddfa-batch report s3://bucket/runs/a/
    """
    from ddfa_batch.pipeline.report import write_report
    from ddfa_batch.tasks.files.remote_calls import limited
    from ddfa_batch.tasks.files.run_folders import run_folder_at
    from ddfa_batch.tasks.files.store import REPORT

    with limited(RemoteLimits(remote_attempts, remote_timeout)):
        where = write_report(out, page, seed, viewer)
        size = page.stat().st_size if page else run_folder_at(out).size(REPORT)
    click.echo(f"{where} ({byte_size(size)}): open it in a browser.")
