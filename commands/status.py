"""`ddfa-batch status`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.options import PATH, RUN_PLACE, remote_options
from ddfa_batch.commands.run_reports import change, limited, products
from ddfa_batch.commands.wording import count, printable
from ddfa_batch.schemas.config import RemoteLimits
from ddfa_batch.schemas.errors import ERROR_KINDS, DdfaError

if TYPE_CHECKING:
    from ddfa_batch.pipeline.plan import Run
    from ddfa_batch.pipeline.progress import Totals
    from ddfa_batch.tasks.files.run_folders import Named

#: Faults that are named; the others are counted.
_FAULTS_NAMED = 20


@click.command(short_help="Say how far a run is, and prove that its counts add up.")
@click.argument("out", type=RUN_PLACE)
@click.option("--errors", is_flag=True, help="List the inputs that failed, by kind, with the reason of each.")
@click.option("--errors-csv", type=PATH, metavar="FILE", help="Write them to a CSV file: key, kind, reason.")
@remote_options[0]
@remote_options[1]
def status(out: Named, errors: bool, errors_csv: Path | None, remote_attempts: int, remote_timeout: float) -> None:
    """Say how far the run in OUT is, and prove that its counts add up.

    Exit code 0 if everything that is finished adds up, 1 otherwise.

    \b
    Examples:
      ddfa-batch status out/
      ddfa-batch status out/ --errors
      ddfa-batch status s3://bucket/runs/a/
      ddfa-batch status out/ --errors-csv errors.csv
    """
    from ddfa_batch.tasks.files.remote_calls import limited

    with limited(RemoteLimits(remote_attempts, remote_timeout)):
        _tell(out, errors, errors_csv)


def _tell(out: Named, errors: bool, errors_csv: Path | None) -> None:
    from ddfa_batch.pipeline import failures, plan, receipts
    from ddfa_batch.pipeline.video_accounts import video_account

    run = plan.read_run(out)
    totals, left = receipts.total(run), len(receipts.pending_shards(run))
    videos = video_account(run, complete=not left)
    click.echo("\n".join(_lines(run, totals, left, videos.lines)))
    if errors or errors_csv:
        failed = failures.failed_inputs(run)
        for line in _failures(failed.to_pylist()) if errors else ():
            click.echo(line)
        if errors_csv:
            failures.write_errors_csv(failed, errors_csv)
            click.echo(f"{count(len(failed), 'failed input')} in {errors_csv}")
    if found := [*receipts.verify_run(run), *videos.faults]:
        for fault in found[:_FAULTS_NAMED]:
            click.echo(f"wrong:   {fault}", err=True)
        wrong = f"{count(len(found), 'thing')} in {out} {'does' if len(found) == 1 else 'do'} not add up"
        raise DdfaError(f"{wrong}; the command that made the run mends it, with --verify.")
    proven = ", one row per frame and video, one track per face" if videos.lines and not left else ""
    click.echo(f"Every finished shard adds up: one row per input, one row per face{proven}.")


def _failures(failed: list[dict[str, str]]) -> Iterator[str]:
    for kind, rows in itertools.groupby(failed, lambda row: row["error_kind"]):
        yield f"{kind}: {ERROR_KINDS.get(kind, '')}"
        for row in rows:
            yield f"  {printable(row['key'])}: {printable(row['error_message'])}"


def _lines(run: Run, totals: Totals, left: int, videos: list[str]) -> list[str]:
    with_faces = totals.images - totals.no_face - totals.n_errors
    return [
        f"{run.kind} of {run.source}, planned {run.created}, model {run.model.name}",
        f"shards:  {totals.shards_done:,} of {run.n_shards:,} done" + ("" if left else ", complete"),
        f"images:  {totals.images:,} of {run.n_inputs:,}",
        f"         {with_faces:,} with faces, {totals.no_face:,} without, {totals.n_errors:,} errors",
        *[f"           {n:,} {kind}: {ERROR_KINDS.get(kind, '')}" for kind, n in totals.errors],
        *[f"{'         ' if place else 'videos:  '}{printable(line)}" for place, line in enumerate(videos)],
        f"made:    {products(run, totals)}",
        *[f"history: {entry.when} {change(entry)} ({entry.version})" for entry in run.history],
        *[f"note:    {note}" for note in [*limited(totals), *run.notes]],
        *(["The run is not complete: the same command resumes it."] if left else []),
    ]
