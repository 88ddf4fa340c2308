"""Pictures and meshes of a run that grew or was done again: what is added, what is made anew, what stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import fsspec
import pytest
import small_model
from command_line import Answer, call
from conftest import wanted
from stopped_commands import stopped_at

from ddfa_batch.pipeline.plan import read_run
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.receipts import verify_run
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.remote_calls import is_url
from ddfa_batch.tasks.files.run_folders import run_folder_at

HERE = Execution("in-process")
#: What makes something of a run, and in which folder it lies: of 5 inputs in shards of 2.
KINDS = {
    "render": ("pictures", "--longest", 64),
    "export": ("meshes", "--format", "npz", "--colours", "none"),
    "to-webdataset": ("tars", "--size", 32),
}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Five pictures, one of which cannot be read."""
    folder = small_model.pictures(tmp_path / "in", [1, 2, 0, 1, 3])
    (folder / "003.jpg").write_text("nothing")
    return folder


@pytest.fixture
def make(photographs: Path, bundle: Bundle, models: Path, tmp_path: Path) -> Callable[..., Answer]:
    """Makes something of the run in `run`, which is there."""
    process(wanted(photographs, tmp_path / "run", bundle, vertices="none", shard_size=2), HERE)

    def made(kind: str, out: str, *more: object) -> Answer:
        _, *words = KINDS[kind]
        run, place = (out + "-run", out) if is_url(out) else (tmp_path / "run", tmp_path / out)
        return call(kind, run, place, "--shard-size", 2, *words, *more, models=models)

    return made


def grow(photographs: Path, bundle: Bundle, **options: object) -> None:
    cv2.imwrite(str(photographs / "000a.png"), small_model.picture(2, seed=52))
    out = photographs.parent / "run"
    process(wanted(photographs, out, bundle, vertices="none", shard_size=2), HERE, extend=True, **options)  # type: ignore[arg-type]


def contents(out: Path, folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / folder).rglob("*")) if path.is_file()}


def written(out: Path) -> dict[str, int]:
    """When each receipt was written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "shards").glob("*.json")}


def history(run: Results) -> list[tuple[str, int]]:
    return [(entry.what, entry.n_inputs) for entry in run.run.history]


@pytest.fixture
def url() -> Iterator[str]:
    """A folder of a store that is no folder of this machine."""
    yield "memory://bucket/of/it"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_url_gets_the_same_as_a_folder(kind: str, make: Callable[..., Answer], url: str, tmp_path: Path) -> None:
    """The run may lie in a store, too. A shard that is done again there leaves nothing of what it had."""
    assert make(kind, "a").code == 0
    fsspec.filesystem("memory").put(str(tmp_path / "run"), url + "-run", recursive=True)
    done = make(kind, url)
    assert done.code == 0, done.stderr
    folder, there = KINDS[kind][0], run_folder_at(url)
    same = {f"{folder}/{name}": store.checksum(tmp_path / "a" / folder / name) for name in there.entries(folder)}
    assert {name: there.checksum(name) for name in same} == same
    assert call("verify", url).code == 0
    first = min(same)
    there.remove([f"{first}/{name}" for name in there.entries(first)] or [first])
    assert make(kind, url).code == 0
    assert (there.checksum(first), verify_run(read_run(url))) == (same[first], [])
    assert make(kind, url, "--overwrite", "--where", "image_id = 1").code == 0
    files = fsspec.filesystem("memory").find(f"{url}/{folder}")
    assert files
    assert all(f"/{first}" in file for file in files)
    assert there.sizes()(first) == there.size(first) == sum(receipt.files[first] for receipt in open_run(url).receipts)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_has_more_is_made_and_nothing_else(
    kind: str, make: Callable[..., Answer], photographs: Path, bundle: Bundle, tmp_path: Path
) -> None:
    assert make(kind, "a").code == 0
    before = written(tmp_path / "a")
    grow(photographs, bundle)
    refused = make(kind, "a")
    assert refused.code == 1
    assert "Use --extend to take up what was added" in refused.stderr
    answer = make(kind, "a", "--extend")
    assert answer.code == 0, answer.stderr
    assert "Extended: 1 image taken up that was added." in answer.stdout
    found = open_run(tmp_path / "a")
    assert {name: written(tmp_path / "a")[name] for name in before} == before
    assert (history(found), verify_run(found.run)) == ([("extended", 1)], [])
    assert "Nothing was left to do" in make(kind, "a").stdout
    assert make(kind, "b").code == 0
    folder = KINDS[kind][0]
    assert contents(tmp_path / "a", folder) == contents(tmp_path / "b", folder)
    assert found.images()["key"].to_pylist() == open_run(tmp_path / "b").images()["key"].to_pylist()


def test_what_was_done_again_in_the_run_is_drawn_again(
    make: Callable[..., Answer], photographs: Path, bundle: Bundle, tmp_path: Path
) -> None:
    """A picture that could not be read is repaired: its card goes, and no other shard is touched."""
    make("render", "a")
    before = written(tmp_path / "a")
    cv2.imwrite(str(photographs / "003.jpg"), small_model.picture(1, seed=9))
    grow(photographs, bundle, retry_failed=frozenset({"not_an_image"}))
    refused = make("render", "a")
    assert "differs in the rows that it is made of, some of which were added or done again since" in refused.stderr
    assert make("render", "a", "--extend").code == 0
    found = open_run(tmp_path / "a")
    assert history(found) == [("renewed", 2), ("extended", 1)]
    after = written(tmp_path / "a")
    assert [name for name in before if after[name] != before[name]] == ["000001.json"]
    make("render", "b")
    assert contents(tmp_path / "a", "pictures") == contents(tmp_path / "b", "pictures")
    assert set(found.images()["status"].to_pylist()) == {"ok", "no_face"}


@pytest.mark.parametrize("moment", [1, 2, 3, 6])
def test_an_extension_that_is_interrupted_is_done_by_the_same_command(
    make: Callable[..., Answer],
    photographs: Path,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
) -> None:
    words = ("export", "a", "--where", "score > 0.1", "--extend")
    make(*words[:-1])
    cv2.imwrite(str(photographs / "003.jpg"), small_model.picture(1, seed=9))
    grow(photographs, bundle, retry_failed=frozenset({"not_an_image"}))
    with stopped_at(moment, monkeypatch):
        make(*words)
    assert make(*words).code == 0
    found = open_run(tmp_path / "a")
    assert (found.complete, verify_run(found.run)) == (True, [])
    make("export", "b", "--where", "score > 0.1")
    assert contents(tmp_path / "a", "meshes") == contents(tmp_path / "b", "meshes")


def test_the_worst_of_a_run_that_grew_are_others(make: Callable[..., Answer], tmp_path: Path) -> None:
    answer = make("render", "a", "--worst", 2, "--extend")
    assert (answer.code, "--worst chooses anew among all faces" in answer.stderr) == (1, True)
    assert not (tmp_path / "a").exists()
