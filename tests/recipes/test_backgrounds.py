"""Pictures without a face out of unpacked packages: which are taken, and how stamps get a ground."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from recipes.builtin.detector.backgrounds import fetch_backgrounds, unpacked


def write(path: Path, height: int, width: int, channels: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, channels), 200, np.uint8))


def test_pictures_are_taken_and_faces_small_ones_and_strangers_left(tmp_path: Path) -> None:
    share, folder = tmp_path / "share", tmp_path / "out"
    folder.mkdir()
    write(share / "backgrounds/some/hills.png", 90, 1600)
    write(share / "backgrounds/some/tiny.png", 40, 40)
    write(share / "wallpapers/sea/contents/images/large.png", 400, 500)
    write(share / "wallpapers/sea/contents/images/small.png", 100, 120)
    write(share / "tuxpaint/stamps/animals/cat.png", 80, 80, 4)
    write(share / "tuxpaint/stamps/people/child.png", 80, 80, 4)
    write(share / "tuxpaint/stamps/animals/opaque.png", 80, 80)
    (share / "backgrounds/some/notes.txt").write_text("no picture")
    unpacked(share, folder)
    sizes = {path.name: cv2.imread(str(path)).shape for path in folder.iterdir()}
    assert sizes == {
        "backgrounds_some_hills.png": (45, 800, 3),
        "wallpapers_sea_contents_images_small.png": (100, 120, 3),
        "tuxpaint_stamps_animals_cat.png": (80, 80, 3),
    }


def test_a_folder_with_pictures_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "mine.png", 64, 64)
    fetch_backgrounds(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


def test_without_the_packages_one_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    fetch_backgrounds(tmp_path / "backgrounds")
    assert "put pictures without a face into" in capsys.readouterr().out
