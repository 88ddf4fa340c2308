"""Figures of lines, each an SVG of its own, with axes, a grid and a legend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import F64, Floats, check_shape
from ddfa_batch.tasks.files.atomic import whole_file
from ddfa_batch.tasks.rendering.svg_charts import Axis, nice_numbers, short

#: Width and height of a figure, and what is left around its axes (left, top, right, bottom), pixels.
_SIZE, _AROUND = (840, 540), (72, 48, 24, 64)
#: Colours of lines, in turn (Okabe and Ito 2008, which people with any colour vision tell apart).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
#: How what is not a line looks.
_STYLE = (
    "text{font:15px system-ui,sans-serif;fill:#222}.title{font-size:18px}.grid{stroke:#ddd}"
    ".axis{stroke:#222;fill:none}polyline{fill:none;stroke-width:2.2}"
)


@dataclass(frozen=True)
class Curve:
    """One line of a figure."""

    #: (n,), along the figure.
    x: Floats
    #: (n,), up the figure.
    y: Floats

    def __post_init__(self) -> None:
        check_shape("x", self.x, None)
        check_shape("y", self.y, len(self.x))


def draw_curves(
    path: Path, curves: Mapping[str, Curve], title: str, x_label: str, y_label: str, top: float | None = None
) -> None:
    """Draw lines with their legend to an SVG, whole or not at all; from 0 up to `top`, or to the highest of them."""
    across, up = _axes(list(curves.values()), top)
    middle = (up.start + up.end) / 2
    parts = [
        f"<style>{_STYLE}</style>",
        f'<rect width="{_SIZE[0]}" height="{_SIZE[1]}" fill="#fff"/>',
        *_grid(across, up),
        *(part for i, (name, curve) in enumerate(curves.items()) for part in _line(i, name, curve, across, up)),
        _words(title, _SIZE[0] / 2, 30, 'class="title" text-anchor="middle"'),
        _words(x_label, (across.start + across.end) / 2, _SIZE[1] - 16, 'text-anchor="middle"'),
        _words(y_label, 0, 0, f'text-anchor="middle" transform="translate(20 {middle:.0f}) rotate(-90)"'),
    ]
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIZE[0]} {_SIZE[1]}" role="img">'
    with whole_file(path) as work:
        work.write_text(f"{opening}<title>{escape(title)}</title>{''.join(parts)}</svg>\n", encoding="utf-8")


def _axes(curves: list[Curve], top: float | None) -> tuple[Axis, Axis]:
    x = _finite(curve.x for curve in curves)
    y = _finite(curve.y for curve in curves)
    low, high = (float(x.min()), float(x.max())) if len(x) else (0.0, 1.0)
    highest = top or (float(y.max()) if len(y) else 0.0) or 1.0
    left, above, right, below = _AROUND
    across = Axis(low, high if high > low else low + 1, left, _SIZE[0] - right)
    return across, Axis(0, highest, _SIZE[1] - below, above)


def _finite(columns: Iterable[Floats]) -> F64:
    values = np.concatenate([np.zeros(0), *columns])
    return np.asarray(values[np.isfinite(values)])


def _grid(across: Axis, up: Axis) -> list[str]:
    parts = []
    for value in nice_numbers(across.low, across.high).tolist():
        x = float(across.place(value))
        parts += [f'<path class="grid" d="M{x:.1f} {up.start}V{up.end}"/>']
        parts += [_words(short(value), x, up.start + 22, 'text-anchor="middle"')]
    for value in nice_numbers(up.low, up.high).tolist():
        y = float(up.place(value))
        parts += [f'<path class="grid" d="M{across.start} {y:.1f}H{across.end}"/>']
        parts += [_words(short(value), across.start - 8, y + 5, 'text-anchor="end"')]
    return [*parts, f'<path class="axis" d="M{across.start} {up.end}V{up.start}H{across.end}"/>']


def _line(i: int, name: str, curve: Curve, across: Axis, up: Axis) -> list[str]:
    """A line, and its entry of the legend in the corner at the bottom right, where growing shares leave room."""
    colour, shown = _COLOURS[i % len(_COLOURS)], np.isfinite(curve.x) & np.isfinite(curve.y)
    x, y = across.place(curve.x[shown]).tolist(), up.place(curve.y[shown]).tolist()
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    below = up.start - 20 - 24 * i
    return [
        f'<polyline stroke="{colour}" points="{points}"/>',
        f'<path stroke="{colour}" stroke-width="3" d="M{across.end - 40:.0f} {below - 5:.0f}h28"/>',
        _words(name, across.end - 48, below, 'text-anchor="end"'),
    ]


def _words(text: str, x: float, y: float, how: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {how}>{escape(text)}</text>'
