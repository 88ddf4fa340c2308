"""What every kind of run shares: claiming a folder, the per-item boundary, resuming, progress.

A kind of run is a chain of stages (`graph.Stages`) that ends in `staging.commit`; the engine knows nothing else of it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from ddfa_batch.pipeline import graph, growth, mending, own_files, plan, stage_running
from ddfa_batch.pipeline.context import check_model
from ddfa_batch.pipeline.differences import refuse_other_root
from ddfa_batch.pipeline.outstanding import Outstanding, Retry
from ddfa_batch.pipeline.plan import PlanRow, Run, RunRequest
from ddfa_batch.pipeline.progress import Phase, Progress, Report, ShardProgress, Totals, unheard
from ddfa_batch.pipeline.receipts import (
    damaged_shards,
    pending_shards,
    remove_leftovers,
    spoiled_shards,
    withdraw,
)
from ddfa_batch.pipeline.seal import seal
from ddfa_batch.pipeline.staging import begun_replacements, finish_replacement
from ddfa_batch.schemas.config import Execution, RunPart
from ddfa_batch.schemas.errors import DdfaError, FilesGoneError, ImageError
from ddfa_batch.schemas.faces import ImageRecord
from ddfa_batch.schemas.run import MENDED, RETRIED
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files.decoder_child import end_children
from ddfa_batch.tasks.files.in_flight import InFlight
from ddfa_batch.tasks.files.item_limits import item_limits, limits_in_force
from ddfa_batch.tasks.files.run_folders import run_folder_at

#: Why nothing can be written, whatever the input: no space, over a quota, read-only, larger than a file may be.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

T = TypeVar("T")

# ------------------------------------------------------------------------------------------------- the run


def execute_run(
    request: RunRequest,
    execution: Execution,
    stages: graph.Stages,
    *,
    few: int,
    overwrite: bool = False,
    verify: bool = False,
    extend: bool = False,
    retry: Retry | None = None,
    report: Report = unheard,
    finish: Callable[[Run], None] = lambda run: None,
) -> tuple[Run, Totals]:
    """Plan a run or find it planned, and do the shards that have no good receipt; every kind of run goes this way.

    Everything is listed, loaded and checked before a run that is there is removed (`overwrite`). Where there is less
    to do than `few` inputs it is done in this process unless `execution` says otherwise. verify: read every file of
    the finished shards first, and do those anew that are not as their receipts say. extend: take up inputs that were
    added. retry: do error rows of finished shards again. `finish` joins what the shards wrote, unless `execution` asks
    for a part of the run only. Raises `DdfaError` for what the whole run cannot survive; whatever is wrong with one
    image is a row of its images table.
    """
    own_files.refuse_strangers(request.folder)
    report(Progress(Phase.LISTING))
    graph.expect(execution, few=True)
    with item_limits(execution.limits, may_end=False):  # videos are indexed while they are listed
        listing = plan.list_request(request, lambda n: report(Progress(Phase.LISTING, listed=n)))
    graph.expect(execution, listing.count < few)
    asked = plan.asked_run(request, listing, overwrite)
    if not overwrite:
        plan.planned_there(asked, extend)
    report(Progress(Phase.MODEL, listed=listing.count))
    check_model(asked)
    return execute_planned(
        asked,
        functools.partial(plan.planned_rows, request),
        request.bundle,
        execution,
        stages,
        few=few,
        overwrite=overwrite,
        verify=verify,
        grow=(lambda planned: growth.extended(planned, request, asked)) if extend else None,
        retry=retry,
        report=report,
        finish=finish,
    )


def execute_planned(
    asked: Run,
    rows: plan.Rows,
    bundle: Bundle,
    execution: Execution,
    stages: graph.Stages,
    *,
    few: int,
    overwrite: bool = False,
    verify: bool = False,
    grow: Callable[[Run], Run] | None = None,
    retry: Retry | None = None,
    report: Report = unheard,
    finish: Callable[[Run], None] = lambda run: None,
) -> tuple[Run, Totals]:
    """Do the run `asked`, whose plan has `rows`, as far as it is not done; see `execute_run`.

    grow: takes up in the run that is planned what was added since.
    """
    part = execution.part
    with contextlib.ExitStack() as held:
        held.enter_context(item_limits(execution.limits, may_end=False))
        held.callback(end_children)
        lock = held.enter_context(asked.folder.locked(asked.kind, part))
        mending.put_back_record(asked.folder)
        planned = _claimed(asked, rows, bundle, overwrite=overwrite, extend=grow is not None, report=report)
        held.enter_context(own_files.rest_removed(asked.folder))
        if not lock.shared:
            mending.put_back_plan(planned, rows, bundle, verify)
        grown = grow(planned) if grow else planned
        run, todo = _outstanding(grown if lock.shared else _mended(grown, verify), asked, retry, part)
        if part is not None:
            held.enter_context(lock.sharing(part))
        changes = tuple(run.history[len(planned.history) :])
        now = Progress(Phase.WORKERS, run, n_inputs=todo.n_inputs, changes=changes)
        totals = _do(todo.job(run, stages, execution, few), todo, now, report)
        if missing := pending_shards(run, part):
            told = f"{len(missing)} shards of {run.folder} have no receipt; run the same command again."
            raise FilesGoneError(told)
        if part is None:
            report(Progress(Phase.JOINING, run, totals))
            remove_leftovers(run)
            finish(run)
            seal(run)
        report(replace(now, phase=Phase.DONE, totals=totals))
        return run, totals


@contextlib.contextmanager
def claimed(
    asked: Run,
    rows: plan.Rows,
    bundle: Bundle,
    *,
    report: Report = unheard,
) -> Iterator[Run]:
    """Plan the run `asked`, or find it planned, and keep every other command out of its folder meanwhile."""
    with asked.folder.locked(asked.kind):
        mending.put_back_record(asked.folder)
        planned = _claimed(asked, rows, bundle, overwrite=False, extend=False, report=report)
        mending.put_back_plan(planned, rows, bundle, verify=False)
        yield planned


def _claimed(asked: Run, rows: plan.Rows, bundle: Bundle, *, overwrite: bool, extend: bool, report: Report) -> Run:
    report(Progress(Phase.PLANNING, listed=asked.n_inputs))
    return plan.claim(asked, rows(), bundle, overwrite=overwrite, extend=extend)


def _mended(run: Run, verify: bool) -> Run:
    """The run with the shards to do again that were finished and are no longer whole, which its history tells."""
    for shard in begun_replacements(run.folder):
        finish_replacement(run.folder, shard)
    spoiled = sorted({*spoiled_shards(run), *(damaged_shards(run) if verify else ())})
    if spoiled:
        run = plan.write_run(plan.recorded(run, MENDED, sum(len(run.inputs_of(shard)) for shard in spoiled)))
        withdraw(run, spoiled)
    return run


def _outstanding(run: Run, asked: Run, retry: Retry | None, part: RunPart | None) -> tuple[Run, Outstanding]:
    """What is to do of a run, and the run, whose history tells of error rows that are done again."""
    todo = Outstanding.of(run, retry, part)
    if todo.n_retried:
        refuse_other_root(run, asked)
        run = plan.write_run(plan.recorded(run, RETRIED, todo.n_retried))
    return run, todo


def _do(job: graph.Job, todo: Outstanding, now: Progress, report: Report) -> Totals:
    """Do what is to do and report every step, beginning with `now`."""
    now = replace(now, totals=todo.totals)
    report(now)
    at_work: dict[int, ShardProgress] = {}

    def tell(phase: Phase = Phase.WORKING, totals: Totals | None = None) -> None:
        nonlocal now
        now = replace(now, phase=phase, totals=totals or now.totals, at_work=tuple(at_work.values()))
        report(now)

    def announce(shard: ShardProgress) -> None:
        if shard.shard not in done:
            at_work[shard.shard] = shard
            tell()

    done: set[int] = set()
    for receipt in graph.run_shards(job, todo.shards, announce, tell):
        if now.run is not None:
            now.run.folder.still_locked()
        done.add(receipt.shard)
        at_work.pop(receipt.shard, None)
        tell(totals=now.totals.plus(receipt, todo.again.get(receipt.shard)))
    return now.totals


# --------------------------------------------------------------------------------------- the per-item boundary


def each_item(
    out: str,
    shard: int,
    rows: Iterable[PlanRow],
    work: Callable[[PlanRow], tuple[ImageRecord, T]],
    *,
    failed: Callable[[], None] = lambda: None,
    announced: bool = True,
    counted: int | None = None,
) -> list[tuple[ImageRecord, T | None]]:
    """Do `work` for every row of a shard: the per-item boundary. Whatever goes wrong with one input becomes its row.

    What killed its worker (`InFlight.gives_up`) is not tried again. `failed` is called after each failure. With
    `announced` it is told now and then how far the shard is; counted: how many of the rows are the shard's own.
    """
    tick = stage_running.Ticker(out, shard)
    done: list[tuple[ImageRecord, T | None]] = []
    faces = errors = 0
    with InFlight(run_folder_at(out).work, shard) as in_flight, _no_garbage_collection():
        for row in rows:
            in_flight.hold(row.image_id)
            record, made = _one_item(row, work, in_flight)
            in_flight.release()
            done.append((record, made))
            if record.status == "error":
                failed()
            faces, errors = faces + record.n_faces, errors + (record.status == "error")
            if announced and (counted is None or len(done) <= counted):
                tick(len(done), faces, errors)
    return done


def _one_item(
    row: PlanRow, work: Callable[[PlanRow], tuple[ImageRecord, T]], in_flight: InFlight
) -> tuple[ImageRecord, T | None]:
    try:
        if in_flight.gives_up(row.image_id):
            raise _deadly(in_flight.cause(row.image_id), in_flight.deaths(row.image_id))
        return work(row)
    except ImageError as fault:
        return error_record(row, fault), None
    except DdfaError as fault:
        return error_record(row, ImageError("failed", str(fault))), None
    except MemoryError:  # a limit of the system's, below --memory-limit
        why = "The system gave no more memory; give workers more, or take fewer of them."
        return error_record(row, ImageError("out_of_memory", why)), None
    except Exception as fault:  # the one blanket except: an input is never lost
        if isinstance(fault, OSError) and fault.errno in _NO_ROOM:
            raise  # nothing is wrong with the input
        reason = f"{type(fault).__name__}: {fault}".splitlines()[0][:300]
        return error_record(row, ImageError("failed", f"Unexpected error, please report it: {reason}")), None


def _deadly(cause: str | None, deaths: int) -> ImageError:
    """Why an image is not tried again."""
    limits = limits_in_force()
    why = {
        "timed_out": f"was ended {deaths} times, for it held this image longer than {limits.seconds:g} s",
        "out_of_memory": f"was ended {deaths} times, for it had more than {limits.memory_bytes >> 20:,} MiB in memory",
        "crashed": f"died {deaths} times while it held this image",
    }
    kind = cause or "crashed"
    return ImageError(kind, f"The worker {why[kind]}; it was left out.")


def error_record(row: PlanRow, fault: ImageError) -> ImageRecord:
    """The row of an input that could not be used."""
    return ImageRecord(
        row.image_id,
        row.item.key,
        "error",
        fault.kind,
        fault.message,
        video=row.video,
        frame=row.frame,
        time_s=row.time_s,
    )


_uncollected, _was_on, _collecting = 0, True, threading.Lock()


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Spare the loop over images Python's search for reference cycles: it makes none, and scans a million objects.

    The switch is the process's: the last of its threads that leaves puts it back.
    """
    global _uncollected, _was_on  # noqa: PLW0603
    with _collecting:
        if not _uncollected:
            _was_on = gc.isenabled()
        _uncollected += 1
        gc.disable()
    try:
        yield
    finally:
        with _collecting:
            _uncollected -= 1
            if not _uncollected and _was_on:
                gc.enable()
