"""Inputs behind URLs: a real S3 store and web server on loopback, also ones that fail and that hang."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import object_store
import packed_pictures
import pyarrow as pa
import pytest
from command_line import COMMAND, call, environment
from compared_runs import TIMES
from conftest import options

from ddfa_batch.pipeline import requirements
from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.config import Execution, RemoteLimits
from ddfa_batch.schemas.errors import ImageError, InputError, StoreError
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import remote_files
from ddfa_batch.tasks.files.inputs import Ignored, Input, SourceOptions, list_inputs, resolve_source, resolve_sources
from ddfa_batch.tasks.files.remote_calls import limited, persistently

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def endpoint(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store with the twelve pictures in s3://photos/set/, as files and as archives beside them."""
    folder = tmp_path_factory.mktemp("s3")
    files = packed_pictures.files_in(photos)
    tar = packed_pictures.tar(folder / "all.tar", files).read_bytes()
    zipped = packed_pictures.zipped(folder / "all.zip", files).read_bytes()
    stored = {f"set/{name}": data for name, data in files.items()}
    other = {"set/notes.txt": b"x", "set/.hidden.png": b"x", "packed/all.tar": tar, "packed/all.zip": zipped}
    listed = {"lists/list.txt": b"s3://photos/set/000.png\n../set/001.png\n"}
    with object_store.s3_server(folder, object_store.MANY) as address:
        object_store.put(address, "photos", {**stored, **other, **listed})
        yield address


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let s3:// mean the store at `endpoint`."""
    monkeypatch.setitem(fsspec.config.conf, "s3", {**object_store.CREDENTIALS, "endpoint_url": endpoint})


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    use(monkeypatch, endpoint)
    return endpoint


def run(out: Path, bundle: Bundle, *names: object, limits: RemoteLimits | None = None) -> Results:
    source = resolve_sources([str(name) for name in names], SourceOptions())
    request = RunRequest("process", source, out, options(vertices="none"), bundle, None, 4)
    process(request, Execution("in-process", remote=limits or RemoteLimits()))
    return open_run(out)


def keys(*names: str) -> list[str]:
    return [item.key for item in items(*names)]


def items(*names: str) -> list[Input]:
    return list(list_inputs(resolve_sources(names), Path("/nowhere"), Ignored()))


def without_keys(table: pa.Table) -> pa.Table:
    return table.drop_columns(["key", *(name for name in TIMES if name in table.column_names)])


