"""Runs whose folder is in a bucket: a real S3 store on loopback, one that fails, one that hangs, commands that die."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import h5py
import object_store
import portrait_films
import pyarrow.compute as pc
import pytest
import small_model
from command_line import COMMAND, call, environment
from compared_runs import TIMES, same_tables
from conftest import wanted

import ddfa_batch
from ddfa_batch.pipeline.plan import RunRequest, read_run
from ddfa_batch.pipeline.preview import draw_faces
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.receipts import pending_shards, verify_run
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.config import BUILTIN, Execution, RemoteLimits
from ddfa_batch.schemas.errors import ERROR_KINDS, InputError, RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import Bundle, find_bundle
from ddfa_batch.tasks.files import lease, store
from ddfa_batch.tasks.files.inputs import Source, SourceOptions, resolve_sources
from ddfa_batch.tasks.files.remote_folder import RemoteFolder

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

HERE = Execution("in-process")
#: What a command is to be told so that it makes the run that `wanted` asks for.
WORDS = ("--shard-size", 4, "--detector", "yunet", "--min-score", 0.9, "--scheduler", "in-process")
_number = itertools.count()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("s3")
    with object_store.s3_server(folder) as address:
        object_store.put(address, "runs", {"notes/mine.txt": b"keep me"})
        yield address


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let s3:// mean the store at `endpoint`."""
    monkeypatch.setitem(fsspec.config.conf, "s3", {**object_store.CREDENTIALS, "endpoint_url": endpoint})


