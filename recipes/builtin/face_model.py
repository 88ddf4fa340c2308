"""The built-in morphable model: a neutral face designed by hand, ten designed expressions, measured identities.

No vertex of another model is used. The neutral face is a thin-plate spline from a chart (the face unrolled from a
cylinder) through the table of points below, in millimetres, with lips, lids and wings of the nose modelled on top.
Expressions are displacements designed in the chart. Identities are measured: `measure_identities` alternates fits to
labelled landmarks with a principal component analysis of what the fits leave over, and `Template.carry` spreads the
motion of the 68 landmarks over the surface by another thin-plate spline.

Axes: x to the image's right, y up, z to the viewer, millimetres; an adult face, its eyes' outer corners 90 mm apart.
Everything is built for the right half (x ≥ 0) and mirrored, so that mean, topology and UV are symmetric exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.path import Path as Outline
from scipy.interpolate import CubicSpline, RBFInterpolator
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import splu
from scipy.spatial import Delaunay, cKDTree

from ddfa_batch.schemas.arrays import F32, F64, I32, I64, Bools, Floats, check_shape
from ddfa_batch.schemas.morphable import N_LANDMARKS, MorphableModel
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.fitting.fit_basis import FitBasis
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.landmark_fit import fit
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry.reconstruct import image_pose
from ddfa_batch.tasks.training.clips import FLIP68

TOPOLOGY, UNIT = "builtin_v1", "mm"
N_IDENTITIES = 40
#: What each expression mode does at coefficient 1, in order.
EXPRESSIONS = (
    "jaw open", "smile", "lips puckered", "mouth corners down", "upper lip raised", "lower lip lowered",
    "eyes closed", "brows raised", "brows drawn together", "jaw to the left",
)  # fmt: skip

#: The iBUG points of the face's right half in the picture (x ≥ 0) and of its middle, mm; index: (x, y, z).
_LANDMARKS = {
    8: (0, -106.8, -4), 9: (18.7, -103.7, -10), 10: (33.7, -95.6, -27), 11: (46.8, -85.3, -43.5),
    12: (57.5, -73.1, -57), 13: (65.1, -58.7, -69), 14: (69.9, -42.5, -78), 15: (72.7, -21.8, -84), 16: (74.4, -1, -87),
    22: (14.9, 18.1, 6.4), 23: (25.7, 22.1, 3.9), 24: (37.1, 23, -0.1), 25: (47.7, 20.6, -5), 26: (56, 14.3, -8.9),
    27: (0, 2, 7.1), 28: (0, -8.4, 14.8), 29: (0, -18.5, 22.6), 30: (0, -28.7, 31),
    33: (0, -42.7, 18.5), 34: (7.7, -41.7, 16.4), 35: (14.8, -40.4, 13.1),
    42: (17.2, -1.4, 0.1), 43: (25.7, 4.6, -1.7), 44: (36.6, 4.6, -1.6), 45: (45, 0, -6.2), 46: (36.9, -2.7, -1.7),
    47: (27, -2.9, -1.1),
    51: (0, -57, 18.3), 52: (6.3, -56, 17.6), 53: (17.3, -58.5, 11.8), 54: (26.5, -63.6, 3.2), 55: (19.6, -69, 7.4),
    56: (10.9, -72, 11.6), 57: (0, -73.2, 13.8), 62: (0, -63.2, 15.6), 63: (6.6, -63, 14.5), 64: (24.3, -63.4, 3.9),
    65: (7, -63.9, 13.6), 66: (0, -63.9, 14.4),
}  # fmt: skip
#: Where the inner lips and the corners lie in the chart, v in mm: the closed mouth is a slit that is open there.
_SLIT = {62: -61.2, 63: -61.4, 64: -63.5, 65: -65.6, 66: -65.8}
#: Further points of the surface, right half: (x, y, z), and where given the chart's v if it is not y.
_SURFACE: tuple[tuple[float, ...], ...] = (
    (0, 36, 9), (0, 52, 7), (0, 70, -4), (0, 84, -24), (20, 36, 7.5), (22, 54, 4), (22, 74, -9), (40, 42, -2),
    (44, 60, -9), (42, 78, -30), (58, 30, -24), (62, 46, -36), (60, 66, -48), (66, 20, -54), (71, 26, -87),
    (70, 50, -87), (75, 8, -84), (73, -6, -78), (50, -8, -10), (56, -18, -16.5), (44, -22, -2), (36, -16, -1.5),
    (60, -4, -33), (66, -16, -51), (62, -36, -43.5), (52, -38, -12), (40, -38, 1), (46, -56, -9), (56, -54, -33),
    (30, -14, -2.5), (22, -12, 2.2), (16, -8, 3.5), (12, 0, 1.5), (13.5, 8, 3.5), (20, 11.5, 1.2), (31, 13.5, -1.5),
    (42, 11, -6), (50, 3, -12), (31, -7.5, -2.6), (41, -8, -6), (22, -6.5, -1.5), (30, 25.5, 4), (14, 26, 8.6),
    (0, 20, 9.2), (0, 12, 8.2), (7, -4, 7.5), (7.5, -14, 12), (8, -22, 16.5), (6.5, -28.5, 24), (0, -33.5, 29.5),
    (0, -38.5, 23.5), (10.5, -29, 17.5), (15.5, -31, 14.6), (18, -35.5, 12.6), (17.3, -39.5, 10.6), (12, -25, 13),
    (20.5, -30, 5.6), (22.3, -36, 5.2), (20, -42, 6.6), (28, -38, 4.4), (8, -38.5, 17), (9, -36, 21), (5, -34.5, 27),
    (0, -60, 19.4, -59.4), (7, -59.4, 18.8, -58.9), (15, -60.6, 13.9, -60.2), (20.5, -62, 9, -62),
    (0, -68.2, 18, -69.4), (8, -68, 16.8, -69), (16, -67, 12.2, -67.8), (21, -65.4, 8.2, -65.6), (0, -76.3, 11.6),
    (0, -53.6, 17.4), (0, -48, 16.8), (4.5, -48, 17), (12, -48, 13.6), (22, -50, 8.2), (30, -56, 2), (33, -66, -1.5),
    (26, -72, 2.8), (14, -79, 7.5), (0, -80, 9.6), (0, -87, 9.8), (12, -88, 7.5), (0, -95, 9.6), (14, -97, 4.5),
    (26, -84, 0), (38, -74, -9), (0, -110, -18, -116), (0, -114, -45, -134), (16, -106, -24, -114),
    (16, -111, -51, -136), (34, -97, -51, -112), (36, -104, -78, -132), (54, -80, -76.5, -96), (56, -88, -105, -112),
    (66, -52, -90, -62), (70, -28, -99), (0, -114, -69, -150), (32, -108, -102, -150),
)  # fmt: skip
#: Relief on top of the spline: a ridge (mm, outwards) along a polyline of the chart, of a Gaussian section of this
#: standard deviation: (height, width, points). Negative heights are grooves.
_RELIEF: tuple[tuple[float, float, tuple[tuple[float, float], ...]], ...] = (
    (-1.3, 1.3, ((25.2, -31), (26.6, -35), (25.2, -40))),  # where the wing of the nose meets the cheek
    (1.0, 3.0, ((19, -35.5), (18.1, -38))),  # the wing
    (-0.6, 2.6, ((26.6, -43), (32.3, -52), (36.1, -62))),  # nasolabial fold
    (-0.7, 1.4, ((0, -46.5), (0, -53.0))),  # philtrum
    (0.5, 1.3, ((3.4, -47), (4.9, -54.5))),  # its ridge
    (-0.8, 3.0, ((-7.6, -79.5), (0, -80), (7.6, -79.5))),  # below the lower lip
    (1.2, 8.0, ((-5.7, -95), (5.7, -95))),  # chin
    (0.9, 4.0, ((19, 19.5), (32.3, 23), (45.6, 24), (57, 18))),  # brow
    (0.9, 1.7, ((0, -59.2), (6.6, -59.0), (16.1, -60.4), (23.8, -62.3))),  # upper lip
    (1.5, 2.3, ((0, -69.4), (9.5, -69.0), (18.1, -67.2), (23.8, -65.2))),  # lower lip
    (-2.2, 1.1, ((5.2, -40.2), (9, -39.8))),  # nostril
)

#: Eyeball of the right half: centre and radius, mm; lids lie this much farther out.
_EYE, _BALL, _LID = np.array([31.2, 0.8, -13.4]), 12.6, 0.9
#: The cylinder that is unrolled: u = radius · angle about the axis x = 0, z = −depth.
_CYLINDER_RADIUS, _CYLINDER_DEPTH = 100.0, 87.0
#: The part of the chart that is surface: |u| and v, mm.
_SIDE, _TOP, _BOTTOM = 165.0, 92.0, -150.0
#: Temporomandibular joint: the axis (y, z) about which the jaw opens, and by how many degrees at coefficient 1.
_JOINT, _JAW_DEGREES = np.array([-12.0, -84.0]), 17.0
#: How far inside the mouth its bag reaches, mm.
_BAG_DEPTH = 9.0
#: How much deeper the bag is when the jaw is open, mm.
_OPEN_BAG = 16.0
#: How far the spline may pass its points by, for smoothness' sake (scipy's `smoothing`).
_CHART_SMOOTHING = 0.15
#: A label farther than this from its fitted point, mm, is a fault of the label.
_LONGEST_LIFT = 12.0
#: Faces are nearly symmetric; what labels of turned heads show of asymmetry is mostly turn, and is believed by this
#: share.
_ASYMMETRY = 0.4
#: Labels are taken to scatter by this share of the face's size at least: no mode is spent on their noise.
_LABEL_NOISE = 0.012
#: Estimates shrink towards their prior; an expression's deviation is not let shrink with them below this.
_LEAST_EXPRESSION = 0.3


def chart_of(points: Floats) -> F64:
    """Positions (N, 2) in the chart, mm, of points (N, 3) of the face."""
    p = np.atleast_2d(np.asarray(points, np.float64))
    return np.column_stack([_CYLINDER_RADIUS * np.arctan2(p[:, 0], p[:, 2] + _CYLINDER_DEPTH), p[:, 1]])


def landmark_table() -> tuple[F64, F64]:
    """The 68 designed points (68, 3), mm, and where they lie in the chart (68, 2)."""
    points = np.zeros((N_LANDMARKS, 3))
    for index, point in _LANDMARKS.items():
        points[index] = point
        points[FLIP68[index]] = np.array(point) * [-1, 1, 1]
    for index in (42, 43, 44, 45, 46, 47):  # lids lie on the eyeball
        x, y = points[index, :2] - _EYE[:2]
        outer = (_BALL + _LID) ** 2
        if np.hypot(x, y) < 12:
            points[index, 2] = _EYE[2] + np.sqrt(max(outer - x * x - y * y, 0.06 * outer))
        points[FLIP68[index]] = points[index] * [-1, 1, 1]
    places = chart_of(points)
    for index, v in _SLIT.items():
        places[index, 1] = places[FLIP68[index], 1] = v
    return points, places


@dataclass(frozen=True)
class Template:
    """The neutral face as a mesh of V vertices.

    vertices (V, 3), mm; chart (V, 2), mm; triangles (T, 3), counter-clockwise from outside; landmarks (68,); mirror
    (V,): the vertex on the other side of each; ball (V,): vertices of the eyeballs; bag (V,): of the mouth's inside.
    """

    vertices: F64
    chart: F64
    triangles: I32
    landmarks: I64
    mirror: I64
    ball: Bools
    bag: Bools

    @property
    def uv(self) -> F32:
        """Texture coordinates (V, 2) in [0, 1], v down: the chart, scaled."""
        u = 0.5 + self.chart[:, 0] / (2 * _SIDE)
        v = (_TOP - self.chart[:, 1]) / (_TOP - _BOTTOM)
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
    rows = _feature_rows(places)
    half = _half_chart(places, rows, np.random.default_rng(seed))
    off = half[:, 0] > 1e-6
    chart = np.vstack([half, half[off] * [-1, 1]])
    right = np.flatnonzero(off)
    mirror = np.arange(len(chart))
    mirror[right], mirror[len(half) :] = len(half) + np.arange(len(right)), right
    triangles = _triangles(half)
    triangles = np.vstack([triangles, mirror[triangles][:, [0, 2, 1]]])
    landmarks = np.array([np.argmin(np.linalg.norm(chart - place, axis=1)) for place in places])
    vertices = surface(chart)
    vertices += _relief(chart)[:, None] * _outwards(surface, chart)
    ball = _within(rows["eye"], _on_the_right(chart))
    bag = _within(_slit_outline(rows), chart)
    vertices[ball] = _on_ball(vertices[ball], _BALL)
    vertices[bag, 2] -= _BAG_DEPTH
    vertices[bag, 1] = -63.6 + 0.25 * (vertices[bag, 1] + 63.6)
    flipped = vertices[mirror] * [-1, 1, 1]
    return Template((vertices + flipped) / 2, chart, triangles.astype(np.int32), landmarks, mirror, ball, bag)


def _surface(points: F64, places: F64) -> Callable[[F64], F64]:
    known, where = list(points), list(places)
    for entry in _SURFACE:
        point = np.array(entry[:3])
        place = chart_of(point)[0]
        if len(entry) > 3:
            place[1] = entry[3]
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


def _on_the_right(chart: F64) -> F64:
    """Positions (N, 2) of the chart with those of the left half mirrored."""
    return chart * np.where(chart[:, :1] < 0, [-1, 1], [1, 1])


def _relief(chart: F64) -> F64:
    right = _on_the_right(chart)
    height = np.zeros(len(chart))
    for peak, width, line in _RELIEF:
        height += peak * np.exp(-0.5 * (_distance(right, np.array(line)) / width) ** 2)
    return height


def _distance(points: F64, line: F64) -> F64:
    """Distance (N,) of points (N, 2) from a polyline (M, 2)."""
    nearest = np.full(len(points), np.inf)
    for a, b in pairwise(line):
        along = np.clip((points - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - a - along[:, None] * (b - a), axis=1))
    return nearest


def _within(outline: F64, points: F64, margin: float = 0.1) -> Bools:
    """Which points (N, 2) lie inside a closed outline (M, 2) and not on it."""
    closed = np.vstack([outline, outline[:1]])
    return np.asarray(Outline(closed).contains_points(points) & (_distance(points, closed) > margin))


def _on_ball(points: F64, radius: float) -> F64:
    """Points moved in z to the eyeball's front."""
    out = points.copy()
    side = np.sign(out[:, 0])
    flat = (out[:, 0] - side * _EYE[0]) ** 2 + (out[:, 1] - _EYE[1]) ** 2
    out[:, 2] = _EYE[2] + np.sqrt(np.maximum(radius**2 - flat, 1.0))
    return out


