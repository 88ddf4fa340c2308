"""Videos that are broken in every way, among good ones: each has its row, and its frames theirs, and nothing hangs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import portrait_films
import pytest
import small_videos
from command_line import COMMAND, call, environment
from conftest import wanted
from PIL import Image

from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import decoder_child
from ddfa_batch.tasks.files.decoder_child import Child

pytestmark = pytest.mark.filterwarnings("default")

#: Frames of a film, and of each kind of file so many that are cut somewhere.
N, CUTS = 10, 20
#: Seconds that the command may take, many times what it needs.
_LONGEST = 300
#: Frames at which the picture grows.
_FIRST_SIZE = 5
#: A decoder's process that hangs, in C and with the interpreter's lock, where it opens a film of this name.
_HANGING = """
import ctypes, sys
sys.path[:] = sys.argv[1:]
from ddfa_batch.tasks.files import decoder_process, video_files
opened = video_files.open_video
def hanging(path, container):
    if path.name == "hanging.mp4":
        ctypes.PyDLL(None).sleep(600)
    return opened(path, container)
video_files.open_video = hanging
decoder_process.serve()
"""


def animated(path: Path) -> Path:
    pictures = [Image.fromarray(small_videos.picture(number)[:, :, ::-1]) for number in range(N)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40, lossless=True)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole films, the same cut at random bytes, films without a frame, with sound only, of two sizes."""
    folder, rng = tmp_path_factory.mktemp("broken") / "in", np.random.default_rng(11)
    folder.mkdir()
    whole = [small_videos.write(folder / f"whole-{name}", c, p, N) for name, c, p in small_videos.KINDS]
    whole.append(animated(folder / "whole-animated.webp"))
    whole.append(small_videos.write(folder / "whole-fast.mp4", n_frames=N, options={"movflags": "faststart"}))
    for path in whole:
        data = path.read_bytes()
        for length in rng.integers(1, len(data), CUTS):
            (folder / f"cut-{length:06d}-{path.name}").write_bytes(data[:length])
    for ending in ("mp4", "mov", "mkv", "avi"):
        small_videos.write(folder / f"none.{ending}", n_frames=0)
    for ending in ("mp4", "mov", "mkv"):
        small_videos.write_audio(folder / f"sound.{ending}")
    for name, codec in (("sizes-h264.mkv", "libx264"), ("sizes-mjpeg.avi", "mjpeg"), ("sizes-mjpeg.mov", "mjpeg")):
        small_videos.write_two_sizes(folder / name, codec, _FIRST_SIZE, N)
    portrait_films.write(folder / "people.mp4", 12)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("broken-run") / "out"
    words = [COMMAND, "process", folder, out, "--vertices", "none", "--quiet", "--scheduler", "in-process"]
    done = subprocess.run(
        [*map(str, words), "--shard-size", "100"],
        env=environment(models, "small"),
        check=False,
        capture_output=True,
        text=True,
        timeout=_LONGEST,
    )
    assert done.returncode == 0, done.stderr
    return open_run(out)


