"""What commands that make runs share: what a run is made of is opened; announce, do, summarise, draw."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ddfa_batch.commands import exit_codes
from ddfa_batch.commands.cluster_options import chosen_cluster
from ddfa_batch.commands.config_file import asked_for
from ddfa_batch.commands.json_events import EVENTS, LogEvents
from ddfa_batch.commands.options import RunSettings
from ddfa_batch.commands.progress import Display, Step, shown
from ddfa_batch.commands.run_progress import RunProgress
from ddfa_batch.commands.run_reports import announcement, change, summary
from ddfa_batch.commands.wording import count
from ddfa_batch.pipeline import worker_template
from ddfa_batch.pipeline.dask_settings import TEMPLATE_ENVIRONMENT
from ddfa_batch.schemas.config import FEW_IMAGES, Execution, ItemLimits, RunPart
from ddfa_batch.schemas.errors import OptionError
from ddfa_batch.schemas.job_clusters import KUBERNETES

if TYPE_CHECKING:
    from ddfa_batch.commands.selection_options import SelectionOptions
    from ddfa_batch.pipeline.derived_plan import DerivedRequest
    from ddfa_batch.pipeline.plan import Run, RunRequest
    from ddfa_batch.pipeline.progress import Progress, Totals
    from ddfa_batch.pipeline.results import Results
    from ddfa_batch.pipeline.selected_faces import Selection
    from ddfa_batch.tasks.files.run_folders import Named

#: Draws a preview of a run: of so many inputs or clips, telling how many of how many are drawn.
Draw = Callable[["Run", int, Callable[[int, int], None]], list[str]]


def check_settings(settings: RunSettings) -> None:
    """Raise `click.UsageError` for settings that exclude each other."""
    if settings.quiet and settings.verbose:
        raise click.UsageError("--quiet and --verbose exclude each other.")
    if settings.scheduler == "in-process" and (settings.workers or 1) > 1:
        raise click.UsageError("--scheduler in-process has one worker; leave out --workers.")
    if settings.overwrite and settings.extend:
        raise click.UsageError("--overwrite replaces the run in OUT; leave out --extend.")
    if run_part(settings) and (settings.overwrite or settings.extend):
        raise click.UsageError("--overwrite and --extend change what the parts share; leave out --shard-index.")


def expect_workers(settings: RunSettings, sources: Sequence[str] = ()) -> None:
    """Begin to start local workers where there will surely be some, before anything large is imported here.

    They are asked for in so many words, or one of the sources is a folder with more in it than one process does. In
    other cases it depends on what there is to do, which nobody has counted yet.
    """
    asked = settings.scheduler == "local" or (settings.scheduler == "auto" and (settings.workers or 1) > 1)
    asked = asked or (settings.scheduler == "auto" and any(map(_holds_many, sources)))
    if asked and settings.cluster is None and not settings.dry_run:
        worker_template.start(TEMPLATE_ENVIRONMENT)


def _holds_many(source: str) -> bool:
    """Whether something is a folder with at least `FEW_IMAGES` entries."""
    try:
        with os.scandir(source) as entries:
            return sum(1 for _ in itertools.islice(entries, FEW_IMAGES)) == FEW_IMAGES
    except OSError:  # it is none, or whoever lists it will say what is wrong with it
        return False


def run_part(settings: RunSettings) -> RunPart | None:
    """The part of a run that is asked for; raises `click.UsageError` for half of one."""
    index, of = settings.shard_index, settings.shard_count
    if index is None and of is None:
        return None
    if index is None or of is None:
        raise click.UsageError("--shard-index and --shard-count go together.")
    try:
        return RunPart(index, of)
    except OptionError as fault:
        raise click.UsageError(str(fault)) from None


def execute(
    request: RunRequest,
    command: Callable[..., tuple[Run, Totals]],
    draw: Draw,
    n_drawn: int,
    settings: RunSettings,
) -> None:
    """Announce a run, do it with `command`, say what came of it, and `draw` a preview of `n_drawn` inputs."""
    if settings.dry_run:
        if not settings.quiet:
            click.echo("\n".join([_estimate(request), *_job_script(settings)]))
        return

    request = replace(request, asked=_asked(request))

    def words(run: Run) -> str:
        return announcement(request, run.n_inputs, run.n_shards, run.shard_size)

    carry_out(functools.partial(command, request, extend=settings.extend), words, settings, draw, n_drawn)


@contextlib.contextmanager
def source_run(run: Named, selected: SelectionOptions, settings: RunSettings) -> Iterator[tuple[Results, Selection]]:
    """The run that something is made of, and which of its faces; stores are waited for as `settings` say meanwhile."""
    from ddfa_batch.pipeline.results import open_run
    from ddfa_batch.tasks.files.remote_calls import limited

    check_settings(settings)
    with limited(settings.remote):
        yield open_run(run), selected.selection()


def execute_derived(
    request: DerivedRequest[Any],
    command: Callable[..., tuple[Run, Totals]],
    words: Callable[[int], str],
    settings: RunSettings,
) -> None:
    """Make something of a run with `command`, announced in `words` for so many inputs."""
    if settings.dry_run:
        if not settings.quiet:
            told = [words(len(request.rows)), "Nothing was written (--dry-run).", *_job_script(settings)]
            click.echo("\n".join(told))
        return
    request = replace(request, asked=_asked(request))
    command = functools.partial(command, request, extend=settings.extend)
    carry_out(command, lambda planned: words(planned.n_inputs), settings)


def _asked(request: RunRequest | DerivedRequest[Any]) -> dict[str, Any]:
    return asked_for((request.bundle.manifest.name, str(request.bundle.folder)))


def _job_script(settings: RunSettings) -> list[str]:
    """What would be handed to the cluster that is asked for; nothing where none is."""
    asked = chosen_cluster(settings.cluster, settings.cluster_config, settings.scheduler)
    if asked is None:
        return []
    from ddfa_batch.pipeline.cluster import submission

    what = "What makes the pods" if asked.kind == KUBERNETES else "Each job"
    return [f"\n{what}, for {count(asked.workers, 'worker')} on {asked.kind}:\n", submission(asked)]


def carry_out(
    command: Callable[..., tuple[Run, Totals]],
    words: Callable[[Run], str],
    settings: RunSettings,
    draw: Draw = lambda run, n, progress: [],
    n_drawn: int = 0,
) -> None:
    """Announce a run in `words`, do it with `command`, say what came of it, and `draw` a preview of `n_drawn`."""
    _log_to_stderr(settings.verbose)
    say: Callable[[str], Any] = (lambda _: None) if settings.quiet else click.echo

    def announce(run: Run, progress: Progress) -> None:
        say("\n".join([words(run), *run.notes]))
        for entry in progress.changes:
            say(f"{change(entry)}.")
        if done := progress.totals.images:
            say(f"Resuming: {count(done, 'image')} {'is' if done == 1 else 'are'} done already.")

    part = run_part(settings)
    with shown(settings.quiet or EVENTS.take_stderr) as display:
        progress = RunProgress(display, announce)
        limits = ItemLimits(settings.item_timeout, settings.memory_limit)
        cluster = chosen_cluster(settings.cluster, settings.cluster_config, settings.scheduler)
        execution = Execution(settings.scheduler, settings.workers, limits, settings.remote, part, cluster)
        run, totals = command(execution, overwrite=settings.overwrite, verify=settings.verify, report=progress)
        display.close()
        EVENTS.done(run, totals, progress.seconds, progress.done_now)
        say(summary(run, totals, progress.seconds, progress.done_now, part))
        for path in _drawn(run, draw, 0 if part else n_drawn, display):
            say(f"Look at {path}")
    if settings.strict and totals.n_errors:
        sys.exit(exit_codes.STRICT)


def _drawn(run: Run, draw: Draw, n: int, display: Display) -> list[str]:
    """Draw a preview of `n` inputs or clips, if of any, and show how far it is."""
    if not n:
        return []
    display.show(Step("drawing"))
    paths = draw(run, n, lambda done, of: display.show(Step("drawing", done, of, "pictures")))
    display.close()
    return paths


def _estimate(request: RunRequest) -> str:
    from ddfa_batch.pipeline import plan

    n_inputs, shard_size, notes = plan.estimate(request)
    announced = announcement(request, n_inputs, -(-n_inputs // shard_size), shard_size)
    return "\n".join([announced, *notes, "Nothing was written (--dry-run)."])


def _log_to_stderr(verbose: bool) -> None:
    """Show the project's own log lines, and nobody else's: Dask would fill the screen."""
    log = logging.getLogger("ddfa_batch")
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    log.handlers = [LogEvents()] if EVENTS.take_stderr else [_AboveProgress(), LogEvents()]


class _AboveProgress(logging.Handler):
    """Writes to what stderr is at the time: while progress is drawn on a terminal, that puts lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stderr.write(f"{self.format(record)}\n")