# ---- the mesh: rows of vertices along lids and lips, and a smooth filling between them


def _through(points: F64, n: int) -> F64:
    """n positions along a smooth curve through points (M, 2), ends included."""
    return np.asarray(CubicSpline(np.arange(len(points)), points)(np.linspace(0, len(points) - 1, n)))


def _feature_rows(places: F64, n: int = 21) -> dict[str, F64]:
    """The rows of vertices around eye and mouth, right half, by name; `eye` is its outline (36, 2)."""
    upper, lower = _through(places[[42, 43, 44, 45]], 19), _through(places[[45, 46, 47, 42]], 19)
    eye = np.vstack([upper[:-1], lower[:-1]])
    centre = eye.mean(axis=0)
    rows = {"eye": eye}
    for scale in ([1.1, 1.14], [1.2, 1.3], [1.3, 1.55], [1.42, 1.85]):
        rows[f"eye {scale}"] = centre + (eye - centre) * scale
    inner_up, inner_low = _through(places[[62, 63, 64]], n), _through(places[[66, 65, 64]], n)
    outer_up, outer_low = _through(places[[51, 52, 53, 54]], n), _through(places[[57, 56, 55, 54]], n)
    rows |= {"inner up": inner_up, "inner low": inner_low, "outer up": outer_up, "outer low": outer_low}  # fmt: skip
    for share in (0.25, 0.5, 0.75):
        rows[f"bag {share}"] = (inner_up * share + inner_low * (1 - share))[:-1]
        rows[f"upper lip {share}"] = outer_up * share + inner_up * (1 - share)
        rows[f"lower lip {share}"] = outer_low * share + inner_low * (1 - share)
    for wider, away in ((1.04, 1.9), (1.08, 4.0)):
        rows[f"above {away}"] = outer_up * [wider, 1] + [0, away]
        rows[f"below {away}"] = outer_low * [wider, 1] - [0, away * 1.1]
    return rows


