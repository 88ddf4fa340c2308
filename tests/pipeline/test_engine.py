"""What every kind of run shares: replacing a run, one command at a time, commits that can be repeated, receipts."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_model
from compared_runs import same_tables
from conftest import wanted

from ddfa_batch.pipeline import engine, faces, own_files, plan, process, staging
from ddfa_batch.pipeline.faces import find_faces, reconstruct, write
from ddfa_batch.pipeline.plan import PlanRow, RunRequest
from ddfa_batch.pipeline.progress import Phase, Progress
from ddfa_batch.pipeline.receipts import damaged_shards, pending_shards, verify_run
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.pipeline.staging import StagedShard, commit
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import BundleError, FilesGoneError, InputError, RunFolderError
from ddfa_batch.schemas.faces import ImageRecord
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import atomic, run_lock, store
from ddfa_batch.tasks.files.in_flight import InFlight
from ddfa_batch.tasks.files.inputs import Input
from ddfa_batch.tasks.files.run_folders import run_folder_at

HERE = Execution("in-process")


@pytest.fixture(scope="module")
def done(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done") / "out"
    process.process(wanted(photos, out, bundle), HERE)
    return out


@pytest.fixture
def out(done: Path, tmp_path: Path) -> Path:
    """A run that is done, to be changed."""
    return Path(shutil.copytree(done, tmp_path / "out"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------------------------------------- replacing a run


def no_inputs(request: RunRequest, tmp_path: Path) -> RunRequest:
    (tmp_path / "empty").mkdir()
    return replace(request, source=replace(request.source, path=tmp_path / "empty", root=tmp_path / "empty"))


def no_detector(request: RunRequest, tmp_path: Path) -> RunRequest:
    copy = Path(shutil.copytree(request.bundle.folder, tmp_path / "model"))
    (copy / "detectors/yunet.onnx").write_bytes(b"no network")
    return replace(request, bundle=replace(request.bundle, folder=copy))


@pytest.mark.parametrize(("change", "fault"), [(no_inputs, InputError), (no_detector, BundleError)])
def test_a_run_is_removed_only_for_one_that_can_be_made(
    out: Path,
    photos: Path,
    bundle: Bundle,
    tmp_path: Path,
    change: Callable[[RunRequest, Path], RunRequest],
    fault: type[Exception],
) -> None:
    before = contents(out)
    with pytest.raises(fault):
        process.process(change(wanted(photos, out, bundle), tmp_path), HERE, overwrite=True)
    assert contents(out) == before


class Stopped(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moment", range(0, 24, 2))
def test_replacing_a_run_can_be_interrupted_at_any_moment(
    out: Path, photos: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """The same command, without --overwrite too, then makes the new run; a file of the user's stays."""
    (out / "my-notes.txt").write_text("keep me")
    steps = 0

    def counted(name: str) -> None:
        original = getattr(Path, name)

        def step(self: Path, *arguments: object, **options: object) -> object:
            nonlocal steps
            if out in self.parents and not self.name.endswith(store.LOCK):
                steps += 1
                if steps == moment:
                    raise Stopped
            return original(self, *arguments, **options)

        monkeypatch.setattr(Path, name, step)

    for name in ("unlink", "replace", "touch", "rmdir"):
        counted(name)
    request = wanted(photos, out, bundle, shard_size=5)
    try:
        process.process(request, HERE, overwrite=True)
    except Stopped:
        monkeypatch.undo()
        begun = (out / store.REPLACING).exists() or json.loads((out / store.RUN).read_text())["shard_size"] == 5
        process.process(request, HERE, overwrite=not begun)
    monkeypatch.undo()
    assert open_run(out).run.shard_size == 5
    assert open_run(out).complete
    assert len(list((out / "shards").iterdir())) == 3
    assert (out / "my-notes.txt").read_text() == "keep me"
    assert not list(out.rglob(".*"))


