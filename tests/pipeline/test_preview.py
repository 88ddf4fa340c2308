"""What a run shows to people: every input on one sheet, faces where they are, words that fit."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import small_model
from conftest import ROOT, wanted

from ddfa_batch.pipeline import plan
from ddfa_batch.pipeline.preview import draw_faces, outcome, previewed
from ddfa_batch.pipeline.process import process
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.rendering import overlay


@pytest.fixture(scope="module")
def run(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> plan.Run:
    """Pictures with 1, 3, 0 and 2 faces, two to a shard, and a file that is none."""
    folder = tmp_path_factory.mktemp("preview")
    small_model.pictures(folder / "in", [1, 3, 0, 2])
    (folder / "in/004.jpg").write_text("nothing")
    return process(wanted(folder / "in", folder / "out", bundle, 2), Execution("in-process"))[0]


def green(picture: np.ndarray) -> int:
    """How many pixels have about the colour of a landmark that can be seen."""
    return int((np.abs(picture.astype(int) - overlay.SEEN).max(axis=2) < 60).sum())


def sheet(run: plan.Run, n: int) -> np.ndarray:
    (path,) = draw_faces(run, n)
    assert path == str(run.out / "preview.png")
    return cv2.imread(str(path))


def test_every_input_is_on_the_sheet_and_no_more_than_asked_for(run: plan.Run) -> None:
    whole, first = sheet(run, 100), sheet(run, 1)
    assert whole.shape[1] <= 1280
    assert whole.shape[0] * whole.shape[1] > 2 * first.shape[0] * first.shape[1]
    assert green(whole) > green(first) > 0


@pytest.mark.parametrize(
    ("n_inputs", "videos", "n", "expected"),
    [
        (5, [], 3, [0, 1, 2]),
        (2, [], 9, [0, 1]),
        (100, [(0, 100)], 4, [12, 37, 62, 87]),
        (3, [(0, 3)], 9, [0, 1, 2]),
        (13, [(1, 10)], 2, [0, 6]),  # a still, then a video by the frame in its middle
        (13, [(1, 10)], 6, [0, 2, 6, 9, 11, 12]),
        (22, [(0, 1), (1, 1), (2, 10), (12, 10)], 6, [0, 1, 4, 9, 14, 19]),  # two of the videos have no frames
    ],
)
def test_stills_are_the_first_and_frames_are_spread_over_videos(
    n_inputs: int, videos: list[tuple[int, int]], n: int, expected: list[int]
) -> None:
    assert previewed(n_inputs, videos, n).tolist() == expected


def test_progress_counts_the_pictures(run: plan.Run) -> None:
    told: list[tuple[int, int]] = []
    draw_faces(run, 3, lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_pictures_that_are_gone_by_now_are_said_to_be(bundle: Bundle, tmp_path: Path) -> None:
    photos = small_model.pictures(tmp_path / "in", [1])
    done, _ = process(wanted(photos, tmp_path / "out", bundle), Execution("in-process"))
    (photos / "000.png").unlink()
    assert green(sheet(done, 1)) == 0


def test_outcomes_are_plain_words() -> None:
    ok, yaw = {"status": "ok"}, {"yaw": -31.6}
    assert outcome(ok, [yaw]) == "1 face, yaw -32°"
    assert outcome(ok, [yaw, yaw]) == "2 faces"
    assert outcome({"status": "no_face"}, []) == "no face"
    broken = {"status": "error", "error_kind": "truncated", "error_message": "…"}
    assert outcome(broken, []) == "error: the file ends before the picture does (truncated)"


def test_the_demo_shows_what_it_promises(tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, str(ROOT / "examples/demo.py")]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    said = dict(line.split(maxsplit=1) for line in answer.stdout.splitlines() if line[:2].isdigit() and line[2] == "_")
    assert len(said) == 12
    alone = ("01_astronaut.png", "02_grace_hopper.jpg", "07_dim.jpg", "08_lying_says_exif.jpg")
    for name in alone:
        assert said[name].startswith("1 face, yaw "), name
    assert said["04_turned_left.png"].startswith("1 face, yaw -")
    assert said["05_turned_right.png"].startswith("1 face, yaw +")
    assert said["03_wall.png"] == "6 faces"
    assert said["09_hills.png"] == said["10_leaves.png"] == "no face"
    assert said["11_cut_off.jpg"] == "error: the file ends before the picture does (truncated)"
    assert "not_an_image" in said["12_text.jpg"]
    assert "Look at demo-out/run/preview.png" in answer.stdout
    assert cv2.imread(str(tmp_path / "demo-out/run/preview.png")).shape[1] == 1280
