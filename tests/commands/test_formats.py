"""`--formats`: which formats of pictures are decoded, and what becomes of the others."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import cv2
import pytest
import small_model
from command_line import call
from PIL import Image

from ddfa_batch.pipeline.results import open_run

MOVING = {"save_all": True, "append_images": [Image.new("RGB", (40, 40), "red")]}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face in four formats, a moving GIF, and the face as PPM in a tar."""
    folder = tmp_path_factory.mktemp("mixed")
    for suffix in (".jpg", ".png", ".tif", ".ppm"):
        cv2.imwrite(str(folder / f"face{suffix}"), small_model.picture(1))
    Image.new("RGB", (40, 40)).save(folder / "moving.gif", **MOVING)
    data = (folder / "face.ppm").read_bytes()
    with tarfile.open(folder / "pack.tar", "w") as archive:
        member = tarfile.TarInfo("in/face.ppm")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return folder


def kinds(out: Path) -> dict[str, str | None]:
    return {row["key"]: row["error_kind"] for row in open_run(out).images().to_pylist()}


def test_formats_that_are_not_named_are_rows_that_say_so(mixed: Path, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("process", mixed, out, "--vertices", "none", "--formats", "PNG, jpeg")
    answer = call(*command, models=models)
    assert answer.code == 0, answer.stderr
    refused = "format_not_allowed"
    assert kinds(out) == {"face.jpg": None, "face.png": None, "face.tif": refused, "moving.gif": refused}
    message = next(row["error_message"] for row in open_run(out).images().to_pylist() if row["key"] == "face.tif")
    assert message == "It is a tiff picture, and allowed are --formats jpeg,png."
    assert json.loads((out / "run.json").read_text())["identity"]["options"]["formats"] == ["jpeg", "png"]
    assert "Nothing was left to do." in call(*command, models=models).stdout
    other = call(*command[:-2], models=models)
    assert other.code == 1
    assert "differs in formats" in other.stderr


def test_formats_of_old_databases_are_taken_where_they_are_named(mixed: Path, models: Path, tmp_path: Path) -> None:
    sources = (mixed / "pack.tar", mixed / "face.png", mixed)
    answer = call("process", mixed, tmp_path / "a", "--vertices", "none", "--formats", "ppm,png", models=models)
    assert answer.code == 0, answer.stderr
    assert kinds(tmp_path / "a")["face.ppm"] is None
    answer = call("process", sources[0], tmp_path / "b", "--vertices", "none", "--formats", "ppm", models=models)
    assert answer.code == 0, answer.stderr
    assert kinds(tmp_path / "b") == {"pack.tar#in/face.ppm": None}


def test_synth_videos_has_them_too(mixed: Path, models: Path, tmp_path: Path) -> None:
    answer = call("synth-videos", mixed, tmp_path / "out", "--frames", 2, "--formats", "jpeg", models=models)
    assert answer.code == 0, answer.stderr
    assert kinds(tmp_path / "out")["face.png"] == "format_not_allowed"
    assert kinds(tmp_path / "out")["face.jpg"] is None


def test_a_format_that_there_is_not_is_named(mixed: Path, models: Path, tmp_path: Path) -> None:
    answer = call("process", mixed, tmp_path / "out", "--formats", "jpeg,heic", models=models)
    assert answer.code == 2
    assert "'heic' is no format of pictures; give some of jpeg, png," in answer.stderr
