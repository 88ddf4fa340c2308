"""A checkout laid out as MakeHuman's: an egg, two balls, two strips for teeth, and random targets, all symmetric."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

#: Millimetres: the egg's middle and radii, and the eyeballs' middle and radius.
MIDDLE, RADII = np.array([0.0, -25.0, -85.0]), np.array([72.0, 125.0, 95.0])
EYE, EYE_RADIUS = np.array([30.0, 0.0, -13.4]), 14.5
ROWS, SECTORS = 36, 48
#: Single details, beside which the tests need no more; and expression units.
DETAILS = ("nose/nose-hump", "chin/chin-width", "cheek/l-cheek-volume", "cheek/r-cheek-volume")
UNITS = (
    *("mouth-open", "mouth-corner-puller", "mouth-upward-retraction", "mouth-pursing", "mouth-depression"),
    *("mouth-elevation", "mouth-depression-retraction", "mouth-compression"),
    *(f"nose-{side}-elevation" for side in ("left", "right")),
    *(f"eye-{side}-closure" for side in ("left", "right")),
    *(f"eyebrows-{side}-{way}" for side in ("left", "right") for way in ("up", "extern-up", "inner-up", "down")),
)


def write(folder: Path) -> None:
    """Write base mesh and targets below `folder`."""
    parts = dict(_parts())
    vertices = np.concatenate([points for points, _ in parts.values()])
    data = folder / "makehuman/data"
    (data / "3dobjs").mkdir(parents=True)
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices / 100]
    lines += ["vt 0.5 0.5"]
    first = 1
    for name, (points, quads) in parts.items():
        lines += [f"g {name}", *("f " + " ".join(f"{v + first}/1" for v in quad) for quad in quads)]
        first += len(points)
    (data / "3dobjs/base.obj").write_text("\n".join(lines))
    rng = np.random.default_rng(0)
    for target in _targets():
        path = data / f"targets/{target}.target"
        path.parent.mkdir(parents=True, exist_ok=True)
        wave, phase, flip = rng.normal(size=(3, 3)) / 60, rng.uniform(0, 6, 3), np.array([-1, 1, 1])
        moves = 0.015 * (np.sin(vertices @ wave + phase) + flip * np.sin(vertices * flip @ wave + phase))
        path.write_text("# drawn\n" + "\n".join(f"{v} {x:.4f} {y:.4f} {z:.4f}" for v, (x, y, z) in enumerate(moves)))


def _parts() -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    yield "body", _ball(MIDDLE, RADII, ROWS, SECTORS)
    right = _ball(EYE, np.full(3, EYE_RADIUS), 8, 12)
    yield "helper-l-eye", right
    yield "helper-r-eye", (right[0] * [-1, 1, 1], right[1][:, ::-1])
    for name, y in (("upper", -60.0), ("lower", -72.0)):
        x, up = np.meshgrid(np.linspace(-24, 24, 9), [0.0, 8.0])
        points = np.column_stack([x.ravel(), y + up.ravel(), np.full(x.size, -20.0)])
        yield f"helper-{name}-teeth", (points, _grid(2, 9, False))


def _ball(middle: np.ndarray, radii: np.ndarray, rows: int, sectors: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of latitude, from below, without the poles; a vertex of each on the middle line before and behind."""
    up, around = np.radians(np.linspace(-85, 85, rows)), 2 * np.pi * np.arange(sectors) / sectors
    v, u = np.meshgrid(up, around, indexing="ij")
    unit = np.stack([np.cos(v) * np.sin(u), np.sin(v), np.cos(v) * np.cos(u)], axis=-1)
    unit[np.abs(unit) < 1e-12] = 0
    return unit.reshape(-1, 3) * radii + middle, _grid(rows, sectors, True)


def _grid(rows: int, columns: int, closed: bool) -> np.ndarray:
    """Quads of a grid of vertices, counter-clockwise where columns go to the right and rows up."""
    quads = []
    for row, column in product(range(rows - 1), range(columns if closed else columns - 1)):
        here, ahead = row * columns + column, row * columns + (column + 1) % columns
        quads.append((here, ahead, ahead + columns, here + columns))
    return np.array(quads)


def _targets() -> Iterator[str]:
    for sex, age in product(("female", "male"), ("young", "old")):
        for ancestry in ("african", "asian", "caucasian"):
            yield f"macrodetails/{ancestry}-{sex}-{age}"
        for build, weight in product(("max", "average", "min"), repeat=2):
            yield f"macrodetails/universal-{sex}-{age}-{build}muscle-{weight}weight"
    for detail, end in product(DETAILS, ("incr", "decr")):
        yield f"{detail}-{end}"
    yield from ("asym/asym-jaw-1-l", "asym/asym-jaw-1-r")
    for ancestry, unit in product(("african", "asian", "caucasian"), UNITS):
        yield f"expression/units/{ancestry}/{unit}"
