"""The neutral face as a mesh: a thin-plate spline through the designed points, with relief, eyes, a mouth inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import RBFInterpolator

from ddfa_batch.schemas.arrays import F32, F64, I32, I64, Bools, Floats, check_shape
from ddfa_batch.schemas.morphable import N_LANDMARKS
from recipes.builtin.face_model.chart import (
    chart_of,
    distance,
    feature_rows,
    landmark_table,
    on_the_right,
    slit_outline,
    within,
)
from recipes.builtin.face_model.design import BAG_DEPTH, BOTTOM, EYE_CENTRE, EYE_RADIUS, RELIEF, SIDE, TOP, table
from recipes.builtin.face_model.mesh import half_chart, half_triangles

#: How far the spline may pass its points by, for smoothness' sake (scipy's `smoothing`).
_CHART_SMOOTHING = 0.15


@dataclass(frozen=True)
class Template:
    """The neutral face as a mesh of V vertices."""

    #: (V, 3), mm.
    vertices: F64
    #: (V, 2), where each lies in the chart, mm.
    chart: F64
    #: (T, 3), counter-clockwise from outside.
    triangles: I32
    #: (68,), vertex indices.
    landmarks: I64
    #: (V,), the vertex on the other side of each.
    mirror: I64
    #: (V,), which are vertices of the eyeballs.
    ball: Bools
    #: (V,), which are vertices of the mouth's inside.
    bag: Bools

    @property
    def uv(self) -> F32:
        """Texture coordinates (V, 2) in [0, 1], v down: the chart, scaled."""
        u = 0.5 + self.chart[:, 0] / (2 * SIDE)
        v = (TOP - self.chart[:, 1]) / (TOP - BOTTOM)
        return np.clip(np.column_stack([u, v]), 0, 1).astype(np.float32)

    def carry(self, moves: Floats) -> F64:
        """Displacements of the landmarks (M, 68, 3) as displacements of all vertices (M, V, 3), by thin plates.

        Landmarks are met to within what their labels are good for; eyeballs move with the middle of their lids.
        """
        moves = np.asarray(moves, np.float64)
        check_shape("moves", moves, None, N_LANDMARKS, 3)
        m = len(moves)
        flat = moves.transpose(1, 0, 2).reshape(N_LANDMARKS, -1)
        spline = RBFInterpolator(self.chart[self.landmarks], flat, kernel="thin_plate_spline", smoothing=0.0)
        dense = spline(self.chart).reshape(-1, m, 3).transpose(1, 0, 2)
        dense = np.ascontiguousarray(dense)
        for lids, side in ((slice(42, 48), self.chart[:, 0] > 0), (slice(36, 42), self.chart[:, 0] < 0)):
            dense[:, self.ball & side] = moves[:, lids].mean(axis=1)[:, None]
        return dense


def build_template(seed: int = 5) -> Template:
    """The neutral face; `seed` shuffles where vertices of smooth areas lie."""
    points, places = landmark_table()
    surface = _surface(points, places)
    rows = feature_rows(places)
    half = half_chart(places, rows, np.random.default_rng(seed))
    off = half[:, 0] > 1e-6
    chart = np.vstack([half, half[off] * [-1, 1]])
    right = np.flatnonzero(off)
    mirror = np.arange(len(chart))
    mirror[right], mirror[len(half) :] = len(half) + np.arange(len(right)), right
    triangles = half_triangles(half)
    triangles = np.vstack([triangles, mirror[triangles][:, [0, 2, 1]]])
    landmarks = np.array([np.argmin(np.linalg.norm(chart - place, axis=1)) for place in places])
    vertices = surface(chart)
    vertices += _relief(chart)[:, None] * _outwards(surface, chart)
    ball = within(rows["eye"], on_the_right(chart))
    bag = within(slit_outline(rows), chart)
    vertices[ball] = on_ball(vertices[ball], EYE_RADIUS)
    vertices[bag, 2] -= BAG_DEPTH
    vertices[bag, 1] = -63.6 + 0.25 * (vertices[bag, 1] + 63.6)
    flipped = vertices[mirror] * [-1, 1, 1]
    return Template((vertices + flipped) / 2, chart, triangles.astype(np.int32), landmarks, mirror, ball, bag)


def _surface(points: F64, places: F64) -> Callable[[F64], F64]:
    known, where = list(points), list(places)
    for row in table("surface"):
        point = np.array([row[axis] for axis in "xyz"])
        place = chart_of(point)[0]
        place[1] = row.get("chart_v", place[1])
        for side in (1, -1) if point[0] > 0 else (1,):
            known.append(point * [side, 1, 1])
            where.append(place * [side, 1])
    spline = RBFInterpolator(np.array(where), np.array(known), kernel="thin_plate_spline", smoothing=_CHART_SMOOTHING)
    return lambda chart: np.asarray(spline(chart), np.float64)


def _outwards(surface: Callable[[F64], F64], chart: F64, step: float = 0.5) -> F64:
    """Unit normals (N, 3) of the surface at positions of the chart (N, 2)."""
    across, along = np.array([step, 0.0]), np.array([0.0, step])
    du = surface(chart + across) - surface(chart - across)
    dv = surface(chart + along) - surface(chart - along)
    normal = np.cross(du, dv)
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))


def _relief(chart: F64) -> F64:
    right = on_the_right(chart)
    height = np.zeros(len(chart))
    for peak, width, line in RELIEF:
        height += peak * np.exp(-0.5 * (distance(right, np.array(line)) / width) ** 2)
    return height


def on_ball(points: F64, radius: float) -> F64:
    """Points moved in z to the eyeball's front."""
    out = points.copy()
    side = np.sign(out[:, 0])
    flat = (out[:, 0] - side * EYE_CENTRE[0]) ** 2 + (out[:, 1] - EYE_CENTRE[1]) ** 2
    out[:, 2] = EYE_CENTRE[2] + np.sqrt(np.maximum(radius**2 - flat, 1.0))
    return out
