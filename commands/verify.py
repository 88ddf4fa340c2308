"""`ddfa-batch verify`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddfa_batch.commands import exit_codes
from ddfa_batch.commands.options import RUN_PLACE, remote_options
from ddfa_batch.commands.wording import count, printable
from ddfa_batch.schemas.config import RemoteLimits
from ddfa_batch.schemas.errors import DdfaError

if TYPE_CHECKING:
    from ddfa_batch.pipeline.verification import Verification
    from ddfa_batch.tasks.files.run_folders import Named

#: Faults that are named; the others are counted.
_NAMED = 20


@click.command(short_help="Read everything in OUT and compare it with what was written down of it.")
@click.argument("out", type=RUN_PLACE)
@click.option("--mend", is_flag=True, help="Let the command that made the run do damaged shards again, when it is run.")
@click.option("--json", "as_json", is_flag=True, help="Print what is found as one JSON object.")
@remote_options[0]
@remote_options[1]
def verify(out: Named, mend: bool, as_json: bool, remote_attempts: int, remote_timeout: float) -> None:
    """Read everything in OUT, a run's folder or a model's, and compare it with what was written down of it.

    Every file of a finished shard against the checksum and the counts in its receipt, tables against each other (ids,
    faces of each image, meshes of each face, tracks and videos), run.json and the plan against the run's seal. Exit
    code 0: all is as it was written; 1: something is not; 4: all that is finished is, but the run is not complete.

    \b
    Examples:
      ddfa-batch verify out/
      ddfa-batch verify out/ --json > verified.json
      ddfa-batch verify s3://bucket/runs/a/
      ddfa-batch verify out/ --mend && ddfa-batch process ./images out/
    """
    from ddfa_batch.schemas.bundle import MANIFEST
    from ddfa_batch.tasks.files.remote_calls import limited

    try:
        with limited(RemoteLimits(remote_attempts, remote_timeout)):
            is_bundle = isinstance(out, Path) and (out / MANIFEST).is_file()
            told = _of_bundle(Path(out)) if is_bundle else _of_run(out, mend)
    except DdfaError as fault:
        if not as_json:
            raise
        told = {"out": str(out), "whole": False, "faults": [str(fault)]}
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        _say(told)
    if told["faults"]:
        sys.exit(exit_codes.FAULT)
    if told.get("shards_pending"):
        sys.exit(exit_codes.INCOMPLETE)


def _of_bundle(folder: Path) -> dict[str, Any]:
    from ddfa_batch.tasks.bundles.model_bundle import load_bundle

    bundle = load_bundle(folder)
    return {"out": str(folder), "kind": "model", "whole": True, "files": len(bundle.manifest.files), "faults": []}


def _of_run(out: Named, mend: bool) -> dict[str, Any]:
    from ddfa_batch.pipeline import verification
    from ddfa_batch.tasks.files.run_folders import run_folder_at

    run = verification.planned_run(out)
    found = verification.verify_run(run)
    if mend and found.faults:
        with run_folder_at(out).locked("verify"):
            verification.mend(run, found)
    return {"out": str(out), "kind": run.kind, "whole": not found.faults and not found.pending, **_told(found, mend)}


def _told(found: Verification, mended: bool) -> dict[str, Any]:
    return {
        "sealed": found.sealed,
        "shards_pending": len(found.pending),
        "shards_damaged": sorted(found.shards),
        "mended_by_the_same_command": found.mendable,
        "receipts_withdrawn": mended and bool(found.shards),
        "faults": found.faults,
    }


def _say(told: dict[str, Any]) -> None:
    faults = told["faults"]
    for fault in faults[:_NAMED]:
        click.echo(f"wrong:   {printable(fault)}", err=True)
    if len(faults) > _NAMED:
        click.echo(f"         and {len(faults) - _NAMED:,} more", err=True)
    if faults:
        click.echo(f"{count(len(faults), 'thing')} in {told['out']} not as written. {_remedy(told)}", err=True)
    elif told.get("shards_pending"):
        click.echo(f"What is finished is as it was written; {count(told['shards_pending'], 'shard')} not done yet.")
    else:
        click.echo(f"Everything in {told['out']} is as it was written.")


def _remedy(told: dict[str, Any]) -> str:
    if told["receipts_withdrawn"]:
        return "Run the command that made it again: it does the damaged shards anew."
    if told["mended_by_the_same_command"]:
        return "The command that made it mends that with --verify."
    return "Where the command that made it with --verify does not mend it, --overwrite makes it anew."
