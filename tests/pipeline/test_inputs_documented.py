"""docs/inputs.md says what happens: each of its commands is called, on inputs of the names it uses."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path

import fsspec
import packed_pictures
import pytest
from command_line import call
from conftest import ROOT

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.tasks.files.inputs import Ignored, list_inputs, resolve_source

COMMANDS = re.findall(r"^.*ddfa-batch process (?!.*://).*$", (ROOT / "docs/inputs.md").read_text(), re.MULTILINE)
PICTURES = ["000.png", "001.png", "002.png"]
#: What is in OUT afterwards.
KEYS = {
    "out/": PICTURES,
    "out-list/": ["photos/001.png"],
    "out-found/": ["photos/000.png", "photos/001.png"],
    "out-manifest/": ["photos/002.png"],
    "out-tar/": ["shard.tar#a.png"],
    "out-zip/": ["all.zip#a.png"],
    "out-parquet/": ["part-0.parquet#000000"],
    "out-several/": [*(f"photos/{p}" for p in PICTURES), "shard.tar#a.png", "part-0.parquet#000000"],
    "out-shards/": [f"0000{i}.tar#a.png" for i in range(3)],
    "out-all-shards/": [f"0000{i}.tar#a.png" for i in range(3)],
    "out-samples/": ["shard.tar#a.png"],
    "out-named/": ["part-0.parquet#a.png"],
    "out-urls/": ["memory://photos/000.png"],
}


@pytest.fixture
def here(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files = {"a.png": (photos / "001.png").read_bytes()}
    packed_pictures.tar(tmp_path / "shard.tar", {**files, "a.json": b"{}"})
    packed_pictures.zipped(tmp_path / "all.zip", files)
    packed_pictures.table(tmp_path / "part-0.parquet", files)
    (tmp_path / "shards").mkdir()
    for i in range(3):
        packed_pictures.tar(tmp_path / f"shards/0000{i}.tar", files)
    (tmp_path / "photos").mkdir()
    for name in PICTURES:
        (tmp_path / "photos" / name).write_bytes((photos / name).read_bytes())
    (tmp_path / "list.txt").write_text("photos/001.png\n")
    fsspec.filesystem("memory").pipe("/photos/000.png", files["a.png"])
    (tmp_path / "list-of-urls.txt").write_text("memory://photos/000.png\n")
    (tmp_path / "manifest.csv").write_text("file,path\nphotos/002.png,none.png\n")
    return tmp_path


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_documentation_does_what_it_says(
    here: Path, models: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"photos/000.png\nphotos/001.png\n")))
    words = shlex.split(line[line.index("process") :])
    answer = call(*words, "--quiet", "--vertices", "none", models=models)
    assert (answer.code, answer.stderr) == (0, "")
    out = next(word for word in words if word.startswith("out"))
    assert open_run(here / out).images()["key"].to_pylist() == KEYS[out]


def test_every_command_is_there() -> None:
    assert sorted(next(w for w in shlex.split(line) if w.startswith("out")) for line in COMMANDS) == sorted(KEYS)


def test_synth_videos_takes_an_archive(here: Path) -> None:
    found = list_inputs(resolve_source(here / "shard.tar"), here / "out", Ignored())
    assert [item.key for item in found] == ["shard.tar#a.png"]
