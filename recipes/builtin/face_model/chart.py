"""The chart: the face unrolled from a cylinder; its landmarks and outline, and rows of vertices along lids and lips."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib.path import Path as Outline
from scipy.interpolate import CubicSpline

from ddfa_batch.schemas.arrays import F64, Bools, Floats
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.geometry.mirroring import FLIP68
from recipes.builtin.face_model.design import (
    BOTTOM,
    CYLINDER_DEPTH,
    CYLINDER_RADIUS,
    EYE_CENTRE,
    EYE_RADIUS,
    LID_THICKNESS,
    SIDE,
    TOP,
    table,
)


def chart_of(points: Floats) -> F64:
    """Positions (N, 2) in the chart, mm, of points (N, 3) of the face."""
    p = np.atleast_2d(np.asarray(points, np.float64))
    return np.column_stack([CYLINDER_RADIUS * np.arctan2(p[:, 0], p[:, 2] + CYLINDER_DEPTH), p[:, 1]])


def landmark_table() -> tuple[F64, F64]:
    """The 68 designed points (68, 3), mm, and where they lie in the chart (68, 2)."""
    points = np.zeros((N_LANDMARKS, 3))
    rows = {int(row["landmark"]): row for row in table("landmarks")}
    for index, row in rows.items():
        points[index] = [row[axis] for axis in "xyz"]
        points[FLIP68[index]] = points[index] * [-1, 1, 1]
    for index in (42, 43, 44, 45, 46, 47):  # lids lie on the eyeball
        x, y = points[index, :2] - EYE_CENTRE[:2]
        outer = (EYE_RADIUS + LID_THICKNESS) ** 2
        if np.hypot(x, y) < 12:
            points[index, 2] = EYE_CENTRE[2] + np.sqrt(max(outer - x * x - y * y, 0.06 * outer))
        points[FLIP68[index]] = points[index] * [-1, 1, 1]
    places = chart_of(points)
    for index, row in rows.items():  # the closed mouth is a slit that is open in the chart
        if "chart_v" in row:
            places[index, 1] = places[FLIP68[index], 1] = row["chart_v"]
    return points, places


def on_the_right(chart: F64) -> F64:
    """Positions (N, 2) of the chart with those of the left half mirrored."""
    return chart * np.where(chart[:, :1] < 0, [-1, 1], [1, 1])


def distance(points: F64, line: F64) -> F64:
    """Distance (N,) of points (N, 2) from a polyline (M, 2)."""
    nearest = np.full(len(points), np.inf)
    for a, b in pairwise(line):
        along = np.clip((points - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - a - along[:, None] * (b - a), axis=1))
    return nearest


def within(outline: F64, points: F64, margin: float = 0.1) -> Bools:
    """Which points (N, 2) lie inside a closed outline (M, 2) and not on it."""
    closed = np.vstack([outline, outline[:1]])
    return np.asarray(Outline(closed).contains_points(points) & (distance(points, closed) > margin))


def inside(chart: F64) -> Bools:
    """Which positions (N,) belong to the face."""
    u = np.abs(chart[:, 0]) / SIDE
    inside = np.clip(u, 0, 1)
    top, bottom = outline(inside)
    return np.asarray((u <= 1) & (chart[:, 1] <= top) & (chart[:, 1] >= bottom))


def outline(u: F64) -> tuple[F64, F64]:
    """The chart's v at the upper and at the lower edge of the face, at u (N,) as a share of its side."""
    return TOP - 40 * u**4, BOTTOM + 70 * u**2.2


def edge_of_half(apart: float) -> F64:
    """Positions (N, 2) along the edge of the right half, from its middle above to its middle below."""
    u = np.linspace(0, 1, 2000)
    top, bottom = outline(u)
    side = np.linspace(top[-1], bottom[-1], 1000)[1:-1]
    upper = np.column_stack([u * SIDE, top])
    outer = np.column_stack([np.full(998, SIDE), side])
    lower = np.column_stack([u * SIDE, bottom])[::-1]
    line = np.vstack([upper, outer, lower])
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.linspace(0, along[-1], round(along[-1] / apart) + 1)
    return np.column_stack([np.interp(at, along, line[:, i]) for i in range(2)])


def _through(points: F64, n: int) -> F64:
    """n positions along a smooth curve through points (M, 2), ends included."""
    return np.asarray(CubicSpline(np.arange(len(points)), points)(np.linspace(0, len(points) - 1, n)))


def feature_rows(places: F64, n: int = 21) -> dict[str, F64]:
    """The rows of vertices around eye and mouth, right half, by name; `eye` is its outline (36, 2)."""
    upper, lower = _through(places[[42, 43, 44, 45]], 19), _through(places[[45, 46, 47, 42]], 19)
    eye = np.vstack([upper[:-1], lower[:-1]])
    centre = eye.mean(axis=0)
    rows = {"eye": eye}
    for scale in ([1.1, 1.14], [1.2, 1.3], [1.3, 1.55], [1.42, 1.85]):
        rows[f"eye {scale}"] = centre + (eye - centre) * scale
    inner_up, inner_low = _through(places[[62, 63, 64]], n), _through(places[[66, 65, 64]], n)
    outer_up, outer_low = _through(places[[51, 52, 53, 54]], n), _through(places[[57, 56, 55, 54]], n)
    rows["inner up"], rows["inner low"] = inner_up, inner_low
    rows["outer up"], rows["outer low"] = outer_up, outer_low
    for share in (0.25, 0.5, 0.75):
        rows[f"bag {share}"] = (inner_up * share + inner_low * (1 - share))[:-1]
        rows[f"upper lip {share}"] = outer_up * share + inner_up * (1 - share)
        rows[f"lower lip {share}"] = outer_low * share + inner_low * (1 - share)
    for wider, away in ((1.04, 1.9), (1.08, 4.0)):
        rows[f"above {away}"] = outer_up * [wider, 1] + [0, away]
        rows[f"below {away}"] = outer_low * [wider, 1] - [0, away * 1.1]
    return rows


def slit_outline(rows: dict[str, F64]) -> F64:
    right = np.vstack([rows["inner up"], rows["inner low"][::-1][1:]])
    return np.vstack([right, right[::-1] * [-1, 1]])