# ------------------------------------------------------------------------------------- one command at a time


def test_a_second_command_in_the_folder_is_refused_and_says_who_is_there(
    photos: Path, bundle: Bundle, tmp_path: Path
) -> None:
    out, told = tmp_path / "out", []

    def second(progress: Progress) -> None:
        if progress.phase is Phase.WORKING and not told:
            with pytest.raises(RunFolderError) as refused:
                process.process(wanted(photos, out, bundle), HERE, overwrite=True)
            told.append(str(refused.value))

    process.process(wanted(photos, out, bundle), HERE, report=second)
    assert f"{out} is being worked in by ddfa-batch process, process {os.getpid()} on " in told[0]
    assert open_run(out).complete
    assert not (out / store.LOCK).exists()


def test_the_lock_of_a_process_that_died_is_free(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    holder = (
        "import os, signal, sys; from pathlib import Path; from ddfa_batch.tasks.files.run_lock import locked\n"
        "with locked(Path(sys.argv[1]), 'process'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    died = subprocess.run([sys.executable, "-c", holder, tmp_path / "out"], check=False)
    assert died.returncode == -signal.SIGKILL
    assert (tmp_path / "out" / store.LOCK).exists()
    process.process(wanted(photos, tmp_path / "out", bundle), HERE)
    assert not (tmp_path / "out" / store.LOCK).exists()


def test_a_file_system_without_locks_is_worked_on_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(run_lock.fcntl, "flock", no_locks)
    with run_lock.locked(tmp_path / "out", "process"):
        assert (tmp_path / "out").is_dir()
    assert not (tmp_path / "out").exists()  # nothing was put there


def test_a_run_that_cannot_be_planned_leaves_no_folder(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    listed = iter([1])

    def changes(request: RunRequest) -> object:
        return ({"image_id": i, "key": "x"} for i in listed)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match="changed while it was listed"):
        patch.setattr(plan, "planned_rows", changes)
        process.process(wanted(photos, tmp_path / "out", bundle), HERE)
    _, totals = process.process(wanted(photos, tmp_path / "out", bundle), HERE)
    assert totals.images == 12


# -------------------------------------------------------------------------------------- staging and commit


@pytest.fixture
def staged(photos: Path, bundle: Bundle, tmp_path: Path) -> tuple[str, StagedShard]:
    """A planned run, and its first shard, written and not yet committed."""
    run = plan.prepare(wanted(photos, tmp_path / "run", bundle))
    folder = str(run.out)
    return folder, write(folder, 0, reconstruct(folder, 0, find_faces(folder, 0)))


@pytest.mark.parametrize("n_renamed", [0, 1, 2, 3])
def test_a_commit_that_was_cut_short_is_done_by_doing_it_again(
    staged: tuple[str, StagedShard], monkeypatch: pytest.MonkeyPatch, n_renamed: int
) -> None:
    """As Dask does it, whose worker died or whose answer was lost."""
    out, shard = staged
    publish, calls = atomic.publish, 0

    def stops(work: Path, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > n_renamed:
            raise Stopped
        publish(work, path)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(staging.atomic, "publish", stops)
        commit(out, 0, shard)
    receipt = commit(out, 0, shard)
    assert commit(out, 0, shard) == receipt == store.read_receipt(run_folder_at(out), 0)
    assert verify_run(plan.read_run(Path(out))) == []


def test_a_staged_file_that_somebody_removed_is_told(staged: tuple[str, StagedShard]) -> None:
    out, shard = staged
    Path(shard.files["faces/000000.parquet"].work).unlink()
    with pytest.raises(RunFolderError, match=r"faces/000000.parquet was written and is gone"):
        commit(out, 0, shard)


def test_a_write_that_fails_leaves_nothing(
    photos: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(plan.prepare(wanted(photos, tmp_path / "run", bundle)).out)
    made = reconstruct(folder, 0, find_faces(folder, 0))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(faces.store, "put_table", full)
    with pytest.raises(OSError, match="No space left"):
        write(folder, 0, made)
    assert not list((tmp_path / "run").rglob("*.tmp"))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_folder_or_file_is_whole_or_not_there(tmp_path: Path, kind: str) -> None:
    path, whole = tmp_path / "made", atomic.whole_file if kind == "file" else atomic.whole_folder
    with pytest.raises(Stopped), whole(path) as work:
        assert not path.exists()
        raise Stopped
    assert not list(tmp_path.iterdir())
    for text in ("first", "second"):
        with whole(path) as work:
            (work if kind == "file" else work / "part").write_text(text)
        assert (path if kind == "file" else path / "part").read_text() == text
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------------------------------ receipts


def test_damage_that_keeps_the_size_is_found_and_mended(out: Path, done: Path, photos: Path, bundle: Bundle) -> None:
    file = out / "vertices/000001.h5"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    run = plan.read_run(out)
    assert pending_shards(run) == []
    assert list(damaged_shards(run)) == [1]
    (found,) = verify_run(run)
    assert found.startswith("vertices/000001.h5 has another checksum than its receipt says")
    process.process(wanted(photos, out, bundle), HERE, verify=True)
    assert verify_run(run) == []
    same_tables(out, done)


def test_receipts_without_checksums_are_taken_at_their_word(out: Path) -> None:
    """Runs made before there were checksums stay readable, and complete."""
    for path in (out / "shards").glob("*.json"):
        receipt = json.loads(path.read_text())
        del receipt["checksums"]
        path.write_text(json.dumps(receipt))
    assert open_run(out).complete
    assert verify_run(plan.read_run(out)) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shard": "one"}, r"has a wrong 'shard' \(Expected int, got str\)"),
        ({"rows": []}, "has a wrong 'rows'"),
        ({"rows": {"images": 1.5}}, r"has a wrong 'rows.images' \(Expected int, got float\)"),
        ({"shard": 2}, "is the receipt of shard 2"),
        ({"more": 1}, "has an unknown key 'more'"),
    ],
)
def test_a_damaged_receipt_is_told_in_a_sentence_and_its_shard_done_again(
    out: Path, photos: Path, bundle: Bundle, change: dict[str, object], told: str
) -> None:
    path = out / "shards/000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RunFolderError, match=f"000001.json {told}.*; remove it and run the same command again"):
        open_run(out)
    (fault,) = verify_run(plan.read_run(out))
    assert "000001.json" in fault
    process.process(wanted(photos, out, bundle), HERE)
    assert open_run(out).complete


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n_inputs": "12"}, r"has a wrong 'n_inputs' \(Expected int, got str\)"),
        ({"shard_size": 0}, "does not hold together"),
        ({"identity": 3}, "has a wrong 'identity'"),
        ({"identity": {}}, "does not hold together"),
        ({"model": {"name": "x"}}, "has no 'model.folder'"),
        ({"notes": [1]}, "has a wrong 'notes'"),
        ({"format": "somebody else's"}, "is not of the format 'ddfa-batch run'"),
        ({"format_version": 99}, "has format version 99, and this ddfa-batch reads version 1"),
        ({"format_version": "1"}, "has format version '1'"),
    ],
)
def test_wrong_types_in_run_json_are_a_sentence(out: Path, change: dict[str, object], told: str) -> None:
    """Where neither seal nor plan holds a copy of it."""
    path = out / "run.json"
    (out / "seal.json").unlink()
    (out / "plan.parquet").unlink()
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RunFolderError, match=rf"run\.json {told}"):
        open_run(out)