def _slit_outline(rows: dict[str, F64]) -> F64:
    right = np.vstack([rows["inner up"], rows["inner low"][::-1][1:]])
    return np.vstack([right, right[::-1] * [-1, 1]])


def _spacing(chart: F64, eye: F64) -> F64:
    """Wanted distance (N,) of vertices, mm: fine about eyes, nose and mouth."""

    def beyond(centre: Sequence[float] | F64, stretch: Sequence[float], radius: float) -> F64:
        offset = (chart - np.asarray(centre)) / np.asarray(stretch)
        return np.asarray(np.maximum(np.linalg.norm(offset, axis=1) - radius, 0))

    near = np.minimum.reduce(
        [beyond(eye, (1.5, 1.1), 8), beyond((0, -64), (1.7, 0.9), 12), beyond((0, -32), (1.1, 1.3), 14)]
    )
    return np.asarray(np.clip(1.35 + 0.075 * near, 1.35, 4.2))


def _inside(chart: F64) -> Bools:
    """Which positions (N,) belong to the face."""
    u = np.abs(chart[:, 0]) / _SIDE
    inside = np.clip(u, 0, 1)
    top, bottom = _outline(inside)
    return np.asarray((u <= 1) & (chart[:, 1] <= top) & (chart[:, 1] >= bottom))


