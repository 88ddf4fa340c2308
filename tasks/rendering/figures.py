"""Pictures for people: curves, faces with points or meshes drawn on them, and sheets of pictures with captions."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ddfa_batch.schemas.arrays import F32, F64, I32, U8, Bools, Floats
from ddfa_batch.tasks.files.store import whole_file
from ddfa_batch.tasks.rendering.rasteriser import lambert

#: BGR of labels and of answers.
TRUTH, ANSWER = (80, 220, 80), (60, 60, 255)
_TILE, _ACROSS = 240, 5
#: BGR of a mesh, of landmarks that can be seen, and of those the head hides.
SKIN, SEEN, HIDDEN = (255, 196, 132), (80, 220, 60), (60, 60, 240)
#: Where the light of a mesh comes from, and how much of the photograph it covers.
_LIGHT, _OPACITY = np.array([-0.5, -0.6, 0.6]), 0.5
#: The 68 points as lines: first, last, and whether the line is closed (iBUG markup).
_STROKES = [(0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False), (36, 41, True),
            (42, 47, True), (48, 59, True), (60, 67, True)]  # fmt: skip
#: Drawn at this multiple of the size wanted and scaled down, for smooth edges.
_FINER = 2
#: A sheet: its width, the height its rows are near to, space between pictures, lines of a caption; pixels.
_WIDTH, _ROW, _GAP, _LINE = 1280, 300, 14, 20
#: BGR of a sheet, of names, and of what is said below them.
_PAPER, _NAME, _SAID = (28, 26, 24), (240, 240, 240), (176, 172, 168)
#: BGR of what stands in place of a picture.
_EMPTY = (50, 47, 44)


@dataclass(frozen=True)
class Curve:
    """One line of a figure: x and y (n,)."""

    x: Floats
    y: Floats
    style: str = "-"


def draw_curves(
    path: Path, curves: Mapping[str, Curve], title: str, x_label: str, y_label: str, top: float | None = None
) -> None:
    """Draw lines with their legend to a PNG, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, curve in curves.items():
        axes.plot(curve.x, curve.y, curve.style, label=name, linewidth=1.5, markersize=4)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.set_ylim(0, top)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend()
    with whole_file(path) as work:
        figure.savefig(work, format="png")


def draw_faces(path: Path, faces: Sequence[tuple[U8, F64, F64, str]]) -> None:
    """Draw faces as tiles to a PNG: image, labelled points (green), answered points (red), and a line of text each."""
    tiles = [_face(*face) for face in faces]
    if not tiles:
        return
    tiles += [np.full_like(tiles[0], 24)] * (-len(tiles) % _ACROSS)
    sheet = np.vstack([np.hstack(tiles[i : i + _ACROSS]) for i in range(0, len(tiles), _ACROSS)])
    with whole_file(path) as work:
        work.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())


def _face(image: U8, truth: F64, answer: F64, text: str) -> U8:
    """A square around all the points, at `_TILE` pixels."""
    both = np.concatenate([truth[:, :2], answer[:, :2]])
    both = both[np.isfinite(both).all(axis=1)]
    low, high = both.min(axis=0), both.max(axis=0)
    side = max(float((high - low).max()) * 1.25, 8.0)
    corner, zoom = (low + high) / 2 - side / 2, _TILE / side
    map_ = np.array([[zoom, 0, -corner[0] * zoom], [0, zoom, -corner[1] * zoom]])
    flags = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    tile: U8 = np.asarray(cv2.warpAffine(image, map_, (_TILE, _TILE), flags=flags), np.uint8)
    for points, colour in ((truth, TRUTH), (answer, ANSWER)):
        for x, y in (points[:, :2] - corner) * zoom:
            if np.isfinite([x, y]).all():
                cv2.circle(tile, (round(float(x)), round(float(y))), 2, colour, -1, cv2.LINE_AA)
    cv2.rectangle(tile, (0, _TILE - 18), (_TILE, _TILE), (24, 24, 24), -1)
    cv2.putText(tile, text, (4, _TILE - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (230, 230, 230), 1, cv2.LINE_AA)
    return tile


def overlay(image: U8, meshes: F32, triangles: I32, landmarks: F32, visible: Bools, zoom: float = 1.0) -> U8:
    """The image at `zoom`, with the meshes (N, V, 3) and landmarks (N, 68, 3) of its faces, in its pixels, drawn in.

    Landmarks that can be seen, visible (N, 68), are green, the others red. The smallest face is drawn first.
    """
    height, width = (max(1, round(side * zoom)) for side in image.shape[:2])
    fine = _resized(image, width * _FINER, height * _FINER)
    scale = np.array([fine.shape[1] / image.shape[1], fine.shape[0] / image.shape[0]], np.float32)
    scale = np.append(scale, scale.mean()).astype(np.float32)
    for i in np.argsort(np.ptp(landmarks[:, :, 1], axis=1)):
        mesh = ((meshes[i] + [0.5, 0.5, 0]) * scale - [0.5, 0.5, 0]).astype(np.float32)
        fine = lambert(fine, mesh, triangles, SKIN, _LIGHT, _OPACITY)
        _strokes(fine, ((landmarks[i, :, :2] + 0.5) * scale[:2] - 0.5).astype(np.float64), visible[i])
    return _resized(fine, width, height)


def _strokes(image: U8, points: F64, visible: Bools) -> None:
    """Draw 68 points (68, 2) and the lines between them into an image, as thick as suits the face's size."""
    size = float(np.ptp(points[:, 1]))
    thick, radius = max(1, round(size / 120)), max(_FINER * 0.6, size / 80)
    sixteenths = np.rint(points * 16).astype(np.int32)
    for first, last, closed in _STROKES:
        ends = [*range(first, last + 1), *([first] if closed else [])]
        for a, b in pairwise(ends):
            colour = SEEN if visible[a] and visible[b] else HIDDEN
            cv2.line(image, sixteenths[a].tolist(), sixteenths[b].tolist(), colour, thick, cv2.LINE_AA, 4)
    for point, seen in zip(sixteenths, visible, strict=True):
        cv2.circle(image, point.tolist(), round(radius * 16), SEEN if seen else HIDDEN, -1, cv2.LINE_AA, 4)


def _resized(image: U8, width: int, height: int) -> U8:
    flags = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=flags), np.uint8)


