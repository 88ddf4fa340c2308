"""What `process` and `synth-videos` share once their request stands: announce, do, summarise, draw."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddfa_batch.commands import exit_codes
from ddfa_batch.commands.options import RunSettings
from ddfa_batch.commands.progress import ProgressBar
from ddfa_batch.commands.run_reports import announcement, summary
from ddfa_batch.schemas.config import Execution

if TYPE_CHECKING:
    from ddfa_batch.pipeline.plan import Run, RunRequest
    from ddfa_batch.pipeline.progress import Totals


def check_settings(settings: RunSettings) -> None:
    """Raise `click.UsageError` for settings that exclude each other."""
    if settings.quiet and settings.verbose:
        raise click.UsageError("--quiet and --verbose exclude each other.")
    if settings.scheduler == "in-process" and (settings.workers or 1) > 1:
        raise click.UsageError("--scheduler in-process has one worker; leave out --workers.")


def execute(
    request: RunRequest,
    command: Callable[..., tuple[Run, Totals]],
    draw: Callable[[Run, int], list[Path]],
    n_drawn: int,
    settings: RunSettings,
) -> None:
    """Announce a run, do it with `command`, say what came of it, and `draw` a preview of `n_drawn` inputs."""
    _log_to_stderr(settings.verbose)
    say: Callable[[str], Any] = (lambda _: None) if settings.quiet else click.echo
    if settings.dry_run:
        say(_estimate(request))
        return
    bar = ProgressBar(request, settings.quiet)
    execution = Execution(settings.scheduler, settings.workers)
    run, totals = command(request, execution, settings.overwrite, bar)
    bar.close()
    say(summary(run, totals, bar.seconds, bar.done_now))
    for path in draw(run, n_drawn) if n_drawn else []:
        say(f"Look at {path}")
    if settings.strict and totals.n_errors:
        sys.exit(exit_codes.STRICT)


def _estimate(request: RunRequest) -> str:
    from ddfa_batch.pipeline import plan

    n_inputs, shard_size, notes = plan.estimate(request)
    return "\n".join([announcement(request, n_inputs, shard_size), *notes, "Nothing was written (--dry-run)."])


def _log_to_stderr(verbose: bool) -> None:
    """Show the project's own log lines, and nobody else's: Dask would fill the screen."""
    log = logging.getLogger("ddfa_batch")
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    log.handlers = [logging.StreamHandler()]