@pytest.fixture
def out(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The URL of a folder that is not there yet; files are staged below a folder of the test's own."""
    use(monkeypatch, endpoint)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return f"s3://runs/{next(_number)}"


@pytest.fixture(scope="module")
def local(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in a folder of this machine."""
    folder = tmp_path_factory.mktemp("local") / "out"
    process(wanted(photos, folder, bundle), HERE)
    return folder


def to(out: str, request: RunRequest) -> RunRequest:
    return replace(request, out=out)


def staged(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()]


# --------------------------------------------------------------------------------------------------- the same run


def test_a_run_in_a_bucket_writes_what_one_in_a_folder_does(
    out: str, local: Path, photos: Path, bundle: Bundle, tmp_path: Path
) -> None:
    run, totals = process(to(out, wanted(photos, local, bundle)), HERE)
    assert (totals.images, totals.faces) == (12, 19)
    same_tables(local, out)
    found, entries = ddfa_batch.open(f"{out}/"), run.folder.entries()
    assert found.complete and (found.triangles == open_run(local).triangles).all()
    assert (found.vertices([10000, 0]) == open_run(local).vertices([10000, 0])).all()
    assert entries == sorted(path.name for path in local.iterdir())
    with h5py.File(run.folder.source("vertices.h5")) as there, h5py.File(local / "vertices.h5") as here:
        assert [part.file_name for part in there["vertices"].virtual_sources()] == [
            part.file_name for part in here["vertices"].virtual_sources()
        ]
    assert verify_run(run) == []
    assert not staged(tmp_path)


def test_the_command_works_in_a_bucket_and_status_proves_it(out: str, photos: Path, models: Path, local: Path) -> None:
    done = call("process", photos, out, *WORDS, "--preview", 3, models=models)
    assert (done.code, f"Look at {out}/preview.png" in done.stdout) == (0, True)
    assert f"Faces in {out}/faces/*.parquet" in done.stdout
    answer = call("status", f"{out}/", models=models)
    assert (answer.code, "3 of 3 done, complete" in answer.stdout) == (0, True), answer.stderr
    same_tables(local, out)
    verified = call("verify", f"{out}/", models=models)
    assert (verified.code, "is as it was written" in verified.stdout) == (0, True), verified.stderr
    name, folder = "faces/000001.parquet", RemoteFolder(out)
    folder.put(name, folder.read(name)[:-9] + b"x" + folder.read(name)[-8:])
    verified = call("verify", out, "--mend", models=models)
    assert (verified.code, f"{name} has another checksum" in verified.stderr) == (1, True), verified.stderr
    assert call("process", photos, out, *WORDS, models=models).code == 0
    same_tables(local, out)


def test_any_file_system_that_fsspec_can_write_will_do(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    """One without an event loop, with folders."""
    url = (tmp_path / "url").as_uri()
    process(to(url, wanted(photos, tmp_path, bundle, vertices="none")), HERE)
    process(wanted(photos, tmp_path / "out", bundle, vertices="none"), HERE)
    same_tables(tmp_path / "out", url)
    assert open_run(tmp_path / "url").complete


def test_videos_are_joined_in_a_bucket(out: str, tmp_path: Path) -> None:
    """Tracks over seams, smoothed; `status` proves their counts."""
    film = portrait_films.write(tmp_path / "clip.mp4", 12)
    asked = {"detector": "builtin", "min_score": 0.76, "vertices": "none", "smooth": "one-euro"}
    request = wanted(film, tmp_path / "out", find_bundle(BUILTIN, tmp_path), shard_size=5, **asked)
    process(request, HERE)
    process(to(out, request), HERE)
    here, there = open_run(tmp_path / "out"), open_run(out)
    for table in ("faces", "tracks", "videos"):
        assert getattr(here, table)().equals(getattr(there, table)()), table
    assert len(there.tracks()) == 2
    answer = call("status", out, model=None)
    assert (answer.code, "one track per face" in answer.stdout) == (0, True), answer.stderr


def test_a_run_among_its_inputs_is_left_out(
    out: str, endpoint: str, photos: Path, bundle: Bundle, tmp_path: Path
) -> None:
    for name in ("000.png", "001.png"):
        RemoteFolder(out).put(name, (photos / name).read_bytes())
    asked = wanted(photos, tmp_path, bundle, vertices="none")
    request = replace(asked, source=_source(out), out=f"{out}/run")
    run, _ = process(request, HERE)
    draw_faces(run, 2)
    assert process(request, HERE)[0].n_inputs == 2


def _source(url: str) -> Source:
    return resolve_sources([url], SourceOptions())


# ------------------------------------------------------------------------------------------ what may go wrong


def test_a_command_that_is_killed_is_gone_on_with_from_the_bucket_alone(
    endpoint: str, out: str, photos: Path, models: Path, bundle: Bundle, local: Path, tmp_path: Path
) -> None:
    """With SIGKILL when a worker puts a receipt; in-process and amid a shard's files the pictures of a run, below."""
    begun: list[subprocess.Popen[bytes]] = []

    def kill(_: int, request: str) -> None:
        if request.startswith("PUT") and request.endswith("shards/000001.json"):
            begun[0].kill()

    with object_store.troubled(endpoint, kill, named=True) as address:
        more = {**object_store.variables(address), "TMPDIR": str(tmp_path / "tmp")}
        command = [COMMAND, "process", *map(str, (photos, out, *WORDS[:-1], "local", "--workers", 2))]
        begun.append(subprocess.Popen(command, env=environment(models, "small", **more), stderr=subprocess.DEVNULL))
        assert begun[0].wait(60) == -signal.SIGKILL
    assert len(pending_shards(read_run(out))) < 3  # workers may end what they have in hand
    shutil.rmtree(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    run, totals = process(to(out, wanted(photos, local, bundle)), HERE)
    assert (totals.images, verify_run(run), store.LOCK in run.folder.entries()) == (12, [], False)
    same_tables(local, out)


def test_pictures_of_a_run_go_to_a_bucket_whoever_goes_on(
    endpoint: str, out: str, models: Path, local: Path, tmp_path: Path
) -> None:
    """Killed with SIGKILL amid the files of a shard; what an attempt before had put there is not kept."""
    words = ("render", local, out, "--longest", 48, "--shard-size", 4, "--scheduler", "in-process")
    begun: list[subprocess.Popen[bytes]] = []

    def kill(_: int, request: str) -> None:
        if request.startswith("PUT") and "/pictures/000001/" in request:
            begun[0].kill()

    with object_store.troubled(endpoint, kill, named=True) as address:
        more = {**object_store.variables(address), "TMPDIR": str(tmp_path / "tmp")}
        command = [COMMAND, *map(str, words)]
        begun.append(subprocess.Popen(command, env=environment(models, "small", **more), stderr=subprocess.DEVNULL))
        assert begun[0].wait(60) == -signal.SIGKILL
    assert pending_shards(read_run(out)) == [1, 2]
    there = RemoteFolder(out)
    there.put("pictures/000001/of-an-attempt-before.png", b"")
    assert call(*words, models=models).code == 0
    pictures = open_run(out).images()["picture"].to_pylist()
    assert [name for shard in range(3) for name in there.entries(f"pictures/{shard:06d}")] == [
        name.rpartition("/")[2] for name in pictures
    ]
    assert (verify_run(read_run(out)), store.LOCK in there.entries()) == ([], False)


def test_a_store_that_fails_half_of_the_time_loses_nothing(
    endpoint: str, out: str, photos: Path, bundle: Bundle, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the client's pause before it asks again is half a second, of some two hundred requests
    monkeypatch.setattr("botocore.retryhandler.delay_exponential", lambda *_, **__: 0.001)
    with object_store.troubled(endpoint, lambda n, _: 503 if n % 2 else None) as address:
        use(monkeypatch, address)
        process(to(out, wanted(photos, local, bundle)), HERE)
    use(monkeypatch, endpoint)
    same_tables(local, out)
    assert verify_run(read_run(out)) == []


def test_a_store_that_hangs_ends_the_command_in_a_sentence_and_the_next_goes_on(
    endpoint: str, out: str, photos: Path, models: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(_: int, request: str) -> float | None:
        return 6.0 if request.startswith("PUT") and "faces/000001" in request else None

    with object_store.troubled(endpoint, hang, named=True) as address:
        use(monkeypatch, address)
        begun = time.perf_counter()
        words = (*WORDS, "--remote-attempts", 2, "--remote-timeout", 1)
        answer = call("process", photos, out, *words, models=models)
        assert time.perf_counter() - begun < 12
    told = answer.stderr.strip().splitlines()[-1]
    assert answer.code == 1
    assert f"{out}/faces/000001.parquet cannot be written: 2 attempts failed: no answer within 1" in told
    assert "run the same command again" in told
    use(monkeypatch, endpoint)
    assert call("process", photos, out, *WORDS, models=models).code == 0
    same_tables(local, out)


def test_what_is_lost_in_the_bucket_is_found_and_done_again(
    out: str, photos: Path, models: Path, bundle: Bundle, local: Path
) -> None:
    run, _ = process(to(out, wanted(photos, local, bundle)), HERE)
    data = bytearray(run.folder.read("faces/000002.parquet"))
    data[len(data) // 2] ^= 1
    run.folder.remove(["faces/000001.parquet", "shards/000000.json"])
    run.folder.put("faces/000002.parquet", bytes(data))
    answer = call("status", out, models=models)
    assert answer.code == 1
    assert "faces/000001.parquet is missing" in answer.stderr
    assert "faces/000002.parquet has another checksum" in answer.stderr
    assert call("process", photos, out, *WORDS, "--verify", models=models).code == 0
    same_tables(local, out)
    assert call("status", out, models=models).code == 0


def test_a_bucket_that_is_not_there_is_a_sentence(out: str, photos: Path, models: Path) -> None:
    answer = call("process", photos, "s3://nowhere/run", *WORDS, models=models)
    assert answer.code == 1
    assert "s3://nowhere/run" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) <= 2
    assert "holds no run" in call("status", "s3://runs/none", models=models).stderr


# ----------------------------------------------------------------------------------------------- grow and heal


def test_a_run_in_a_bucket_grows_and_heals(out: str, bundle: Bundle, tmp_path: Path) -> None:
    folder = small_model.pictures(tmp_path / "in", [1, 2, 0, 1, 3])
    whole = (folder / "001.png").read_bytes()
    (folder / "001.png").write_bytes(whole[: len(whole) // 2])
    request = wanted(folder, tmp_path / "expected", bundle, shard_size=3)
    assert process(to(out, request), HERE)[1].n_errors == 1
    (folder / "001.png").write_bytes(whole)
    small_model.pictures(folder, [1, 2, 0, 1, 3, 1, 2])
    run, totals = process(to(out, request), HERE, extend=True, retry_failed=frozenset(ERROR_KINDS))
    assert (totals.n_errors, totals.images, run.parts, verify_run(run)) == (0, 7, [5, 2], [])
    assert [entry.what for entry in run.history] == ["extended", "retried"]
    process(request, HERE)
    a, b = open_run(tmp_path / "expected"), open_run(out)
    left_out = ["vertices_file", "vertices_row"]
    assert a.faces().drop_columns(left_out).equals(b.faces().drop_columns(left_out))
    assert a.images().drop_columns(TIMES).equals(b.images().drop_columns(TIMES))
    assert (a.vertices() == b.vertices()).all()


class Stopped(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moment", [0, 2])
def test_a_retry_that_is_cut_short_is_finished_from_any_machine(
    out: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """The images that had been read before are gone by then."""
    folder = small_model.pictures(tmp_path / "in", [1, 2, 1])
    whole = (folder / "001.png").read_bytes()
    (folder / "001.png").write_bytes(b"")
    request = to(out, wanted(folder, tmp_path, bundle))
    process(request, HERE)
    before = open_run(out).faces()
    (folder / "001.png").write_bytes(whole)
    (folder / "000.png").write_bytes(b"gone")
    calls, publish = itertools.count(), RemoteFolder.publish

    def stop(self: RemoteFolder, work: str, name: str) -> None:
        if not Path(work).is_absolute() and next(calls) == moment:
            raise Stopped
        publish(self, work, name)

    with monkeypatch.context() as patched:
        patched.setattr(RemoteFolder, "publish", stop)
        with pytest.raises(Stopped):
            process(request, HERE, retry_failed=frozenset(ERROR_KINDS))
    shutil.rmtree(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    run, totals = process(request, HERE)
    assert (totals.n_errors, totals.faces, verify_run(run)) == (0, 4, [])
    after = open_run(out).faces()
    others = after.filter(pc.not_equal(after["image_id"], 1))
    assert others.drop_columns("vertices_row").equals(before.drop_columns("vertices_row"))
    assert not [name for name in run.folder.entries("faces") + run.folder.entries("shards") if name.startswith(".")]


def test_replacing_a_run_leaves_what_is_not_its_own(out: str, photos: Path, bundle: Bundle, local: Path) -> None:
    request = to(out, wanted(photos, local, bundle, vertices="none"))
    run, _ = process(request, HERE)
    run.folder.put("notes.txt", b"keep me")
    run.folder.put("images/holiday.jpg", b"keep me")
    with pytest.raises(RunFolderError, match=r"differs in vertices .*--overwrite"):
        process(to(out, wanted(photos, local, bundle)), HERE)
    process(to(out, wanted(photos, local, bundle)), HERE, overwrite=True)
    same_tables(local, out)
    assert run.folder.read("notes.txt") == run.folder.read("images/holiday.jpg") == b"keep me"
    with pytest.raises(RunFolderError, match=r"s3://runs/notes is not empty and holds no run \(it has mine.txt\)"):
        process(replace(request, out="s3://runs/notes"), HERE)


# -------------------------------------------------------------------------------------------- one at a time


def test_two_commands_do_not_work_in_one_folder(out: str, photos: Path, models: Path) -> None:
    with RemoteFolder(out).locked("process"):
        answer = call("process", photos, out, *WORDS, models=models)
    assert answer.code == 1
    who = rf"{out} is being worked in by ddfa-batch process, process {os.getpid()} on \S+, since"
    assert re.search(who, answer.stderr)
    assert call("process", photos, out, *WORDS, "--vertices", "none", models=models).code == 0


@pytest.mark.parametrize(
    "changes",
    [{"until": 0.0, "host": "elsewhere"}, {"process": 2**22 + 1}, {"token": None}],
    ids=["ran out", "its process ended", "unreadable"],
)
def test_a_lease_of_a_command_that_ended_is_taken_over(out: str, changes: dict[str, object]) -> None:
    there = {"holder": "h", "token": "t", "host": socket.gethostname(), "process": os.getpid()}
    folder = RemoteFolder(out)
    folder.put(store.LOCK, json.dumps({**there, "until": time.time() + 60, **changes}).encode())
    with (
        folder.locked("process"),
        pytest.raises(RunFolderError, match="is being worked in"),
        RemoteFolder(out).locked("process"),
    ):
        pass
    assert folder.entries() == []


def test_a_lease_is_renewed_and_its_loss_is_told(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
    folder = RemoteFolder(out)
    with folder.locked("process"):
        first = folder.read(store.LOCK)
        _wait(lambda: folder.read(store.LOCK) != first)
        folder.still_locked()

        def lost() -> bool:
            """Once another has it: a renewal that was under way writes over what it did not see."""
            folder.put(store.LOCK, first.replace(b'"token": "', b'"token": "other'))
            return folder._lease._lost is not None

        _wait(lost)
        with pytest.raises(RunFolderError, match="was taken over by ddfa-batch process"):
            folder.still_locked()
    assert folder.entries() == [store.LOCK]  # it is the other's


def _wait(until: Callable[[], bool]) -> None:
    for _ in range(200):
        if until():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


# ------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "url", ["s3://key:secret@bucket/run", "https://host/run?X-Amz-Signature=abc", "az://box/run?sv=2&sig=abc"]
)
def test_credentials_in_the_url_of_a_run_are_refused(url: str, photos: Path, models: Path) -> None:
    answer = call("process", photos, url, models=models)
    assert answer.code == 1
    assert "give" in answer.stderr and "secret@" not in answer.stderr and "abc" not in answer.stderr
    with pytest.raises(InputError, match="in it"):
        open_run(url)


def test_a_signature_in_the_url_of_an_input_is_not_in_run_json(
    out: str, photos: Path, bundle: Bundle, tmp_path: Path
) -> None:
    def answer(method: str, path: str, *_: object) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, (photos / "001.png").read_bytes()

    with object_store.server(answer) as web:
        source = _source(f"{web}/a/001.png?X-Amz-Credential=me/2026/&X-Amz-Signature=abc&size=full")
        request = replace(wanted(photos, tmp_path, bundle, vertices="none"), source=source, out=out)
        run, totals = process(request, Execution("in-process", remote=RemoteLimits(2, 5.0)))
    assert totals.n_errors == 0
    text = run.folder.read(store.RUN).decode()
    assert "abc" not in text and "me/2026" not in text
    assert "size=full" in text