@pytest.fixture(scope="module")
def as_files(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(tmp_path_factory.mktemp("run") / "out", bundle, photos)


@pytest.mark.parametrize("name", ["set", "set/*.png", "packed/all.tar", "packed/all.zip"])
def test_the_same_pictures_in_a_bucket_give_the_same_tables(
    store: str, as_files: Results, name: str, tmp_path: Path, bundle: Bundle
) -> None:
    found = run(tmp_path / "out", bundle, f"s3://photos/{name}")
    assert without_keys(found.images()).equals(without_keys(as_files.images()))
    assert without_keys(found.faces()).equals(without_keys(as_files.faces()))


def test_keys_are_relative_to_what_is_named_alone_and_urls_beside_others(store: str, photos: Path) -> None:
    names = [f"{i:03d}.png" for i in range(12)]
    assert keys("s3://photos/set/") == keys("s3://photos/set") == names
    assert keys("s3://photos/")[:2] == ["set/000.png", "set/001.png"]
    assert keys("s3://photos/set/003.png") == ["s3://photos/set/003.png"]
    assert keys("s3://photos/packed/all.tar")[:2] == ["all.tar#000.png", "all.tar#001.png"]
    assert keys("s3://photos/set/00{1,2}.png") == ["s3://photos/set/001.png", "s3://photos/set/002.png"]
    several = keys("s3://photos/set", str(photos), "s3://photos/packed/all.zip")
    assert several[::12] == ["s3://photos/set/000.png", f"{photos.name}/000.png", "s3://photos/packed/all.zip#000.png"]


def test_a_list_in_a_bucket_names_its_neighbours(store: str) -> None:
    listed = items("s3://photos/lists/list.txt")
    assert [item.key for item in listed][:2] == ["s3://photos/set/000.png", "s3://photos/lists/../set/001.png"]


def test_a_list_of_urls_with_gaps_is_a_run_with_errors(store: str, tmp_path: Path, bundle: Bundle) -> None:
    urls = ["s3://photos/set/001.png", "s3://photos/set/none.png", "s3://nowhere/1.png", "nospace://x/1.png"]
    (tmp_path / "list.txt").write_text("\n".join(urls))
    rows = run(tmp_path / "out", bundle, tmp_path / "list.txt").images().to_pylist()
    assert [row["error_kind"] for row in rows] == [None, "missing", "missing", "unreadable"]
    assert "fsspec knows no nospace://" in rows[3]["error_message"]


def test_a_listing_of_ten_thousand_keys_is_whole(store: str) -> None:
    assert keys("s3://many/") == [f"d/{i:05d}.jpg" for i in range(object_store.MANY)]


def test_a_server_that_fails_half_of_the_time_loses_nothing(
    endpoint: str, as_files: Results, tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_store.troubled(endpoint, lambda n, _: 503 if n % 2 else None) as address:
        use(monkeypatch, address)
        found = run(tmp_path / "out", bundle, "s3://photos/set/")
    assert without_keys(found.faces()).equals(without_keys(as_files.faces()))


def test_what_never_answers_is_an_error_of_one_input(
    endpoint: str, tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(_: int, path: str) -> float | None:
        return 8.0 if path.startswith("/photos/set/003") else None

    with object_store.troubled(endpoint, hang) as address:
        use(monkeypatch, address)
        begun = time.perf_counter()
        rows = run(tmp_path / "out", bundle, "s3://photos/set/", limits=RemoteLimits(2, 1.0)).images().to_pylist()
        assert time.perf_counter() - begun < 20
    assert [row["key"] for row in rows if row["status"] == "error"] == ["003.png"]
    assert rows[3]["error_message"] == "The file cannot be read, 2 attempts failed: no answer within 1 s."


def test_a_bucket_that_is_not_there_is_one_sentence(store: str, models: Path, tmp_path: Path) -> None:
    answer = call("process", "s3://nowhere/photos/", tmp_path / "out", models=models)
    assert answer.code == 1
    assert "holds no images" in answer.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_takes_a_bucket(store: str, models: Path, tmp_path: Path) -> None:
    answer = call("process", "s3://photos/set/", tmp_path / "out", models=models)
    assert answer.code == 0
    assert "12 images in s3://photos/set/;" in answer.stdout
    run_there = open_run(tmp_path / "out").run
    assert (run_there.root, run_there.source) == ("s3://photos/set/", "s3://photos/set/")
    assert call("process", "s3://photos/set/", tmp_path / "out", "--quiet", models=models).code == 0


@pytest.fixture
def web(photos: Path) -> Iterator[str]:
    """A web server: pictures, one that fails twice, one behind a login, one without end."""
    failures = iter([503, 429])

    def answer(method: str, path: str, *_: object) -> tuple[int, dict[str, str], bytes]:
        if path.startswith("/later"):
            return (next(failures, 200), {}, (photos / "001.png").read_bytes())
        if path.startswith("/login"):
            return 403, {}, b""
        if method == "HEAD":
            return 405, {}, b""
        file = photos / path.partition("?")[0].lstrip("/")
        return (200, {}, file.read_bytes()) if file.is_file() else (404, {}, b"")

    with object_store.server(answer) as address:
        yield address


def read(url: str) -> bytes:
    return remote_files.read_url(url)


def test_pictures_of_the_web_are_read(web: str, photos: Path) -> None:
    assert read(f"{web}/001.png?size=full") == (photos / "001.png").read_bytes()
    assert read(f"{web}/later") == (photos / "001.png").read_bytes()
    assert keys(f"{web}/picture?id=3") == [f"{web}/picture?id=3"]


@pytest.mark.parametrize(("path", "kind"), [("none.png", "missing"), ("login.png", "unreadable")])
def test_what_the_web_refuses_is_not_asked_for_again(web: str, path: str, kind: str) -> None:
    with pytest.raises(ImageError) as raised:
        read(f"{web}/{path}")
    assert raised.value.kind == kind
    assert "attempts" not in raised.value.message


def test_a_picture_of_the_web_without_end_is_not_read_to_it(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "MAX_FILE_BYTES", 100)
    with pytest.raises(ImageError, match="at most 100 are read"):
        read(f"{web}/001.png")


def test_a_file_that_says_it_is_too_large_is_not_read(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "MAX_FILE_BYTES", 100)
    for size in (None, 101):
        with pytest.raises(ImageError, match="at most 100 are read"):
            remote_files.read_url("s3://photos/set/001.png", size)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("gs://bucket/photos/", r"gs:// needs a package that is missing \('pip install gcsfs'\)"),
        ("hf://datasets/x/y/", r"hf:// needs a package that is missing \('pip install huggingface_hub'\)"),
        ("s3://photos/none.tar", "s3://photos/none.tar cannot be read"),
        ("s3://photos/set/000.zip", "s3://photos/set/000.zip cannot be read"),
        ("s3://photos/none.txt", "s3://photos/none.txt cannot be read: There is no such file"),
        ("nospace://x/", "fsspec knows no nospace://"),
        ("s3://bucket/part.parquet", "is a table, and tables are read from local files only"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    store: str, url: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("gcsfs", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=sentence):
        items(url)


def test_a_worker_without_the_package_is_told(store: str, tmp_path: Path, bundle: Bundle) -> None:
    there = run(tmp_path / "out", bundle, "s3://photos/set/003.png")
    assert requirements.requirements(there.run)() is None
    asked = requirements._no_filesystem("nospace://x/1.jpg")
    assert asked is not None and asked.startswith("cannot read the inputs: nospace://x/1.jpg cannot be read")


def test_a_file_system_without_event_loop_is_read_too(tmp_path: Path) -> None:
    with fsspec.open("memory://photos/a/1.jpg", "wb") as file:
        file.write(b"picture")
    (found,) = items("memory://photos/a")
    assert found.key == "1.jpg"
    assert read("memory://photos/a/1.jpg") == b"picture"
    (part,) = resolve_source("memory://photos/*/1.jpg").parts
    assert part.name.endswith("photos/a/1.jpg")


def test_a_run_from_a_bucket_that_was_killed_goes_on(
    endpoint: str, as_files: Results, tmp_path: Path, models: Path
) -> None:
    more = object_store.variables(endpoint)
    words = ("s3://photos/set/", tmp_path / "out", "--shard-size", 4, "--vertices", "none", "--detector", "yunet")
    words = (*words, "--scheduler", "local", "--workers", 2, "--min-score", 0.9)
    command = [COMMAND, "process", *map(str, words)]
    begun = subprocess.Popen(command, env=environment(models, "small", **more), stderr=subprocess.PIPE)
    while begun.poll() is None and not any((tmp_path / "out/shards").glob("[0-9]*.json")):
        time.sleep(0.02)
    begun.kill()
    begun.communicate()
    subprocess.run(command, env=environment(models, "small", **more), check=True, capture_output=True)
    assert without_keys(open_run(tmp_path / "out").faces()).equals(without_keys(as_files.faces()))


def test_a_single_attempt_is_told_as_one() -> None:
    def broken(fs: object, path: str) -> None:
        raise OSError("no route to it")

    with limited(RemoteLimits(1, 1.0)), pytest.raises(StoreError, match=r"^1 attempt failed: no route to it"):
        persistently("memory://bucket/x", broken)