@dataclass(frozen=True)
class Tile:
    """A picture of a sheet: drawn when its size is known, `shape` (height, width) before; a name, and what is said."""

    shape: tuple[int, int]
    draw: Callable[[float], U8]
    name: str
    said: str


def draw_sheet(path: Path, tiles: Sequence[Tile]) -> None:
    """Draw pictures in rows that fill the width, each with its caption of two lines, to a PNG, whole or not at all."""
    strips = [_row(row) for row in _rows([tile.shape[1] / tile.shape[0] for tile in tiles], tiles)]
    width, height = max(strip.shape[1] for strip in strips), sum(strip.shape[0] + _GAP for strip in strips)
    sheet, y = np.full((height + _GAP, width, 3), _PAPER, np.uint8), _GAP
    for strip in strips:
        sheet[y : y + strip.shape[0], : strip.shape[1]] = strip
        y += strip.shape[0] + _GAP
    with whole_file(path) as work:
        work.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())


def _rows(aspects: Sequence[float], tiles: Sequence[Tile]) -> list[list[Tile]]:
    """Tiles cut into rows, in order, that are about equally wide where all are equally high."""
    ends = np.cumsum(aspects)
    n = max(1, round(float(ends[-1]) * _ROW / _WIDTH))
    row = np.minimum((ends - np.array(aspects) / 2) * n / ends[-1], n - 1).astype(int)
    rows = [[tile for tile, at in zip(tiles, row.tolist(), strict=True) if at == k] for k in range(n)]
    return [row for row in rows if row]


def _row(tiles: Sequence[Tile]) -> U8:
    """One row of a sheet: pictures as high as makes them fill it, but not much above `_ROW`."""
    free = _WIDTH - _GAP * (len(tiles) + 1)
    height = int(min(free / sum(tile.shape[1] / tile.shape[0] for tile in tiles), 1.35 * _ROW))
    strip = np.full((height + 2 * _LINE + _GAP // 2, _WIDTH, 3), _PAPER, np.uint8)
    words, x = [], _GAP
    for tile in tiles:
        picture = tile.draw(height / tile.shape[0])[:height, : _WIDTH - x]
        strip[: picture.shape[0], x : x + picture.shape[1]] = picture
        words += [(x, height + _GAP // 2, picture.shape[1], tile.name, _NAME),
                  (x, height + _GAP // 2 + _LINE, picture.shape[1], tile.said, _SAID)]  # fmt: skip
        x += picture.shape[1] + _GAP
    return _written(strip[:, :x], words)


def notice(text: str, side: int) -> U8:
    """A grey square (side, side, 3) with words in its middle, in place of a picture."""
    lines = textwrap.wrap(text, max(8, round((side - 2 * _GAP) / _LINE * 2.2)))
    top = (side - _LINE * len(lines)) // 2
    square = np.full((side, side, 3), _EMPTY, np.uint8)
    return _written(square, [(_GAP, top + i * _LINE, side - 2 * _GAP, line, _SAID) for i, line in enumerate(lines)])


def _written(image: U8, words: Sequence[tuple[int, int, int, str, tuple[int, int, int]]]) -> U8:
    """The image with lines of text: x and y of the top left, room in pixels, text, BGR."""
    import matplotlib as mpl

    font = ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), round(_LINE * 0.7))
    picture = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    draw = ImageDraw.Draw(picture)
    for x, y, room, text, colour in words:
        draw.text((x, y), _fitted(" ".join(text.split()), room, font), fill=colour[::-1], font=font)
    return np.ascontiguousarray(np.asarray(picture)[..., ::-1])


def _fitted(text: str, room: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, or as much of it as there is room for and an ellipsis."""
    if font.getlength(text) <= room:
        return text
    return next((short for n in range(len(text) - 1, 0, -1)
                 if font.getlength(short := text[:n].rstrip() + "…") <= room), "")  # fmt: skip
