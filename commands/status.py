"""`ddfa-batch status`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.options import PATH
from ddfa_batch.commands.run_reports import limited, products
from ddfa_batch.commands.wording import count
from ddfa_batch.schemas.errors import ERROR_KINDS, DdfaError

if TYPE_CHECKING:
    from ddfa_batch.pipeline.plan import Run
    from ddfa_batch.pipeline.progress import Totals

#: Faults that are named; the others are counted.
_FAULTS_NAMED = 20


@click.command(short_help="Say how far a run is, and prove that its counts add up.")
@click.argument("out", type=PATH)
def status(out: Path) -> None:
    """Say how far the run in OUT is, and prove that its counts add up.

    Exit code 0 if everything that is finished adds up, 1 otherwise.

    \b
    Example:  ddfa-batch status out/
    """
    from ddfa_batch.pipeline import plan, receipts

    run = plan.read_run(out)
    totals, left = receipts.total(run), len(receipts.pending_shards(run))
    click.echo("\n".join(_lines(run, totals, left)))
    if found := receipts.verify_run(run):
        for fault in found[:_FAULTS_NAMED]:
            click.echo(f"wrong:   {fault}", err=True)
        wrong = f"{count(len(found), 'thing')} in {out} {'does' if len(found) == 1 else 'do'} not add up"
        raise DdfaError(f"{wrong}; the command that made the run mends it, with --verify.")
    click.echo("Every finished shard adds up: one row per input, one row per face.")


def _lines(run: Run, totals: Totals, left: int) -> list[str]:
    with_faces = totals.images - totals.no_face - totals.n_errors
    return [
        f"{run.kind} of {run.source}, planned {run.created}, model {run.model.name}",
        f"shards:  {totals.shards_done:,} of {run.n_shards:,} done" + ("" if left else ", complete"),
        f"images:  {totals.images:,} of {run.n_inputs:,}",
        f"         {with_faces:,} with faces, {totals.no_face:,} without, {totals.n_errors:,} errors",
        *[f"           {n:,} {kind}: {ERROR_KINDS.get(kind, '')}" for kind, n in totals.errors],
        f"made:    {products(run, totals)}",
        *[f"note:    {note}" for note in [*limited(totals), *run.notes]],
        *(["The run is not complete: the same command resumes it."] if left else []),
    ]
