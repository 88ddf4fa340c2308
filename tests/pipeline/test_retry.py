"""Error rows done again: what changes, what does not, and that a kill at any moment changes nothing of that."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import dying
import dying_commit
import numpy as np
import pytest
import small_model
from compared_runs import TIMES, same_tables
from conftest import wanted

from ddfa_batch.pipeline import plan, staging
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.progress import Phase, Progress
from ddfa_batch.pipeline.receipts import verify_run
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import ERROR_KINDS, RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import atomic, images, store
from ddfa_batch.tasks.files.run_folders import run_folder_at

HERE = Execution("in-process")
ALL = frozenset(ERROR_KINDS)
COUNTS = [1, 2, 3, 1, 2, 0, 1, 1]
#: What is broken at first: an image without neighbours that are, two in one shard, one of a shard of one face.
BROKEN = {"001.png": "truncated", "002.png": "empty", "006.png": "truncated"}


def spoiled(folder: Path) -> Path:
    small_model.pictures(folder, COUNTS)
    for name, kind in BROKEN.items():
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2] if kind == "truncated" else b"")
    return folder


def repaired(folder: Path) -> Path:
    return small_model.pictures(folder, COUNTS)


@pytest.fixture(scope="module", params=["float32", "none"])
def vertices(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(vertices: str, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that had all pictures whole at once."""
    tmp = tmp_path_factory.mktemp("expected")
    process(wanted(repaired(tmp / "in"), tmp / "out", bundle, vertices=vertices), HERE)
    return tmp / "out"


def test_rows_that_succeed_now_replace_the_error_rows(
    bundle: Bundle, tmp_path: Path, expected: Path, vertices: str
) -> None:
    folder, out = spoiled(tmp_path / "in"), tmp_path / "out"
    request = wanted(folder, out, bundle, vertices=vertices)
    process(request, HERE)
    before = open_run(out).faces().drop_columns(["vertices_row", "vertices_file"])
    repaired(folder)
    told: list[Progress] = []
    run, totals = process(request, HERE, retry_failed=ALL, report=told.append)
    same_tables(out, expected)
    assert (totals.images, totals.n_errors, totals.faces, totals.shards_done) == (8, 0, 11, 2)
    assert verify_run(run) == []
    after = open_run(out).faces().drop_columns(["vertices_row", "vertices_file"])
    old = [row for row in after.to_pylist() if row["key"] not in BROKEN]
    assert old == before.to_pylist()
    assert [(entry.what, entry.n_inputs) for entry in run.history] == [("retried", 3)]
    assert not list(out.rglob(".*"))
    working = [progress.images for progress in told if progress.phase is Phase.WORKING]
    assert working[0] == 5
    assert working[-1] == 8


def test_only_the_failed_images_are_read(bundle: Bundle, tmp_path: Path) -> None:
    """The others may be gone: their rows stay, to the time they took."""
    folder, out = spoiled(tmp_path / "in"), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    before = open_run(out).images().to_pylist()
    shutil.copytree(repaired(tmp_path / "whole"), folder, dirs_exist_ok=True)
    for name in {path.name for path in folder.iterdir()} - BROKEN.keys():
        (folder / name).write_bytes(b"changed since")
    process(wanted(folder, out, bundle), HERE, retry_failed=ALL)
    rows = open_run(out).images().to_pylist()
    assert [row for row in rows if row["key"] not in BROKEN] == [row for row in before if row["key"] not in BROKEN]
    assert {row["status"] for row in rows} == {"ok", "no_face"}