@pytest.mark.parametrize("phase", [Phase.WORKING, Phase.JOINING])
def test_the_same_command_goes_on_where_out_was_removed_in_mid_run(
    photos: Path, bundle: Bundle, tmp_path: Path, phase: Phase
) -> None:
    """What the first still wrote there afterwards is no stranger's."""
    request, removed = wanted(photos, tmp_path / "out", bundle, shard_size=2), []

    def removes(now: Progress) -> None:
        if now.phase is phase and now.totals.images and not removed:
            removed.append(shutil.rmtree(tmp_path / "out"))

    with pytest.raises(RunFolderError, match="out was removed while the run was at work; run the same command again"):
        process.process(request, HERE, report=removes)
    process.process(request, HERE)
    assert open_run(tmp_path / "out").complete


@pytest.mark.parametrize("gone", ["shards", "faces"])
def test_a_removal_that_is_under_way_is_waited_for(out: Path, gone: str) -> None:
    """A folder's files go one by one, and run.json is not the first."""
    removal = threading.Timer(0.2, shutil.rmtree, (out, True))
    with pytest.raises(RunFolderError, match="was removed while"), own_files.rest_removed(run_folder_at(out)):
        shutil.rmtree(out / gone)
        removal.start()
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(out / gone))


def test_receipts_that_go_one_by_one_are_a_removal_under_way(out: Path) -> None:
    removal = threading.Timer(0.2, shutil.rmtree, (out, True))
    with pytest.raises(RunFolderError, match="was removed while"), own_files.rest_removed(run_folder_at(out)):
        removal.start()
        raise FilesGoneError("2 shards have no receipt.")


