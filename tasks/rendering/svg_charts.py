"""Charts as SVG text: histograms, points of poses, curves over time. Colours are the page's, by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike

from ddfa_batch.schemas.arrays import F64, Floats

#: Width and height of a chart, and what is left around its axes (left, top, right, bottom), in its own units.
_SIZE, _AROUND = (320, 150), (8, 8, 8, 24)
#: About how many numbers stand along an axis.
_TICKS = 5
#: Most points that a curve is drawn with.
_CURVE = 240


@dataclass(frozen=True)
class Distribution:
    """The values of a quantity, to be drawn as a histogram."""

    #: What it is, and its unit (empty for none).
    name: str
    unit: str
    #: (N,) finite.
    values: F64
    #: From where to where; None for the values' own least and most.
    bounds: tuple[float, float] | None = None
    #: Whether equal steps are equal factors.
    logarithmic: bool = False


@dataclass(frozen=True)
class Axis:
    """Maps values to places along a chart."""

    #: The values at its ends.
    low: float
    high: float
    #: The places of its ends, in the chart's own units.
    start: float
    end: float

    def place(self, values: ArrayLike) -> F64:
        """Where values stand."""
        share = (np.asarray(values, np.float64) - self.low) / (self.high - self.low)
        return np.asarray(self.start + share * (self.end - self.start))


def histogram(found: Distribution, n_bins: int = 36) -> str:
    """A histogram; what lies beyond the bounds is counted in the outermost bars."""
    values, low, high = _scaled(found)
    edges = np.linspace(low, high, n_bins + 1)
    counts, _ = np.histogram(np.clip(values, low, high), edges)
    across = Axis(low, high, _AROUND[0], _SIZE[0] - _AROUND[2])
    floor, top = _SIZE[1] - _AROUND[3], _AROUND[1]
    x = across.place(edges)
    height = counts / max(int(counts.max()), 1) * (floor - top)
    limits = 10**edges if found.logarithmic else edges
    bars = [
        f'<rect class="bar" x="{x[i]:.1f}" y="{floor - height[i]:.1f}" width="{max(x[i + 1] - x[i] - 1, 0.5):.1f}" '
        f'height="{height[i]:.1f}"><title>{short(limits[i])} to {short(limits[i + 1])}: {n:,}</title></rect>'
        for i, n in enumerate(counts.tolist())
        if n
    ]
    label = f"Histogram of {found.name}: {summary(found)}"
    return _svg(_SIZE, label, [*bars, *_ticks(across, found.logarithmic, floor)])


def summary(found: Distribution) -> str:
    """Median and outer values in words."""
    if not len(found.values):
        return "no values"
    low, middle, high = np.percentile(found.values, [5, 50, 95])
    unit = f" {found.unit}" if found.unit else ""
    return f"median {short(middle)}{unit}, 90 % from {short(low)} to {short(high)}{unit}"


def _scaled(found: Distribution) -> tuple[F64, float, float]:
    values = np.log10(found.values[found.values > 0]) if found.logarithmic else found.values
    if found.bounds is not None:
        low, high = found.bounds
    else:
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return values, low, high if high > low else low + 1


def _ticks(axis: Axis, logarithmic: bool, y: float) -> list[str]:
    told = _round_factors(axis.low, axis.high) if logarithmic else nice_numbers(axis.low, axis.high)
    at = np.log10(told) if logarithmic else told
    line = f'<path class="axis" d="M{axis.start} {y}H{axis.end}"/>'
    words = [
        f'<path class="axis" d="M{x:.1f} {y}v4"/><text x="{x:.1f}" y="{y + 16}" text-anchor="middle">{short(v)}</text>'
        for x, v in zip(axis.place(at).tolist(), told.tolist(), strict=True)
    ]
    return [line, *words]


def _round_factors(low: float, high: float) -> F64:
    """Some round numbers between 10^low and 10^high, about evenly spaced as factors."""
    if high - low < 1:
        return nice_numbers(10**low, 10**high)
    powers = 10.0 ** np.arange(np.ceil(low - 1e-9), np.floor(high + 1e-9) + 1)
    if high - low > 2:
        return powers[:: -(-len(powers) // (_TICKS + 1))]
    found = np.outer(10.0 ** np.arange(np.floor(low), np.ceil(high) + 1), [1.0, 2.0, 5.0]).ravel()
    return found[(found >= 10**low) & (found <= 10**high)]


def nice_numbers(low: float, high: float) -> F64:
    """Some round numbers between two, evenly spaced."""
    rough = (high - low) / _TICKS
    power = 10 ** np.floor(np.log10(rough))
    step = next(s * power for s in (1, 2, 3, 5, 10) if s * power >= rough * 0.999)
    return np.asarray(np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step)


def short(value: float) -> str:
    """A number as short as tells it, with a minus sign."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value + 0.0:.3g}".replace("-", "−")


