"""Line charts in SVG: how something grows over time, or with the size of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

#: Pixels of the chart and of the room around its lines; points that a line has at most.
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 300, 60, 34, 130, 34
MOST_POINTS = 400
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#64748b")


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    #: What its end is called.
    name: str
    #: Seconds, or sizes.
    times: Sequence[float]
    #: What is drawn over them, as many.
    values: Sequence[float]


def chart(title: str, unit: str, lines: Sequence[Line]) -> str:
    """The SVG of some lines over time, from 0 up."""
    last = max((line.times[-1] for line in lines), default=1.0) or 1.0
    most = max((max(line.values) for line in lines), default=1.0) * 1.1 or 1.0
    across, up = (WIDTH - LEFT - RIGHT) / last, (HEIGHT - TOP - BOTTOM) / most
    parts = [f'<text x="{LEFT}" y="20" font-weight="bold">{escape(title)}</text>', *_axes(last, most, unit)]
    for line, colour in zip(lines, COLOURS * len(lines), strict=False):
        step = max(1, len(line.times) // MOST_POINTS)
        points = [
            (LEFT + t * across, HEIGHT - BOTTOM - v * up)
            for t, v in zip(line.times[::step], line.values[::step], strict=True)
        ]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{drawn}"/>')
        x, y = points[-1]
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(line.name)}</text>')
    return _page(HEIGHT, parts)


def log_chart(title: str, panels: Mapping[str, Sequence[Line]]) -> str:
    """The SVG of lines over sizes, on a logarithmic axis, from 0 up: a panel for each unit."""
    parts = [f'<text x="{LEFT}" y="20" font-weight="bold">{escape(title)}</text>']
    for number, (unit, lines) in enumerate(panels.items()):
        parts.append(f'<g transform="translate(0 {number * HEIGHT})">{"".join(_log_panel(unit, lines))}</g>')
    return _page(HEIGHT * len(panels), parts)


def _log_panel(unit: str, lines: Sequence[Line]) -> list[str]:
    sizes = lines[0].times
    first, last = math.log(sizes[0]), math.log(sizes[-1])
    most = max(max(line.values) for line in lines) * 1.1
    base, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def at(size: float, value: float) -> tuple[float, float]:
        return LEFT + (math.log(size) - first) / (last - first) * (right - LEFT), base - value / most * (base - TOP)

    parts = [f'<path stroke="#94a3b8" fill="none" d="M{LEFT} {TOP}V{base}H{right}"/>']
    for share in (0.0, 0.5, 1.0):
        y = base - share * (base - TOP)
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most * share:.0f}</text>')
    parts.append(f'<text x="{LEFT + 6}" y="{TOP + 4}">{escape(unit)}</text>')
    parts += [f'<text x="{at(s, 0)[0]:.1f}" y="{base + 18}" text-anchor="middle">{s:,.0f}</text>' for s in sizes]
    for line, colour in zip(lines, COLOURS, strict=False):
        points = [at(size, value) for size, value in zip(line.times, line.values, strict=True)]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{drawn}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        parts.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(line.name)}</text>')
    return parts


def _page(height: int, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
    return head + 'font-size="12"><rect width="100%" height="100%" fill="white"/>' + "".join(parts) + "</svg>\n"


def _axes(last: float, most: float, unit: str) -> list[str]:
    base, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    minutes = last >= 300
    end = f"{last / 60:.0f} min" if minutes else f"{last:.0f} s"
    parts = [f'<path stroke="#94a3b8" fill="none" d="M{LEFT} {TOP}V{base}H{right}"/>']
    for share in (0.0, 0.5, 1.0):
        y = base - share * (base - TOP)
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most * share:.0f} {unit}</text>')
    return [*parts, f'<text x="{right}" y="{base + 18}" text-anchor="end">{end}</text>']