# ------------------------------------------------------------------------------------- the per-item boundary


@pytest.mark.parametrize("why", [errno.ENOSPC, errno.EROFS])
def test_where_nothing_can_be_written_the_run_ends_and_no_input_is_blamed(tmp_path: Path, why: int) -> None:
    def fails(row: PlanRow) -> tuple[ImageRecord, int]:
        raise OSError(why, os.strerror(why))

    with pytest.raises(OSError, match=os.strerror(why)):
        engine.each_item(str(tmp_path), 0, rows(1), fails, announced=False)


def rows(n: int) -> list[PlanRow]:
    return [PlanRow(i, Input(f"{i}.png", None)) for i in range(n)]


def record_of(row: PlanRow) -> tuple[ImageRecord, int]:
    return ImageRecord(row.image_id, row.item.key, "ok"), row.image_id


def test_two_attempts_at_a_shard_never_write_to_the_same_mark(tmp_path: Path) -> None:
    with InFlight(tmp_path, 0) as one, InFlight(tmp_path, 0) as two:
        one.hold(3)
        two.hold(4)
        third = InFlight(tmp_path, 0)
        assert (third.deaths(3), third.deaths(4), third.deaths(5)) == (1, 1, 0)
        third.__exit__()
    assert not list((tmp_path / "shards").iterdir())


def test_an_image_is_not_blamed_where_somebody_kills_the_command_that_holds_it(tmp_path: Path) -> None:
    """Nor after three times; where the fault handler wrote of a crash, it is after two."""
    for number in range(1, 7):
        InFlight(tmp_path, 0).hold(3)
        assert InFlight(tmp_path, 0).gives_up(3) == (number == 6)
    InFlight.forget(tmp_path, 0)
    for number in range(1, 3):
        InFlight(tmp_path, 0).hold(3)
        for path in (tmp_path / "shards").iterdir():
            if path.stat().st_size == 8:
                path.write_bytes(path.read_bytes() + b"Fatal Python error: Segmentation fault")
        assert InFlight(tmp_path, 0).gives_up(3) == (number == 2)


def test_a_mark_that_ends_early_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/.000000.a.inflight").write_bytes(b"\0\0\0")
    with InFlight(tmp_path, 0) as attempt:
        assert attempt.deaths(0) == 0
    InFlight.forget(tmp_path, 0)
    assert not list((tmp_path / "shards").iterdir())


