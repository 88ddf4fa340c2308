"""The vertices of the right half in the chart, their triangles: rows along lids and lips, a smooth filling between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.path import Path as Outline
from scipy.spatial import Delaunay, cKDTree

from ddfa_batch.schemas.arrays import F64, I64
from recipes.builtin.face_model.chart import edge_of_half, inside
from recipes.builtin.face_model.design import BOTTOM, SIDE, TOP


def _spacing(chart: F64, eye: F64) -> F64:
    """Wanted distance (N,) of vertices, mm: fine about eyes, nose and mouth."""

    def beyond(centre: Sequence[float] | F64, stretch: Sequence[float], radius: float) -> F64:
        offset = (chart - np.asarray(centre)) / np.asarray(stretch)
        return np.asarray(np.maximum(np.linalg.norm(offset, axis=1) - radius, 0))

    near = np.minimum.reduce(
        [beyond(eye, (1.5, 1.1), 8), beyond((0, -64), (1.7, 0.9), 12), beyond((0, -32), (1.1, 1.3), 14)]
    )
    return np.asarray(np.clip(1.35 + 0.075 * near, 1.35, 4.2))


def half_chart(places: F64, rows: dict[str, F64], rng: np.random.Generator) -> F64:
    """The right half's vertices in the chart (N, 2): landmarks, rows, the middle line, a Poisson-disc filling."""
    eye = rows["eye"].mean(axis=0)
    points = places[places[:, 0] > -1e-6]
    for place in np.vstack(list(rows.values())):
        if place[0] > -1e-6 and np.linalg.norm(points - place, axis=1).min() > 0.55:
            points = np.vstack([points, np.maximum(place, [0, -np.inf])])
    line = np.column_stack([np.zeros(400), np.linspace(BOTTOM, TOP, 400)])
    line = line[cKDTree(points).query(line)[0] > 0.9]
    chosen = [line[0]]
    for place in line[1:]:
        if np.linalg.norm(place - chosen[-1]) > 0.9 * _spacing(place[None], eye)[0]:
            chosen.append(place)
    edge = edge_of_half(3.6)
    chosen = [place for place in chosen if np.linalg.norm(edge - place, axis=1).min() > 2]
    points = np.vstack([points, chosen, edge])
    fixed = len(points)
    wide = np.vstack([rows["above 4.0"] + [0, 0.4], (rows["below 4.0"] - [0, 0.4])[::-1]])
    seeds = np.column_stack([rng.uniform(0.8, SIDE, 90_000), rng.uniform(BOTTOM, TOP, 90_000)])
    seeds = seeds[inside(seeds) & ~Outline(wide).contains_points(seeds)]
    return _relaxed(np.vstack([points, _thinned(points, seeds, 0.86 * _spacing(seeds, eye))]), fixed)


def _thinned(taken: F64, seeds: F64, apart: F64) -> F64:
    """Of seeds (N, 2), in order, those that keep `apart` (N,) from `taken` and from one another."""
    fine = cKDTree(taken).query(seeds)[0] > apart
    seeds, apart = seeds[fine], apart[fine]
    cell = float(apart.max())
    grid: dict[tuple[int, int], list[F64]] = {}
    kept = []
    for seed, limit in zip(seeds, apart, strict=True):
        i, j = (int(x // cell) for x in seed)
        near = (other for a in (-1, 0, 1) for b in (-1, 0, 1) for other in grid.get((i + a, j + b), ()))
        if all((other[0] - seed[0]) ** 2 + (other[1] - seed[1]) ** 2 >= limit**2 for other in near):
            grid.setdefault((i, j), []).append(seed)
            kept.append(seed)
    return np.array(kept)


def _relaxed(points: F64, fixed: int, rounds: int = 12) -> F64:
    """Vertices after the first `fixed` moved towards the middle of their neighbours, none over the middle line."""
    for _ in range(rounds):
        both = np.vstack([points, points[points[:, 0] > 1e-6] * [-1, 1]])
        mesh = Delaunay(both)
        total, count = np.zeros_like(both), np.zeros(len(both))
        for a, b in ((0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)):
            np.add.at(total, mesh.simplices[:, a], both[mesh.simplices[:, b]])
            np.add.at(count, mesh.simplices[:, a], 1)
        free = np.arange(len(points)) >= fixed
        free[mesh.convex_hull[mesh.convex_hull < len(points)]] = False
        free &= inside(points * 1.02)
        middle = (total / np.maximum(count, 1)[:, None])[: len(points)]
        points = np.where(free[:, None], (points + middle) / 2, points)
        points[fixed:, 0] = np.maximum(points[fixed:, 0], 0.5)
    return points


def half_triangles(half: F64) -> I64:
    """Delaunay triangles (T, 3) of the right half, counter-clockwise in the chart, none outside the face."""
    triangles = np.asarray(Delaunay(half).simplices, np.int64)
    a, b, c = (half[triangles[:, i]] for i in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    triangles[area < 0] = triangles[area < 0][:, [0, 2, 1]]
    longest = np.max([np.linalg.norm(p - q, axis=1) for p, q in ((a, b), (b, c), (c, a))], axis=0)
    used = inside((a + b + c) / 3 * [0.9999, 1]) & (np.abs(area) > 2e-3) & (longest < 14)
    return np.asarray(triangles[used])
