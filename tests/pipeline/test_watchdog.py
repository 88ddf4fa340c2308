"""A worker that hangs with an item, swells with it or is stopped is replaced; its item is named, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask.config
import hanging
import pytest
from conftest import wanted
from hostile_pictures import endless_jpeg

from ddfa_batch.pipeline import plan
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.config import Execution, ItemLimits
from ddfa_batch.schemas.errors import OptionError
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files.in_flight import InFlight
from ddfa_batch.tasks.files.watchdog_process import seen

HERE = Execution("in-process")


def attempt(out: Path, how: str) -> int:
    command = [sys.executable, hanging.__file__, out, "001.png", how]
    return subprocess.run(command, check=False, timeout=60).returncode


@pytest.mark.parametrize(("how", "kind"), [("hang", "timed_out"), ("swell", "out_of_memory")])
def test_what_ends_its_worker_twice_is_a_row_that_says_why(
    photos: Path, bundle: Bundle, tmp_path: Path, how: str, kind: str
) -> None:
    out = tmp_path / "out"
    request = wanted(photos, out, bundle)
    plan.prepare(request)
    for _ in range(2):
        assert attempt(out, how) == -signal.SIGKILL
    _, totals = process(request, HERE)
    assert dict(totals.errors) == {kind: 1}
    rows = open_run(out).images().to_pandas().set_index("key")
    assert rows.loc["001.png"].error_kind == kind
    assert "it was left out" in rows.loc["001.png"].error_message


def test_a_stopped_worker_is_ended_and_its_item_not_blamed(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan.prepare(wanted(photos, out, bundle))
    assert attempt(out, "stop") == -signal.SIGKILL
    assert InFlight.n_deaths(out, 0) == 0


def test_why_a_worker_was_ended_stands_although_it_was_long_in_dying(tmp_path: Path) -> None:
    for n in (1, 40):  # the watchdog looks again and again
        with InFlight(tmp_path, 0) as attempt:
            attempt.hold(7)
            mark = tmp_path / "shards" / f".000000.{n}.inflight"
            mark.write_bytes(next(tmp_path.rglob("*.inflight")).read_bytes()[:8] + b"t" * n)
    later = InFlight(tmp_path, 0)
    assert (later.deaths(7), later.cause(7)) == (2, "timed_out")


def test_a_run_whose_worker_hangs_ends_with_all_other_rows_as_without(
    photos: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(wanted(photos, tmp_path / "here", bundle), HERE)
    monkeypatch.setenv(hanging.NAME, "005.png")
    monkeypatch.setenv(hanging.HOW, "hang")
    limited = Execution("local", 1, ItemLimits(seconds=1.0))
    # Dask gives up a worker that is not back by then, as none is on a busy machine; with the last one runs stood still.
    settings = {"distributed.worker.preload": [hanging.__file__], "distributed.deploy.lost-worker-timeout": "10ms"}
    with dask.config.set(settings):
        _, totals = process(wanted(photos, tmp_path / "out", bundle), limited)
    assert totals.images == 12
    assert dict(totals.errors) == {"timed_out": 1}
    left_out = [open_run(tmp_path / name).faces().to_pandas().query("key != '005.png'") for name in ("here", "out")]
    same = [faces.drop(columns=["vertices_row"]).reset_index(drop=True) for faces in left_out]
    assert same[0].astype(str).equals(same[1].astype(str))


def test_in_process_a_picture_without_end_costs_its_row(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in photos.iterdir():
        (folder / photo.name).symlink_to(photo)
    (folder / "endless.jpg").write_bytes(endless_jpeg())
    began = time.monotonic()
    _, totals = process(wanted(folder, tmp_path / "out", bundle), Execution("in-process", None, ItemLimits(1.0)))
    assert dict(totals.errors) == {"timed_out": 1}
    assert totals.images == 13
    assert time.monotonic() - began < 30


def test_what_limits_cannot_be() -> None:
    with pytest.raises(OptionError, match="item_timeout"):
        ItemLimits(seconds=0)
    with pytest.raises(OptionError, match="memory_limit"):
        ItemLimits(memory_bytes=1000)


def test_the_watchdog_sees_memory_and_whether_a_process_is_stopped() -> None:
    memory, stopped = seen(os.getpid())
    assert memory > 10 << 20
    assert not stopped
    assert seen(2**22 + 1) == (0, False)