def _outline(u: F64) -> tuple[F64, F64]:
    """The chart's v at the upper and at the lower edge of the face, at u (N,) as a share of its side."""
    return _TOP - 40 * u**4, _BOTTOM + 70 * u**2.2


def _edge(apart: float) -> F64:
    """Positions (N, 2) along the edge of the right half, from its middle above to its middle below."""
    u = np.linspace(0, 1, 2000)
    top, bottom = _outline(u)
    side = np.linspace(top[-1], bottom[-1], 1000)[1:-1]
    line = np.vstack([np.column_stack([u * _SIDE, top]), np.column_stack([np.full(998, _SIDE), side]),
                      np.column_stack([u * _SIDE, bottom])[::-1]])  # fmt: skip
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.linspace(0, along[-1], round(along[-1] / apart) + 1)
    return np.column_stack([np.interp(at, along, line[:, i]) for i in range(2)])


def _half_chart(places: F64, rows: dict[str, F64], rng: np.random.Generator) -> F64:
    """The right half's vertices in the chart (N, 2): landmarks, rows, the middle line, a Poisson-disc filling."""
    eye = rows["eye"].mean(axis=0)
    points = places[places[:, 0] > -1e-6]
    for place in np.vstack(list(rows.values())):
        if place[0] > -1e-6 and np.linalg.norm(points - place, axis=1).min() > 0.55:
            points = np.vstack([points, np.maximum(place, [0, -np.inf])])
    line = np.column_stack([np.zeros(400), np.linspace(_BOTTOM, _TOP, 400)])
    line = line[cKDTree(points).query(line)[0] > 0.9]
    chosen = [line[0]]
    for place in line[1:]:
        if np.linalg.norm(place - chosen[-1]) > 0.9 * _spacing(place[None], eye)[0]:
            chosen.append(place)
    edge = _edge(3.6)
    chosen = [place for place in chosen if np.linalg.norm(edge - place, axis=1).min() > 2]
    points = np.vstack([points, chosen, edge])
    fixed = len(points)
    wide = np.vstack([rows["above 4.0"] + [0, 0.4], (rows["below 4.0"] - [0, 0.4])[::-1]])
    seeds = np.column_stack([rng.uniform(0.8, _SIDE, 90_000), rng.uniform(_BOTTOM, _TOP, 90_000)])
    seeds = seeds[_inside(seeds) & ~Outline(wide).contains_points(seeds)]
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
        free &= _inside(points * 1.02)
        middle = (total / np.maximum(count, 1)[:, None])[: len(points)]
        points = np.where(free[:, None], (points + middle) / 2, points)
        points[fixed:, 0] = np.maximum(points[fixed:, 0], 0.5)
    return points


