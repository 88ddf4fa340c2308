"""Sheets of pictures: in rows with captions, or in a grid of equal squares; and animations of them."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.tasks.files.atomic import whole_file

#: A sheet: its width, the height its rows are near to, space between pictures, lines of a caption; pixels.
_WIDTH, _ROW, _GAP, _LINE = 1280, 300, 14, 20
#: Most by which a row with few pictures may be higher than `_ROW`.
_HIGHER = 1.35
#: BGR of a sheet, of titles, and of what stands below them.
_PAPER, _TITLE, _CAPTION = (28, 26, 24), (240, 240, 240), (176, 172, 168)
#: BGR of what stands in place of a picture, and grey of what a grid is filled up with.
_EMPTY, _BAR = (50, 47, 44), 24
#: The font inside OpenCV 5 that knows most scripts, file names' and people's, and its size in pixels.
_FONT, _FONT_SIZE = "uni", 14


@dataclass(frozen=True)
class Tile:
    """A picture of a sheet."""

    #: Height and width, before it is drawn.
    shape: tuple[int, int]
    #: Draws the picture at a zoom, when that is known.
    draw: Callable[[float], U8]
    #: The first line below it.
    title: str
    #: The second line below it.
    caption: str


@dataclass(frozen=True)
class _Words:
    """A line of text on a picture: x and y of its top left, the room it has, in pixels; its BGR."""

    x: int
    y: int
    room: int
    text: str
    colour: tuple[int, int, int]


# ------------------------------------------------------------------------------------- rows with captions


def draw_sheet(path: Path, tiles: Sequence[Tile], drawn: Callable[[int], None] = lambda n: None) -> None:
    """Draw pictures in rows that fill the width, each with its caption of two lines, to a PNG, whole or not at all.

    `drawn` is told how many pictures are, after each.
    """
    numbers = itertools.count(1)
    rows = _rows([tile.shape[1] / tile.shape[0] for tile in tiles], tiles)
    strips = [_row(row, lambda: drawn(next(numbers))) for row in rows]
    width, height = max(strip.shape[1] for strip in strips), sum(strip.shape[0] + _GAP for strip in strips)
    sheet, y = np.full((height + _GAP, width, 3), _PAPER, np.uint8), _GAP
    for strip in strips:
        sheet[y : y + strip.shape[0], : strip.shape[1]] = strip
        y += strip.shape[0] + _GAP
    write_png(path, sheet)


def _rows(aspects: Sequence[float], tiles: Sequence[Tile]) -> list[list[Tile]]:
    """Tiles cut into rows, in order, that are about equally wide where all are equally high."""
    ends = np.cumsum(aspects)
    n = max(1, round(float(ends[-1]) * _ROW / _WIDTH))
    row = np.minimum((ends - np.array(aspects) / 2) * n / ends[-1], n - 1).astype(int)
    rows = [[tile for tile, at in zip(tiles, row.tolist(), strict=True) if at == k] for k in range(n)]
    return [row for row in rows if row]


def _row(tiles: Sequence[Tile], one_more: Callable[[], None]) -> U8:
    """One row of a sheet: pictures as high as makes them fill it, but not much above `_ROW`."""
    free = _WIDTH - _GAP * (len(tiles) + 1)
    height = int(min(free / sum(tile.shape[1] / tile.shape[0] for tile in tiles), _HIGHER * _ROW))
    strip = np.full((height + 2 * _LINE + _GAP // 2, _WIDTH, 3), _PAPER, np.uint8)
    words, x, below = [], _GAP, height + _GAP // 2
    for tile in tiles:
        picture = tile.draw(height / tile.shape[0])[:height, : _WIDTH - x]
        strip[: picture.shape[0], x : x + picture.shape[1]] = picture
        words.append(_Words(x, below, picture.shape[1], tile.title, _TITLE))
        words.append(_Words(x, below + _LINE, picture.shape[1], tile.caption, _CAPTION))
        x += picture.shape[1] + _GAP
        one_more()
    return _written(strip[:, :x], words)


def notice(text: str, side: int) -> U8:
    """A grey square (side, side, 3) with words in its middle, in place of a picture."""
    lines = textwrap.wrap(text, max(8, round((side - 2 * _GAP) / _LINE * 2.2)))
    top = (side - _LINE * len(lines)) // 2
    square = np.full((side, side, 3), _EMPTY, np.uint8)
    room = side - 2 * _GAP
    return _written(square, [_Words(_GAP, top + i * _LINE, room, line, _CAPTION) for i, line in enumerate(lines)])


def _written(image: U8, words: Sequence[_Words]) -> U8:
    """The image with lines of text."""
    picture, font = np.ascontiguousarray(image), cv2.FontFace(_FONT)
    for line in words:
        text = _fitted(" ".join(line.text.split()), line.room, font)
        cv2.putText(picture, text, (line.x, line.y + _FONT_SIZE), line.colour, font, _FONT_SIZE)
    return picture


def _fitted(text: str, room: int, font: cv2.FontFace) -> str:
    """The text, or as much of it as there is room for and an ellipsis."""
    if _length(text, font) <= room:
        return text
    cut = (text[:n].rstrip() + "…" for n in range(len(text) - 1, 0, -1))
    return next((short for short in cut if _length(short, font) <= room), "")


def _length(text: str, font: cv2.FontFace) -> int:
    """How many pixels a line of text is long."""
    _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), font, _FONT_SIZE)
    return int(width)


# ------------------------------------------------------------------------------------------ equal squares


def square(picture: U8, side: int) -> U8:
    """A picture fitted into a square (side, side, 3), with bars."""
    height, width = picture.shape[:2]
    zoom = side / max(height, width)
    small = resized(picture, max(1, round(width * zoom)), max(1, round(height * zoom)), cv2.INTER_LINEAR)
    tile = np.full((side, side, 3), _BAR, np.uint8)
    y, x = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
    tile[y : y + small.shape[0], x : x + small.shape[1]] = small
    return tile


def grid(tiles: Sequence[U8], across: int) -> U8:
    """Pictures of one shape, `across` to a row at most; the last row is filled up."""
    across = min(across, len(tiles))
    full = [*tiles, *([np.full_like(tiles[0], _BAR)] * (-len(tiles) % across))]
    return np.vstack([np.hstack(full[i : i + across]) for i in range(0, len(full), across)])


def resized(image: U8, width: int, height: int, enlarging: int = cv2.INTER_CUBIC) -> U8:
    """The image at another size: the mean of its pixels where it shrinks, else interpolated as `enlarging` says."""
    flags = cv2.INTER_AREA if width < image.shape[1] else enlarging
    return np.asarray(cv2.resize(image, (width, height), interpolation=flags), np.uint8)


# ------------------------------------------------------------------------------------------------- files


def write_png(path: Path, picture: U8) -> None:
    """Write a picture (H, W, 3) BGR as PNG, whole or not at all."""
    with whole_file(path) as work:
        work.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def write_animation(path: Path, pictures: Iterable[U8], milliseconds: int) -> None:
    """Write pictures (H, W, 3) BGR of one shape as a GIF without end, whole or not at all."""
    first, *others = (Image.fromarray(np.ascontiguousarray(p[..., ::-1])) for p in pictures)
    with whole_file(path) as work:
        first.save(work, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
