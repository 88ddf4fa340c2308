"""Sheets hold pictures of any shape, and words that fit."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ddfa_batch.tasks.rendering import sheets


@pytest.mark.parametrize("shapes", [[(1, 1)], [(10, 2000)], [(2000, 10)], [(300, 400)] * 7, [(50, 5000), (5000, 50)]])
def test_pictures_of_any_shape_make_a_sheet(tmp_path: Path, shapes: list[tuple[int, int]]) -> None:
    def tile(shape: tuple[int, int]) -> sheets.Tile:
        height, width = shape

        def draw(zoom: float) -> np.ndarray:
            return np.full((max(1, round(height * zoom)), max(1, round(width * zoom)), 3), 200, np.uint8)

        return sheets.Tile(shape, draw, "a name\nthat is far too long for its picture" * 5, "1 face")

    sheets.draw_sheet(tmp_path / "sheet.png", [tile(shape) for shape in shapes])
    drawn = cv2.imread(str(tmp_path / "sheet.png"))
    assert drawn.shape[1] <= 1280
    assert drawn.shape[0] < 500 * len(shapes)
    assert (drawn == 200).all(axis=2).any()


def test_a_sheet_tells_how_many_pictures_are_drawn(tmp_path: Path) -> None:
    told: list[int] = []
    tile = sheets.Tile((20, 30), lambda zoom: np.zeros((round(20 * zoom), round(30 * zoom), 3), np.uint8), "a", "b")
    sheets.draw_sheet(tmp_path / "sheet.png", [tile] * 7, told.append)
    assert told == [1, 2, 3, 4, 5, 6, 7]


def test_a_notice_says_its_words_on_grey() -> None:
    square = sheets.notice("the file ends before the picture does", 200)
    assert square.shape == (200, 200, 3)
    assert (square == square[0, 0]).all(axis=2).mean() > 0.8
    assert square.max() > 150


@pytest.mark.parametrize("shape", [(40, 80), (80, 40), (7, 7), (300, 1)])
def test_a_square_holds_the_whole_picture(shape: tuple[int, int]) -> None:
    tile = sheets.square(np.full((*shape, 3), 200, np.uint8), 60)
    assert tile.shape == (60, 60, 3)
    rows, columns = np.nonzero((tile == 200).all(axis=2))
    assert max(np.ptp(rows), np.ptp(columns)) == 59
    assert (tile[(tile != 200).any(axis=2)] == 24).all()


@pytest.mark.parametrize(("n", "shape"), [(1, (4, 5)), (3, (4, 15)), (5, (8, 15))])
def test_a_grid_fills_its_last_row(n: int, shape: tuple[int, int]) -> None:
    tiles = [np.full((4, 5, 3), 100 + i, np.uint8) for i in range(n)]
    picture = sheets.grid(tiles, 3)
    assert picture.shape == (*shape, 3)
    assert sorted(set(picture.ravel().tolist()) - {24}) == [100 + i for i in range(n)]


def test_an_animation_shows_its_pictures_in_order(tmp_path: Path) -> None:
    sheets.write_animation(tmp_path / "a.gif", (np.full((8, 8, 3), v, np.uint8) for v in (10, 90, 200)), 80)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 3
        levels = []
        for i in range(3):
            gif.seek(i)
            levels.append(int(np.asarray(gif.convert("L")).mean()))
    assert levels == sorted(levels)
