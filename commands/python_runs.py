"""The door from Python to runs made of runs: `ddfa_batch.compact`, `select`, `merge`, `to_webdataset`."""

from __future__ import annotations

from collections.abc import Sequence

from ddfa_batch.commands.python import PathName, check_run, run_place
from ddfa_batch.pipeline.regroup import regroup
from ddfa_batch.pipeline.regroup_plan import Regrouping, compact_request, merge_request, select_request
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.pipeline.selected_faces import Selection
from ddfa_batch.pipeline.to_webdataset import to_webdataset as pack
from ddfa_batch.pipeline.to_webdataset import webdataset_request
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS, MAX_SHARD_SIZE, Execution, RemoteLimits, check_range
from ddfa_batch.schemas.errors import OptionError
from ddfa_batch.tasks.files.remote_calls import limited


def compact(
    out: PathName,
    new: PathName,
    *,
    sort: str | None = None,
    shard_size: int | None = None,
    overwrite: bool = False,
    remote_attempts: int = RemoteLimits.attempts,
    remote_timeout: float = RemoteLimits.seconds,
) -> Results:
    """Write the tables of the run in `out` to `new` in few large files, as `ddfa-batch compact` does; give that run."""
    place, checked = run_place(new), _checked(shard_size)
    with limited(RemoteLimits(remote_attempts, remote_timeout)):
        return _written(compact_request(open_run(run_place(out)), place, sort, checked), overwrite)


def select(
    out: PathName,
    new: PathName,
    where: str | None = None,
    *,
    worst: int | None = None,
    random: int | None = None,
    seed: int = 0,
    errors: bool = False,
    shard_size: int | None = None,
    overwrite: bool = False,
    remote_attempts: int = RemoteLimits.attempts,
    remote_timeout: float = RemoteLimits.seconds,
) -> Results:
    """Write the faces of the run in `out` that are chosen to `new`, as `ddfa-batch select` does; give that run."""
    place, checked = run_place(new), _checked(shard_size)
    selection = Selection(where, worst, random, seed, errors)
    with limited(RemoteLimits(remote_attempts, remote_timeout)):
        return _written(select_request(open_run(run_place(out)), place, selection, checked), overwrite)


def merge(
    runs: Sequence[PathName],
    new: PathName,
    *,
    shard_size: int | None = None,
    overwrite: bool = False,
    remote_attempts: int = RemoteLimits.attempts,
    remote_timeout: float = RemoteLimits.seconds,
) -> Results:
    """Write the tables of several runs of one model to `new`, as `ddfa-batch merge` does; give that run."""
    place, checked = run_place(new), _checked(shard_size)
    with limited(RemoteLimits(remote_attempts, remote_timeout)):
        sources = [open_run(run_place(run)) for run in runs]
        return _written(merge_request(sources, place, checked), overwrite)


def to_webdataset(
    out: PathName,
    tars: PathName,
    where: str | None = None,
    *,
    size: int | None = None,
    format: str = "jpeg",
    max_pixels: int = DEFAULT_MAX_PIXELS,
    workers: int | None = None,
    scheduler: str = "auto",
    shard_size: int | None = None,
    overwrite: bool = False,
    extend: bool = False,
    remote_attempts: int = RemoteLimits.attempts,
    remote_timeout: float = RemoteLimits.seconds,
) -> Results:
    """Write faces of the run in `out` to archives in `tars`/tars, as `ddfa-batch to-webdataset` does; give that run.

    A script whose work goes to a local cluster needs `if __name__ == "__main__":`, for workers import it.
    """
    check_run(workers, scheduler)
    if overwrite and extend:
        raise OptionError("overwrite replaces the run in tars; leave out extend.")
    place, checked, remote = run_place(tars), _checked(shard_size), RemoteLimits(remote_attempts, remote_timeout)
    with limited(remote):
        source = open_run(run_place(out))
        request = webdataset_request(source, place, size, format, Selection(where), max_pixels, checked)
        execution = Execution(scheduler, workers, remote=remote)
        run, _ = pack(request, execution, overwrite=overwrite, extend=extend)
        return open_run(run.folder)


def _written(request: Regrouping, overwrite: bool) -> Results:
    run, _ = regroup(request, overwrite=overwrite)
    return open_run(run.folder)


def _checked(shard_size: int | None) -> int | None:
    check_range("shard_size", shard_size, 1, MAX_SHARD_SIZE)
    return shard_size