def _triangles(half: F64) -> I64:
    """Delaunay triangles (T, 3) of the right half, counter-clockwise in the chart, none outside the face."""
    triangles = np.asarray(Delaunay(half).simplices, np.int64)
    a, b, c = (half[triangles[:, i]] for i in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    triangles[area < 0] = triangles[area < 0][:, [0, 2, 1]]
    longest = np.max([np.linalg.norm(p - q, axis=1) for p, q in ((a, b), (b, c), (c, a))], axis=0)
    used = _inside((a + b + c) / 3 * [0.9999, 1]) & (np.abs(area) > 2e-3) & (longest < 14)
    return triangles[used]


# ---- expressions: handles that move, and the smoothest field over the surface that follows them

_Handles = dict[int, tuple[float, float, float]]
#: Displacements of landmarks of the right half and the middle at coefficient 1, mm, by expression.
_MOVES: dict[str, _Handles] = {
    "smile": {
        54: (6, 5.5, -4.5), 64: (6, 5.5, -4.5), 53: (3, 2.6, -2.2), 55: (3.6, 3.2, -2.6), 52: (1, 0.7, -1.2),
        56: (1.3, 0.9, -1.3), 51: (0, 0.4, -1.2), 57: (0, 0.4, -1.2), 62: (0, 0.4, -1.2), 63: (1.5, 1, -1.2),
        65: (1.5, 1.2, -1.2), 66: (0, 0.5, -1.2), 35: (1.2, 0.6, 0), 46: (0, 0.8, 0.2), 47: (0, 0.7, 0.2),
    },
    "lips puckered": {
        54: (-9, 0, 5), 64: (-8.5, 0, 5), 53: (-6, 0.5, 5.5), 52: (-2, 1, 6.2), 51: (0, 0.8, 6.5), 55: (-6.5, -0.5, 6),
        56: (-3, -1, 6.8), 57: (0, -1, 7), 62: (0, 1.2, 5.2), 63: (-2, 1, 5.2), 65: (-2, -1, 5.6), 66: (0, -1.2, 5.6),
    },
    "mouth corners down": {
        54: (1, -6, -1), 64: (1, -6, -1), 53: (0.5, -2, -0.5), 55: (0.6, -3.6, -0.6), 63: (0, -0.7, 0),
        65: (0, -0.9, 0), 51: (0, 0, 0), 52: (0, -0.4, 0), 56: (0.2, -1, 0), 57: (0, 0.3, 0.3), 62: (0, 0, 0),
        66: (0, 0, 0),
    },
    "upper lip raised": {
        51: (0, 3.4, 0.8), 52: (0, 3.9, 0.8), 53: (0.2, 3, 0.3), 62: (0, 4, 1), 63: (0, 4, 1), 54: (0, 0.3, 0),
        64: (0, 0.3, 0), 33: (0, 0.8, 0), 34: (0.4, 0.9, -0.1), 35: (1, 1.2, -0.3), 55: (0, 0, 0), 56: (0, 0, 0),
        57: (0, 0, 0), 65: (0, 0, 0), 66: (0, 0, 0),
    },
    "lower lip lowered": {
        57: (0, -4, 0), 56: (0.3, -3.8, 0), 55: (0.5, -2.4, 0), 66: (0, -4.5, 0.8), 65: (0.2, -4.3, 0.8),
        54: (0.3, -0.6, 0), 64: (0.3, -0.6, 0), 51: (0, 0, 0), 52: (0, 0, 0), 53: (0, 0, 0), 62: (0, 0, 0),
        63: (0, 0, 0),
    },
    "brows raised": {
        22: (0, 5.5, 0.3), 23: (0, 6.3, 0.3), 24: (0.2, 6.4, 0), 25: (0.3, 5.5, -0.3), 26: (0.3, 3.6, -0.3),
        27: (0, 0.6, 0), 43: (0, 0.7, -0.1), 44: (0, 0.7, -0.1),
    },
    "brows drawn together": {
        22: (-3, -3.5, 1.2), 23: (-2.5, -3, 1), 24: (-1.5, -2.2, 0.6), 25: (-0.8, -1, 0.2), 26: (0, -0.2, 0),
        27: (0, -0.6, 0.5), 43: (-0.2, -0.7, 0.1), 44: (0, -0.5, 0.1),
    },
}  # fmt: skip
#: Further handles at positions of the chart: (u, v): displacement.
_CHEEKS: dict[str, dict[tuple[float, float], tuple[float, float, float]]] = {
    "smile": {(49.4, -42): (1.5, 3.6, 2.2), (57, -58): (2.5, 2, -0.5), (0, -88): (0, 0.3, -0.3)},
    "mouth corners down": {(0, -87): (0, 1, 0.8), (32.3, -76): (0.6, -2.5, 0)},
    "upper lip raised": {(31.3, -46): (0.4, 2.6, 1)},
    "brows raised": {(20.9, 56): (0, 2.6, 0), (45.6, 48): (0, 2.4, 0), (0, 44): (0, 2, 0), (0, 76): (0, 0.8, 0)},
    "brows drawn together": {(0, 18): (0, -2, 1)},
}
#: How far a point of the lower face goes with the jaw, by landmark of the right half or the middle.
_JAW = {
    8: 1.0, 9: 1.0, 10: 1.0, 11: 1.0, 12: 0.95, 13: 0.78, 14: 0.42, 15: 0.14, 16: 0.0, 55: 0.9, 56: 0.97, 57: 1.0,
    65: 0.95, 66: 1.0, 54: 0.44, 64: 0.44, 51: 0.0, 52: 0.0, 53: 0.1, 62: 0.0, 63: 0.02, 33: 0.0, 34: 0.0, 35: 0.0,
}  # fmt: skip


def expressions(template: Template) -> F64:
    """The modes of `EXPRESSIONS` (10, V, 3): displacement of every vertex at coefficient 1, mm."""
    spread = _Spread(template)
    jaw = spread(_both_sides(template, {k: (w, 0.0, 0.0) for k, w in _JAW.items()}, mirrored=False), _still(template))
    share = np.clip(jaw[:, :1], 0, 1.05)
    modes = {name: spread(_handles(template, name), _still(template)) for name in _MOVES}
    modes["jaw open"] = share * _opened(template.vertices)
    modes["jaw open"][template.bag, 2] -= _OPEN_BAG
    modes["jaw to the left"] = share * [6.0, 0.0, 0.0]
    modes["eyes closed"] = _closed_eyes(template, spread)
    out = np.stack([modes[name] for name in EXPRESSIONS])
    out[:, template.ball] = 0.0
    return out


def _opened(vertices: F64) -> F64:
    angle = np.radians(_JAW_DEGREES)
    y, z = vertices[:, 1] - _JOINT[0], vertices[:, 2] - _JOINT[1]
    turned = np.column_stack([y * np.cos(angle) - z * np.sin(angle), y * np.sin(angle) + z * np.cos(angle)])
    return np.column_stack([np.zeros(len(y)), turned - np.column_stack([y, z])])


def _both_sides(template: Template, moves: _Handles, mirrored: bool = True) -> dict[int, F64]:
    """Displacements by vertex, of landmarks and of their mirror images."""
    found = {}
    for index, move in moves.items():
        vertex = int(template.landmarks[index])
        found[int(template.mirror[vertex])] = np.array(move) * ([-1, 1, 1] if mirrored else [1, 1, 1])
        found[vertex] = np.array(move, np.float64)
    return found


def _handles(template: Template, name: str) -> dict[int, F64]:
    found = _both_sides(template, _MOVES[name])
    for place, move in _CHEEKS.get(name, {}).items():
        vertex = int(np.argmin(np.linalg.norm(template.chart - place, axis=1)))
        found[int(template.mirror[vertex])] = np.array(move) * [-1, 1, 1]
        found[vertex] = np.array(move, np.float64)
    return found


def _still(template: Template) -> I64:
    """Vertices that no expression moves unless it says so: edges, eyes, brows, nose, jaw."""
    edge = _edge_vertices(template.triangles)
    upper = edge[template.chart[edge, 1] > -40]
    marks = template.landmarks[[*range(17), *range(17, 48)]]
    return np.unique(np.concatenate([upper, marks, np.flatnonzero(template.ball)]))


def _edge_vertices(triangles: I32) -> I64:
    sides = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    pairs, count = np.unique(sides, axis=0, return_counts=True)
    return np.unique(pairs[count == 1]).astype(np.int64)


class _Spread:
    """Biharmonic fields over the chart: the smoothest that take given values at given vertices."""

    def __init__(self, template: Template) -> None:
        n = len(template.chart)
        rows, columns, values, area = [], [], [], np.zeros(n)
        for i in range(3):
            a, b, c = (template.triangles[:, (i + k) % 3] for k in range(3))
            p, q = template.chart[b] - template.chart[a], template.chart[c] - template.chart[a]
            cross = np.abs(p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0])
            cotangent = (p * q).sum(axis=1) / np.maximum(cross, 1e-3) / 2
            for row, column in ((b, c), (c, b)):
                rows += [row, row]
                columns += [column, row]
                values += [-cotangent, cotangent]
            np.add.at(area, a, cross / 6)
        stiffness = csr_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(n, n))
        self._energy = (stiffness @ diags_array(1 / np.maximum(area, 1e-3)) @ stiffness).tocsr()

    def __call__(self, handles: dict[int, F64], still: I64) -> F64:
        """Field (V, 3) with these values (3,) at the handles and 0 at the vertices `still` that are no handles."""
        n = self._energy.shape[0]
        field, known = np.zeros((n, 3)), np.zeros(n, bool)
        known[still] = True
        for vertex, value in handles.items():
            field[vertex], known[vertex] = value, True
        free = np.flatnonzero(~known)
        system = self._energy[free][:, free].tocsc()
        right = -(self._energy[free][:, np.flatnonzero(known)] @ field[known])
        field[free] = splu(system).solve(right)
        return field


