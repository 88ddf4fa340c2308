"""Pictures for people: curves, and faces with points drawn on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F64, U8, Floats
from ddfa_batch.tasks.store import whole_file

#: BGR of labels and of answers.
TRUTH, ANSWER = (80, 220, 80), (60, 60, 255)
_TILE, _ACROSS = 240, 5


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