def test_only_the_kinds_that_are_named(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = spoiled(tmp_path / "in"), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    repaired(folder)
    _, totals = process(wanted(folder, out, bundle), HERE, retry_failed=frozenset({"empty", "crashed"}))
    assert dict(totals.errors) == {"truncated": 2}
    run, totals = process(wanted(folder, out, bundle), HERE, retry_failed=frozenset({"empty"}))
    assert [entry.n_inputs for entry in run.history] == [1]  # nothing was left of that kind


def test_what_fails_again_stays_an_error_row_with_its_new_reason(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = spoiled(tmp_path / "in"), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    (folder / "002.png").write_text("nothing")
    run, totals = process(wanted(folder, out, bundle), HERE, retry_failed=ALL)
    assert dict(totals.errors) == {"truncated": 2, "not_an_image": 1}
    assert verify_run(run) == []


def test_a_shard_without_faces_gets_its_first_meshes(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = small_model.pictures(tmp_path / "in", [0, 2]), tmp_path / "out"
    whole = (folder / "001.png").read_bytes()
    (folder / "001.png").write_bytes(b"")
    process(wanted(folder, out, bundle), HERE)
    assert not (out / "vertices.h5").exists()
    (folder / "001.png").write_bytes(whole)
    process(wanted(folder, out, bundle), HERE, retry_failed=ALL)
    assert open_run(out).vertices().shape[0] == 2
    assert (out / "vertices.h5").exists()


class Stopped(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("then", ["the same command", "the plain command"])
@pytest.mark.parametrize("moment", range(1, 9))
def test_a_retry_that_is_killed_ends_as_the_run_that_succeeded_at_once(
    bundle: Bundle,
    tmp_path: Path,
    expected: Path,
    vertices: str,
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
    then: str,
) -> None:
    """Whichever file is renamed last: what is replaced is whole, or as it was, and no other row is made again."""
    folder, out = spoiled(tmp_path / "in"), tmp_path / "out"
    request = wanted(folder, out, bundle, vertices=vertices)
    process(request, HERE)
    repaired(folder)
    calls, publish = 0, atomic.publish

    def stops(work: Path, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > moment:
            raise Stopped
        publish(work, path)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(atomic, "publish", stops)
        process(request, HERE, retry_failed=ALL)
    for name in {path.name for path in folder.iterdir()} - BROKEN.keys():
        (folder / name).unlink()  # they need not be there any more
        (folder / name).touch()
    run, _ = process(request, HERE, retry_failed=ALL if then == "the same command" else frozenset())
    assert verify_run(run) == []
    assert not list(out.rglob(".*"))
    rows = open_run(out).images().to_pylist()
    assert all(row["status"] != "error" for row in rows if row["key"] not in BROKEN)
    process(request, HERE, retry_failed=ALL)
    same_tables(out, expected)


@pytest.mark.parametrize("moment", [1, 2, 3, 5, 6])
def test_a_retry_whose_process_is_killed_is_finished_by_the_next_command(
    bundle: Bundle, tmp_path: Path, moment: int
) -> None:
    """With SIGKILL, after which nothing tidies up."""
    folder, out = spoiled(tmp_path / "in"), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    repaired(folder)
    command = [sys.executable, Path(dying_commit.__file__), folder, out, bundle.folder, str(moment)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(dying_commit.__file__).parent), *sys.path])}
    assert subprocess.run(command, check=False, env=environment).returncode == -signal.SIGKILL
    run, totals = process(wanted(folder, out, bundle), HERE, retry_failed=ALL)
    assert (verify_run(run), totals.n_errors, totals.faces) == ([], 0, 11)
    assert not list(out.rglob(".*"))
    process(wanted(folder, tmp_path / "once", bundle), HERE)
    same_tables(out, tmp_path / "once")


def test_a_replacement_whose_file_is_lost_has_its_shard_done_again(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = spoiled(tmp_path / "in"), tmp_path / "out"
    request = wanted(folder, out, bundle)
    process(request, HERE)
    repaired(folder)

    def stops(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(staging, "_replaced", stops)
        process(request, HERE, retry_failed=ALL)
    assert staging.begun_replacements(run_folder_at(out)) == [0]
    for path in (out / "images").glob(".*"):
        path.unlink()
    run, totals = process(request, HERE)
    assert dict(totals.errors) == {"truncated": 1}
    assert verify_run(run) == []


def test_a_replacement_can_be_committed_twice(bundle: Bundle, tmp_path: Path) -> None:
    """As Dask does it, whose answer was lost."""
    from ddfa_batch.pipeline import retry

    folder, out = spoiled(tmp_path / "in"), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    repaired(folder)
    work = retry.retry_faces(ALL)
    assert work is not None
    find, reconstruct, write, commit = work.stages.values()
    staged = write(str(out), 0, reconstruct(str(out), 0, find(str(out), 0)))
    receipt = commit(str(out), 0, staged)
    assert commit(str(out), 0, staged) == receipt == store.read_receipt(run_folder_at(out), 0)
    again = commit(str(out), 0, write(str(out), 0, reconstruct(str(out), 0, find(str(out), 0))))
    assert again.rows == receipt.rows


def test_an_image_that_crashed_is_given_two_attempts_anew(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = small_model.pictures(tmp_path / "in", [1, 2]), tmp_path / "out"
    request = wanted(folder, out, bundle)
    plan.prepare(request)
    for _ in range(2):
        command = [sys.executable, Path(dying.__file__), out, "001.png"]
        assert subprocess.run(command, check=False).returncode == -signal.SIGSEGV
    _, totals = process(request, HERE)
    assert dict(totals.errors) == {"crashed": 1}
    _, totals = process(request, HERE, retry_failed=frozenset({"crashed"}))
    assert (totals.n_errors, totals.faces) == (0, 3)


def test_what_is_added_and_what_failed_at_once(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = spoiled(tmp_path / "in"), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    repaired(folder)
    small_model.pictures(folder, [*COUNTS, 4])
    run, totals = process(wanted(folder, out, bundle), HERE, extend=True, retry_failed=ALL)
    assert [(entry.what, entry.n_inputs) for entry in run.history] == [("extended", 1), ("retried", 3)]
    assert (totals.images, totals.faces, totals.n_errors) == (9, 15, 0)


def test_pictures_elsewhere_are_not_tried(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = spoiled(tmp_path / "in"), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    with pytest.raises(RunFolderError, match="put what was added or repaired there"):
        process(wanted(repaired(tmp_path / "new"), out, bundle), HERE, retry_failed=ALL)


def test_a_few_failed_images_are_done_in_this_process(bundle: Bundle, tmp_path: Path) -> None:
    """However many are done: a local cluster takes some seconds to start."""
    folder, out = small_model.pictures(tmp_path / "in", [0] * 3), tmp_path / "out"
    for i in range(210):
        os.link(folder / "000.png", folder / f"copy{i}.png")
    (folder / "001.png").unlink()
    (folder / "001.png").touch()
    request = wanted(folder, out, bundle, shard_size=100)
    process(request, HERE)
    here = []
    read = images.read_bytes

    def reads(path: Path) -> bytes:
        here.append(path.name)
        return read(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "read_bytes", reads)
        process(request, Execution(), retry_failed=ALL)
    assert here == ["001.png"]


@pytest.mark.filterwarnings("default")
def test_the_same_on_two_local_processes(bundle: Bundle, tmp_path: Path, expected: Path, vertices: str) -> None:
    folder, out = spoiled(tmp_path / "in"), tmp_path / "out"
    request = wanted(folder, out, bundle, vertices=vertices)
    process(request, HERE)
    repaired(folder)
    process(request, Execution("local", 2), retry_failed=ALL)
    same_tables(out, expected)
    images = open_run(out).images()
    assert images.drop_columns(TIMES).num_rows == 8
    assert np.isfinite(images["decode_ms"].to_numpy()).all()