# ---------------------------------------------------------------------------------------------- poses, tracks


@dataclass(frozen=True)
class Thumbnail:
    """A small picture at a pose."""

    #: Degrees.
    yaw: float
    pitch: float
    #: A data URL.
    picture: str
    #: What is told of it.
    title: str


def pose_scatter(yaw: Floats, pitch: Floats, thumbnails: Sequence[Thumbnail], side: float = 36) -> str:
    """Faces as points by yaw (the nose to the image's left is left) and pitch (down is down), some as pictures."""
    width, height = 900, 520
    reach = max(90.0, float(np.ceil(np.abs(yaw).max() / 30) * 30) if len(yaw) else 90.0)
    tilt = max(60.0, float(np.ceil(np.abs(pitch).max() / 30) * 30) if len(pitch) else 60.0)
    across, down = Axis(reach, -reach, 50, width - 30), Axis(-tilt, tilt, 30, height - 50)
    points = "".join(
        f"M{x:.0f} {y:.0f}h0" for x, y in zip(across.place(yaw).tolist(), down.place(pitch).tolist(), strict=True)
    )
    at = [(float(across.place(t.yaw)), float(down.place(t.pitch))) for t in thumbnails]
    pictures = [_pictured(t, x, y, side) for t, (x, y) in zip(thumbnails, at, strict=True)]
    words = [
        *(_word(f"{short(v)}°", x, height - 26) for v, x in _labels(across, reach)),
        *(_word(f"{short(v)}°", 24, y + 4) for v, y in _labels(down, tilt)),
        _word("yaw", width / 2, height - 6),
        _word("pitch", 24, 16),
    ]
    lines = f'<path class="axis" d="M50 {height - 44}H{width - 30}M{width / 2 + 10} 30V{height - 50}"/>'
    label = f"{len(yaw):,} faces by yaw and pitch, {len(thumbnails)} of them as pictures"
    return _svg((width, height), label, [lines, f'<path class="points" d="{points}"/>', *pictures, *words], "wide")


def _labels(axis: Axis, reach: float) -> list[tuple[float, float]]:
    at = np.arange(-reach, reach + 1, 30)
    return list(zip(at.tolist(), axis.place(at).tolist(), strict=True))


def _word(text: str, x: float, y: float) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle">{escape(text)}</text>'


def _pictured(thumbnail: Thumbnail, x: float, y: float, side: float) -> str:
    place = f'x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side}" height="{side}"'
    return f'<g><title>{escape(thumbnail.title)}</title><image href="{thumbnail.picture}" {place}/></g>'


def curves(times: Floats, lines: Mapping[str, Floats]) -> str:
    """Angles over time, seconds, each line with a class of its name; sampled where there are many."""
    width, height = 640, 90
    step = max(1, -(-len(times) // _CURVE))
    reach = max(30.0, *(float(np.abs(values).max()) for values in lines.values()))
    span = max(float(times[-1] - times[0]), 1e-3)
    across = Axis(float(times[0]), float(times[0]) + span, 8, width - 8)
    up = Axis(-reach, reach, height - 20, 6)
    x = across.place(times[::step]).tolist()
    paths = [
        f'<polyline class="curve {escape(name)}" points="'
        + " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, up.place(values[::step]).tolist(), strict=True))
        + '"/>'
        for name, values in lines.items()
    ]
    zero = f'<path class="axis" d="M8 {float(up.place([0])[0]):.1f}H{width - 8}"/>'
    ends = [
        f'<text x="8" y="{height - 4}">{short(float(times[0]))} s</text>',
        f'<text x="{width - 8}" y="{height - 4}" text-anchor="end">{short(float(times[-1]))} s</text>',
        f'<text x="12" y="14">±{reach:.0f}°</text>',
    ]
    return _svg((width, height), f"{', '.join(lines)} over time", [zero, *paths, *ends], "line")


def _svg(size: tuple[int, int], label: str, parts: Sequence[str], kind: str = "chart") -> str:
    opening = f'<svg class="{kind}" viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{escape(label)}">'
    return f"{opening}{''.join(parts)}</svg>"
