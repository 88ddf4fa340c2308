"""The door from Python to runs made of runs: `ddfa_batch.compact`, `select`, `merge`, `to_webdataset`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddfa_batch.commands.python import PathName, check_run
from ddfa_batch.pipeline.regroup import regroup
from ddfa_batch.pipeline.regroup_plan import Regrouping, compact_request, merge_request, select_request
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.pipeline.selected_faces import Selection
from ddfa_batch.pipeline.to_webdataset import to_webdataset as pack
from ddfa_batch.pipeline.to_webdataset import webdataset_request
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS, MAX_SHARD_SIZE, Execution, check_range
from ddfa_batch.tasks.files.local_paths import check_local


def compact(
    out: PathName, new: PathName, *, sort: str | None = None, shard_size: int | None = None, overwrite: bool = False
) -> Results:
    """Write the tables of the run in `out` to `new` in few large files, as `ddfa-batch compact` does; give that run."""
    return _written(compact_request(open_run(out), _folder(new), sort, _checked(shard_size)), overwrite)


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
) -> Results:
    """Write the faces of the run in `out` that are chosen to `new`, as `ddfa-batch select` does; give that run."""
    selection = Selection(where, worst, random, seed, errors)
    return _written(select_request(open_run(out), _folder(new), selection, _checked(shard_size)), overwrite)


def merge(
    runs: Sequence[PathName], new: PathName, *, shard_size: int | None = None, overwrite: bool = False
) -> Results:
    """Write the tables of several runs of one model to `new`, as `ddfa-batch merge` does; give that run."""
    sources = [open_run(run) for run in runs]
    return _written(merge_request(sources, _folder(new), _checked(shard_size)), overwrite)


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
) -> Results:
    """Write faces of the run in `out` to archives in `tars`/tars, as `ddfa-batch to-webdataset` does; give that run.

    A script whose work goes to a local cluster needs `if __name__ == "__main__":`, for workers import it.
    """
    check_run(workers, scheduler)
    folder, checked = _folder(tars), _checked(shard_size)
    request = webdataset_request(open_run(out), folder, size, format, Selection(where), max_pixels, checked)
    run, _ = pack(request, Execution(scheduler, workers), overwrite=overwrite)
    return open_run(run.folder)


def _written(request: Regrouping, overwrite: bool) -> Results:
    run, _ = regroup(request, overwrite=overwrite)
    return open_run(run.folder)


def _folder(new: PathName) -> Path:
    return check_local(Path(new))


def _checked(shard_size: int | None) -> int | None:
    check_range("shard_size", shard_size, 1, MAX_SHARD_SIZE)
    return shard_size
