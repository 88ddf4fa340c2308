"""Several commands that share a run's shards without a scheduler, as the tasks of a job array."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import command_line
import pytest
from compared_runs import same_tables
from conftest import wanted

from ddfa_batch.pipeline import process
from ddfa_batch.pipeline.progress import Phase, Progress
from ddfa_batch.pipeline.receipts import pending_shards
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.config import Execution, RunPart
from ddfa_batch.schemas.errors import OptionError, RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.run_folders import run_folder_at

ALL = Execution("in-process")


def part(index: int, count: int) -> Execution:
    return Execution("in-process", part=RunPart(index, count))


@pytest.mark.parametrize(("n", "count"), [(0, 1), (1, 3), (7, 1), (7, 3), (9, 3)])
def test_every_shard_is_in_one_part_and_parts_differ_by_one_at_most(n: int, count: int) -> None:
    parts = [list(RunPart(index, count).shards(n)) for index in range(count)]
    assert sorted(shard for shards in parts for shard in shards) == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("index", "count"), [(-1, 3), (3, 3), (0, 0)])
def test_a_part_that_is_none_is_refused(index: int, count: int) -> None:
    with pytest.raises(OptionError, match="--shard-index counts from 0"):
        RunPart(index, count)


def test_parts_and_then_the_plain_command_end_as_one_command_does(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    request = wanted(photos, tmp_path / "parts", bundle, 2)
    for index in (2, 0, 1):
        _, totals = process.process(request, part(index, 3))
        assert totals.images == 4
    assert not (request.out / store.ALL_VERTICES).exists()
    process.process(request, ALL)
    whole = wanted(photos, tmp_path / "whole", bundle, 2)
    process.process(whole, ALL)
    same_tables(request.out, whole.out)
    assert not list(request.out.rglob("*.lock")) and (request.out / store.ALL_VERTICES).exists()


def test_a_part_counts_its_own_inputs(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    told: list[Progress] = []
    process.process(wanted(photos, tmp_path / "out", bundle, 5), part(1, 2), report=told.append)
    assert (told[-1].phase, told[-1].images, told[-1].n_inputs) == (Phase.DONE, 5, 5)


def test_others_may_be_there_but_not_the_same_part_and_not_a_whole_run(
    photos: Path, bundle: Bundle, tmp_path: Path
) -> None:
    request, told = wanted(photos, tmp_path / "out", bundle, 2), []

    def others(progress: Progress) -> None:
        if progress.phase is Phase.WORKING and not told:
            told.append("begun")
            _, totals = process.process(request, part(1, 2))
            told.append(totals.images)
            for execution in (part(0, 2), ALL):
                with pytest.raises(RunFolderError) as refused:
                    process.process(request, execution)
                told.append(str(refused.value))

    process.process(request, part(0, 2), report=others)
    assert told[:2] == ["begun", 6]
    assert f"{request.out} is being worked in by ddfa-batch part 1 of 2, process {os.getpid()} on" in told[2]
    assert f"{request.out} is being worked in by commands that do parts of it; wait" in told[3]
    assert not pending_shards(open_run(request.out).run)


def test_parts_do_not_share_a_store() -> None:
    with pytest.raises(RunFolderError, match="memory://run is in a store, which has no lock that part 1 of 2 could"):
        run_folder_at("memory://run").locked("process", RunPart(0, 2))


@pytest.fixture
def words(photos: Path, tmp_path: Path) -> tuple[object, ...]:
    return ("process", photos, tmp_path / "out", "--shard-size", "1", "--scheduler", "in-process")


def test_tasks_that_begin_at_once_plan_once_and_one_that_is_killed_is_done_again(
    words: tuple[object, ...], models: Path, photos: Path, bundle: Bundle, tmp_path: Path
) -> None:
    """Four tasks at the same moment; the second is killed in mid-run."""
    tasks = [
        command_line.start(*words, "--shard-index", index, "--shard-count", 4, models=models) for index in range(4)
    ]
    shards = tmp_path / "out" / store.SHARDS
    while not (shards / "000001.json").exists():
        assert tasks[1].poll() is None
        time.sleep(0.01)
    tasks[1].send_signal(signal.SIGKILL)
    said = [task.communicate(timeout=120)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, -signal.SIGKILL, 0, 0]
    assert "Part 3 of 4: 3 images: " in said[2]
    assert "the same command without --shard-index and --shard-count finishes the run" in said[2]
    done = command_line.call(*words, models=models)
    assert re.search(r"^12 images: .*\(\d+ were done before\)", done.stdout, re.MULTILINE)
    whole = wanted(photos, tmp_path / "whole", bundle, 1)
    process.process(whole, ALL)
    same_tables(tmp_path / "out", whole.out)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--shard-index 1", "--shard-index and --shard-count go together"),
        ("--shard-index 2 --shard-count 2", "There is no part 2 of 2: --shard-index counts from 0 to 1"),
        ("--shard-index 0 --shard-count 2 --overwrite", "leave out --shard-index"),
        ("--shard-index 0 --shard-count 2 --extend", "leave out --shard-index"),
        ("--shard-index 0 --shard-count 2 --retry-failed", "leave out --shard-index"),
    ],
)
def test_what_parts_cannot_do_is_misuse(words: tuple[object, ...], models: Path, more: str, said: str) -> None:
    answer = command_line.call(*words, *more.split(), models=models)
    assert answer.code == 2 and said in answer.stderr