def _closed_eyes(template: Template, spread: _Spread) -> F64:
    """Both lids meet near the lower one, sliding over the eyeball."""
    points, chart = template.vertices, template.chart
    eye = _feature_rows(chart[template.landmarks])["eye"]
    centre = eye.mean(axis=0)
    right = _on_the_right(chart)
    lower, upper = eye[18:], eye[:19]
    line_low = np.interp(right[:, 0], lower[::-1, 0], lower[::-1, 1])
    line_up = np.interp(right[:, 0], upper[:, 0], upper[:, 1])
    meet = line_low + 0.15 * (line_up - line_low)
    ring = np.min(np.linalg.norm(right[:, None] - eye[None], axis=2), axis=1) < 0.4
    moved = np.zeros_like(points)
    moved[ring, 1] = (meet - right[:, 1])[ring]
    handles = {int(v): moved[v] for v in np.flatnonzero(ring)}
    # the fold above the lid stays, the lid's skin follows in part
    around = np.linalg.norm((right - centre) / [20.0, 13.5], axis=1)
    still = np.flatnonzero((around > 1) | template.ball)
    field = spread(handles, np.setdiff1d(still, list(handles)))
    lid = (around < 1) & ~template.ball
    target = points[lid] + field[lid]
    side = np.sign(target[:, 0])
    flat = (target[:, 0] - side * _EYE[0]) ** 2 + (target[:, 1] - _EYE[1]) ** 2
    front = _EYE[2] + np.sqrt(np.maximum((_BALL + _LID) ** 2 - flat, 0))
    over = (flat < (_BALL + _LID) ** 2 * 0.9) & (front > target[:, 2])
    field[np.flatnonzero(lid)[over], 2] += (front - target[:, 2])[over]
    return field