@pytest.fixture(scope="module")
def rows(run: Results) -> dict[str, list[dict[str, Any]]]:
    """The rows of the images table, by file."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in run.images().to_pylist():
        found.setdefault(row["key"].split("#")[0], []).append(row)
    return found


@pytest.fixture(scope="module")
def videos(run: Results) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in run.videos().to_pylist()}


def test_no_file_is_left_out_and_status_proves_it(folder: Path, run: Results, rows: dict[str, Any]) -> None:
    assert set(rows) == {path.name for path in folder.iterdir()}
    answer = call("status", run.path)
    assert answer.code == 0, answer.stderr
    assert "one row per frame and video, one track per face" in answer.stdout


def test_a_video_that_is_cut_is_an_error_or_says_that_it_ended_early(
    rows: dict[str, list[dict[str, Any]]], videos: dict[str, dict[str, Any]]
) -> None:
    cut = [name for name in rows if name.startswith("cut-")]
    assert len(cut) > 0.9 * CUTS * (len(small_videos.KINDS) + 2)
    for name in cut:
        video, own = videos.get(name), rows[name]
        if video is None:  # of an animation that is cut in its first picture a still is left
            assert name.endswith((".gif", ".webp"))
            assert [row["status"] for row in own] == ["error"]
        elif video["status"] == "ended_early":
            assert "ends early" in video["message"]
            assert [row["frame"] for row in own] == list(range(video["n_taken"]))
        else:
            assert (video["status"], video["n_taken"]) == ("error", 0)
            assert [(row["status"], row["frame"]) for row in own] == [("error", None)]
            assert own[0]["error_message"]


def test_good_ones_beside_them_have_all_their_frames(
    rows: dict[str, list[dict[str, Any]]], videos: dict[str, dict[str, Any]]
) -> None:
    for name, own in rows.items():
        if name.startswith("whole-"):
            assert (videos[name]["status"], videos[name]["n_errors"]) == ("ok", 0), name
            assert [row["frame"] for row in own] == list(range(N))
    assert len(rows["people.mp4"]) == 12


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "avi"])
def test_a_video_without_a_frame_is_one_error(
    rows: dict[str, list[dict[str, Any]]], videos: dict[str, dict[str, Any]], ending: str
) -> None:
    for name in (f"none.{ending}", f"sound.{ending}"):
        if name in rows:
            (row,) = rows[name]
            assert (row["error_kind"], videos[name]["status"], videos[name]["n_taken"]) == ("no_frames", "error", 0)


@pytest.mark.parametrize("name", ["sizes-h264.mkv", "sizes-mjpeg.avi", "sizes-mjpeg.mov"])
def test_frames_of_two_sizes_are_each_taken_as_they_are(
    rows: dict[str, list[dict[str, Any]]], videos: dict[str, dict[str, Any]], name: str
) -> None:
    first, then = (small_videos.WIDTH, small_videos.HEIGHT), (2 * small_videos.WIDTH, 2 * small_videos.HEIGHT)
    sizes = [(row["width"], row["height"]) for row in rows[name]]
    assert sizes == [first] * _FIRST_SIZE + [then] * (N - _FIRST_SIZE)
    assert (videos[name]["status"], videos[name]["n_errors"]) == ("ok", 0)


def test_one_decoder_serves_all_videos_of_a_shard(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes some seventy megabytes."""
    (tmp_path / "in").mkdir()
    for i in range(4):
        small_videos.write(tmp_path / f"in/{i}.mp4", n_frames=2)
    started: list[Child] = []

    class Counted(Child):
        def __init__(self) -> None:
            super().__init__()
            started.append(self)

    monkeypatch.setattr(decoder_child, "Child", Counted)
    decoder_child.end_children()
    process(wanted(tmp_path / "in", tmp_path / "out", bundle, shard_size=100), Execution("in-process"))
    assert len(started) == 1


def test_a_video_that_hangs_its_decoder_is_a_row_and_the_run_ends(
    folder: Path, photos: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the run, while it is listed, in it, and when its videos are counted after it."""
    source = tmp_path / "in"
    source.mkdir()
    for path in (folder / "whole-h264.mp4", photos / "000.png"):
        (source / path.name).symlink_to(path)
    (source / "hanging.mp4").symlink_to(folder / "whole-h264.mp4")
    monkeypatch.setattr(decoder_child, "_START", _HANGING)
    decoder_child.end_children()
    began = time.monotonic()
    words = ("--vertices", "none", "--scheduler", "in-process", "--item-timeout", "1.5")
    answer = call("process", source, tmp_path / "out", *words, models=models)
    decoder_child.end_children()
    assert answer.code == 0, answer.stderr
    run = open_run(tmp_path / "out")
    wrong = [row for row in run.images().to_pylist() if row["error_kind"]]
    assert [(row["key"], row["error_kind"]) for row in wrong] == [("hanging.mp4", "timed_out")]
    assert run.images().num_rows == N + 2
    assert time.monotonic() - began < 30