def test_the_garbage_collector_is_off_until_the_last_thread_is_done(tmp_path: Path) -> None:
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def slow(row: PlanRow) -> tuple[ImageRecord, int]:
        begun.set()
        go_on.wait(10)
        seen.append(gc.isenabled())
        return record_of(row)

    assert gc.isenabled()
    first = threading.Thread(target=engine.each_item, args=(str(tmp_path), 0, rows(1), slow))
    first.start()
    begun.wait(10)
    engine.each_item(str(tmp_path), 1, rows(2), record_of)
    go_on.set()
    first.join()
    assert seen == [False]
    assert gc.isenabled()


def test_whatever_is_raised_becomes_the_row_of_its_input(tmp_path: Path) -> None:
    told = []

    def breaks(row: PlanRow) -> tuple[ImageRecord, int]:
        if row.image_id == 1:
            raise ZeroDivisionError("of all things")
        if row.image_id == 2:
            raise BundleError("No such network.")
        if row.image_id == 4:
            raise MemoryError
        return record_of(row)

    done = engine.each_item(str(tmp_path), 0, rows(5), breaks, failed=lambda: told.append(1))
    assert [made for _, made in done] == [0, None, None, 3, None]
    assert [record.status for record, _ in done] == ["ok", "error", "error", "ok", "error"]
    assert done[1][0].error_message == "Unexpected error, please report it: ZeroDivisionError: of all things"
    assert done[2][0].error_message == "No such network."
    assert done[4][0].error_kind == "out_of_memory"
    assert done[4][0].error_message.startswith("The system gave no more memory")
    assert len(told) == 3


def test_meshes_are_rebuilt_on_one_thread(done: Path, photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    """A matrix product on several threads differs in the last bits from a worker's."""
    from threadpoolctl import threadpool_limits

    process.process(wanted(photos, tmp_path / "out", bundle, vertices="none"), HERE)
    with threadpool_limits(4):
        assert np.array_equal(open_run(tmp_path / "out").vertices(), open_run(done).vertices())


@pytest.mark.parametrize("kind", ["faces", "images"])
def test_a_column_that_is_none_is_no_damage(
    done: Path, photos: Path, bundle: Bundle, tmp_path: Path, kind: str
) -> None:
    import pyarrow.dataset as ds

    table = getattr(open_run(done), kind)
    with pytest.raises(RunFolderError, match=rf"{kind} has no column 'yawn'; it has .*key"):
        table(columns=["key", "yawn"])
    with pytest.raises(RunFolderError, match=rf"{kind} has no column that the filter names; it has .*key"):
        table(filter=ds.field("yawn") > 1)
    plan.prepare(wanted(photos, tmp_path / "planned", bundle))
    planned = getattr(open_run(tmp_path / "planned"), kind)
    assert planned(columns=["key"]).num_rows == 0
    with pytest.raises(RunFolderError, match="has no column 'yawn'"):
        planned(columns=["yawn"])


def test_the_phases_of_a_run_are_told_in_order(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    told: list[Progress] = []
    process.process(wanted(photos, tmp_path / "out", bundle), HERE, report=told.append)
    phases = list(dict.fromkeys(progress.phase for progress in told))
    assert phases == list(Phase)
    assert [p.listed for p in told if p.phase in (Phase.LISTING, Phase.MODEL)] == [0, 12]
    assert all((p.run is None) == (p.phase in (Phase.LISTING, Phase.MODEL, Phase.PLANNING)) for p in told)


def test_a_listing_is_told_while_it_grows(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    told: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_LISTED_EVERY", 5)
        plan.list_request(wanted(photos, tmp_path / "out", bundle), told.append)
    assert told == [5, 10]


def test_a_folder_of_one_picture_is_small_enough_for_one_process(bundle: Bundle, tmp_path: Path) -> None:
    folder = small_model.pictures(tmp_path / "in", [1])
    _, totals = process.process(wanted(folder, tmp_path / "out", bundle, shard_size=None), Execution())
    assert totals.faces == 1