# ---- identities: what labelled photographs say of the 68 points


@dataclass(frozen=True)
class Measured:
    """Statistics of labelled faces: offset (68, 3), mm, of their mean from the designed neutral face, symmetric; moves
    (M, 68, 3), mm, one standard deviation of each identity mode, strongest first, each symmetric or antisymmetric;
    prior of the coefficients, identities first; residual of the fits, share of the face's size."""

    offset: F64
    moves: F64
    prior: Prior
    residual: float


def measure_identities(
    landmarks: Floats, weights: Floats, neutral: Floats, actions: Floats, count: int = N_IDENTITIES, rounds: int = 8
) -> Measured:
    """Identity modes of the 68 points from labelled faces (N, 68, 2), pixels, NaN or weight 0 where unlabelled.

    Non-rigid structure from motion that starts from a designed mean: faces are fitted with the modes found so far, what
    the fits leave over is lifted into each face's own frame, and a principal component analysis of modes and remainder
    gives the next modes. neutral (68, 3) and actions (10, 68, 3), the expressions, in mm. Every face is seen as it is
    and mirrored.
    """
    x = np.where((np.asarray(weights) > 0)[..., None], np.asarray(landmarks, np.float64)[..., :2], np.nan)
    flipped = x[:, FLIP68] * [-1, 1]
    x = np.concatenate([x, flipped])
    offset, moves = np.zeros((N_LANDMARKS, 3)), np.zeros((0, N_LANDMARKS, 3))
    prior = Prior(np.full(len(actions), 0.1), np.full(len(actions), 0.3))
    residual = np.nan
    for step in range(rounds):
        model = _points_model(np.asarray(neutral) + offset, moves, actions)
        found = fit(x, model, prior, config=FitConfig(noise_floor=_LABEL_NOISE, noise_ceiling=0.03))
        fine = found.converged
        residual = float(found.residual[fine].mean())
        T = image_pose(
            found.params[fine, :N_POSE].reshape(-1, 3, 4).astype(np.float64), found.rois[fine], FitConfig().size
        )
        seen = np.isfinite(x[fine]).all(axis=2) * (found.weights[fine] > 0)
        alpha = found.params[fine, N_POSE:].astype(np.float64)
        points = FitBasis.landmarks68(model)
        left = np.nan_to_num(x[fine]) - _projected(points, alpha, T)
        scale = np.linalg.norm(T[:, 0, :3], axis=1)
        lifted = np.einsum("nac,nla->nlc", T[:, :2, :3] / scale[:, None, None] ** 2, left * seen[..., None])
        lifted *= np.minimum(1, _LONGEST_LIFT / np.maximum(np.linalg.norm(lifted, axis=2, keepdims=True), 1e-9))
        own = np.tensordot(alpha[:, : len(moves)], moves, axes=1)
        wanted = min(count, round(count * (step + 1) / (rounds - 2)))
        shift, moves = _principal(_of_identity(own + lifted, np.asarray(actions)), wanted)
        offset = offset + shift
        expression = alpha[:, -len(actions) :]
        prior = Prior(
            np.concatenate([np.zeros(len(moves)), expression.mean(axis=0)]),
            np.concatenate([np.ones(len(moves)), np.maximum(expression.std(axis=0), _LEAST_EXPRESSION)]),
        )
    return Measured(offset, moves, prior, residual)


def _points_model(neutral: Floats, moves: Floats, actions: Floats) -> MorphableModel:
    """A model of the 68 points alone."""
    basis = np.concatenate([moves, actions]).astype(np.float32)
    order = np.arange(N_LANDMARKS, dtype=np.int32)
    return MorphableModel(np.asarray(neutral, np.float32), basis, len(moves), order[None, :3], order, TOPOLOGY, UNIT)


def _projected(points: FitBasis, alpha: F64, T: F64) -> F64:
    shapes = points.mean + np.tensordot(alpha, points.basis, axes=1)
    return np.asarray(np.einsum("nac,nlc->nla", T[:, :2, :3], shapes) + T[:, None, :2, 3])


def _of_identity(shapes: F64, actions: F64) -> F64:
    """Displacements (N, 68, 3) without what expressions (10, 68, 3) can do, and with lids that keep to their eyeball.

    A photograph does not tell a wide mouth from a smile: whatever an expression explains is left to it.
    """
    q, _ = np.linalg.qr(actions.reshape(len(actions), -1).T)
    flat = shapes.reshape(len(shapes), -1)
    shapes = (flat - flat @ q @ q.T).reshape(shapes.shape)
    for lids in (slice(36, 42), slice(42, 48)):
        shapes[:, lids, 2] = shapes[:, lids, 2].mean(axis=1, keepdims=True)
    return shapes


def _principal(shapes: F64, count: int) -> tuple[F64, F64]:
    """Mean (68, 3) and strongest modes (count, 68, 3) of displacements (N, 68, 3), each as long as one deviation.

    Rigid motion and scale belong to the pose: their share is taken out first. Symmetric and antisymmetric displacements
    are analysed apart.
    """
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    mean = shapes.mean(axis=0)
    mean = (mean + mean[FLIP68] * [-1, 1, 1]) / 2
    shapes = shapes - mean
    mirrored = shapes[:, FLIP68] * [-1, 1, 1]
    modes, strengths = [], []
    for part in ((shapes + mirrored) / 2, _ASYMMETRY * (shapes - mirrored) / 2):
        flat = part.reshape(len(part), -1)
        values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
        modes.append((vectors * np.sqrt(np.maximum(values, 0))).T.reshape(-1, N_LANDMARKS, 3))
        strengths.append(values)
    order = np.argsort(-np.concatenate(strengths))[:count]
    return mean, np.concatenate(modes)[order]


def build(measured: Measured, template: Template | None = None) -> MorphableModel:
    """The built-in model: neutral face, 40 measured identities carried to the surface, 10 designed expressions."""
    face = template or build_template()
    neutral = face.vertices + face.carry(measured.offset[None])[0]
    neutral = (neutral + neutral[face.mirror] * [-1, 1, 1]) / 2
    identities = face.carry(measured.moves)
    mirrored = identities[:, face.mirror] * [-1, 1, 1]
    sign = np.sign((identities * mirrored).sum(axis=(1, 2)))[:, None, None]
    identities = (identities + sign * mirrored) / 2
    basis = np.concatenate([identities, expressions(face)])
    return MorphableModel(
        neutral.astype(np.float32), basis.astype(np.float32), len(identities), face.triangles,
        face.landmarks.astype(np.int32), TOPOLOGY, UNIT, uv=face.uv, ncc=_position_colours(neutral),
    )  # fmt: skip


def _position_colours(vertices: F64) -> F32:
    """Normalised coordinate code (V, 3): every axis of the neutral face scaled to [0, 1] (Zhu et al., 2016)."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return ((vertices - low) / (high - low)).astype(np.float32)
