"""The part of MakeHuman's body that is the model: face, ears, a rim of scalp and neck, mouth, eyeballs, teeth.

Everything here is a matter of the mean adult head, so that what comes of it is one matrix: it makes the model's
vertices, and their displacements, of those of the base mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.sparse import csr_array, vstack
from scipy.spatial import cKDTree

from ddfa_batch.schemas.arrays import F64, I64, Bools
from ddfa_batch.tasks.geometry import pose
from ddfa_batch.tasks.rendering.rasteriser import rasterise
from recipes.builtin.head_model.source import BaseMesh
from recipes.builtin.head_model.subdivision import Subdivided, subdivide

#: Where the rim runs in the view from the side: a superellipse about (y, z), mm, with radii up, down and back, and its
#: exponent. What lies before it is face.
RIM_CENTRE, RIM_UP, RIM_DOWN, RIM_BACK, RIM_EXPONENT = (-22.0, -30.0), 106.0, 110.0, 80.0, 2.6
#: Vertices this near to the rim, as a share of the way along an edge, are taken to lie on it: no slivers.
_NEAR_RIM = 0.06
#: Quads with longer sides than this are divided, mm, where they are seen and no nearer to the rim than this value of
#: `rim_distance`.
FINE_EDGE, FINE_WITHIN = 3.5, 0.18
#: Views from which quads are looked for that nobody sees, degrees, pixels a millimetre, pixels that count as seen.
_YAWS, _PITCHES, _ZOOM, _LEAST_SEEN = range(-120, 121, 20), range(-60, 61, 20), 4.0, 3
#: Where the skin ends that is looked at, mm below the eyes.
_NECK = -170.0
#: The eyeballs' part behind this, mm behind their middle, is left out.
_BALL_BACK = 4.0
#: A vertex is this near to the mirror image of another, mm.
_SYMMETRIC = 1e-6


@dataclass(frozen=True)
class Region:
    """The model's V vertices and T triangles, made from a base mesh of N vertices."""

    #: (V, N): the model's vertices = matrix @ those of the base mesh.
    matrix: csr_array
    #: (T, 3), counter-clockwise from outside.
    triangles: I64
    #: (V,), which are of the eyeballs, and which of the teeth.
    ball: Bools
    teeth: Bools
    #: (V,), the vertex on the other side of each.
    mirror: I64
    #: (V,), whether each is seen from somewhere while the mouth is shut.
    outside: Bools


def rim_distance(points: F64) -> F64:
    """0 on the rim, 1 in the middle of the face, negative beyond, of points (…, 3), mm; a pure number."""
    y, z = points[..., 1] - RIM_CENTRE[0], np.minimum(points[..., 2] - RIM_CENTRE[1], 0)
    up = np.where(y > 0, y / RIM_UP, -y / RIM_DOWN)
    return np.asarray(1 - up**RIM_EXPONENT - (-z / RIM_BACK) ** RIM_EXPONENT)


def region(base: BaseMesh, head: F64) -> Region:
    """The part that is the model; head (N, 3) is the mean adult head, mm, its origin between the eyes."""
    body = base.quads["body"]
    body = body[head[body][..., 1].min(axis=1) > _NECK]
    hidden = _never_seen(head, body)
    kept = (rim_distance(head)[body] > 0).any(axis=1)
    balls = [_front_of_ball(head, base.quads[name]) for name in ("helper-l-eye", "helper-r-eye")]
    teeth = [base.quads[name] for name in ("helper-upper-teeth", "helper-lower-teeth")]
    parts = [body[kept], *balls, *teeth]
    sides = np.linalg.norm(head[parts[0]] - head[np.roll(parts[0], -1, axis=1)], axis=2).mean(axis=1)
    inner = rim_distance(head[parts[0]].mean(axis=1)) > FINE_WITHIN
    finer = [
        ~hidden[kept] & (sides.round(6) > FINE_EDGE) & inner,
        *(np.full(len(part), i < 2) for i, part in enumerate(parts[1:])),
    ]
    whole = subdivide(np.concatenate(parts), len(head), np.concatenate(finer))
    part_of_quad = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    hidden_quad = np.concatenate([hidden[kept], np.zeros(sum(map(len, parts[1:])), np.bool_)])
    return _finished(whole, head, part_of_quad, hidden_quad)


def _finished(whole: Subdivided, head: F64, part_of_quad: I64, hidden_quad: Bools) -> Region:
    """The subdivided mesh cut at the rim, with what its vertices are."""
    skin = part_of_quad[whole.quad] == 0
    points = whole.matrix @ head
    level = np.where(_vertices_of(whole.triangles[skin], len(points)), rim_distance(points), 1.0)
    matrix, triangles, quad = _cut(whole, level)
    right = (matrix @ head)[triangles][..., 0].mean(axis=1) > 0
    matrix, triangles, mirror = _both_sides(matrix, triangles[right], head)
    quad = np.tile(quad[right], 2)
    part = part_of_quad[quad]
    v = matrix.shape[0]
    ball, teeth = (_vertices_of(triangles[np.isin(part, which)], v) for which in ((1, 2), (3, 4)))
    outside = _vertices_of(triangles[~hidden_quad[quad] & (part == 0)], v)
    return Region(matrix, triangles, ball, teeth, mirror, outside)


def _both_sides(matrix: csr_array, triangles: I64, head: F64) -> tuple[csr_array, I64, I64]:
    """The right half and its mirror image, joined in the middle: matrix, triangles, the vertex opposite each."""
    used, half = np.unique(triangles, return_inverse=True)
    right = csr_array(matrix[used])
    middle = np.abs((right @ head)[:, 0]) < _SYMMETRIC
    left = csr_array(right[~middle][:, _mirror(head)])
    mirror = np.arange(len(used))
    mirror[~middle] = len(used) + np.arange((~middle).sum())
    half = half.reshape(-1, 3)
    both = np.concatenate([half, mirror[half][:, [0, 2, 1]]])
    opposite = np.concatenate([mirror, np.flatnonzero(~middle)])
    return csr_array(vstack([right, left])), both.astype(np.int64), opposite


def _vertices_of(triangles: I64, n: int) -> Bools:
    member = np.zeros(n, np.bool_)
    member[triangles] = True
    return member


def _never_seen(head: F64, quads: I64) -> Bools:
    """Which quads (Q,) no view of the closed face shows: the mouth's inside, the sockets, folds."""
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
    seen = np.zeros(len(quads), np.int64)
    size = round(350 * _ZOOM)
    for yaw, pitch in product(_YAWS, _PITCHES):
        turn = pose.rotation_matrix(np.array([float(yaw)]), np.array([float(pitch)]), np.zeros(1))[0]
        picture = (head @ turn.T * [1, -1, 1] * _ZOOM + [size / 2, size / 2, 0]).astype(np.float32)
        shown = rasterise(picture, triangles, size, size).triangle
        seen += np.bincount(shown[shown >= 0] % len(quads), minlength=len(quads))
    return np.asarray(np.maximum(seen, seen[_mirror(head[quads].mean(axis=1))]) < _LEAST_SEEN)


def _front_of_ball(head: F64, quads: I64) -> I64:
    middle = head[np.unique(quads)].mean(axis=0)
    return np.asarray(quads[head[quads].mean(axis=1)[:, 2] > middle[2] - _BALL_BACK])


def _cut(whole: Subdivided, level: F64) -> tuple[csr_array, I64, I64]:
    """What lies where level (V,) is positive, cut where it is 0: matrix, triangles, the quad of each."""
    level = _snapped(level, whole.triangles)
    rows: list[tuple[int, int, float]] = []
    known: dict[tuple[int, int], int] = {}

    def crossing(a: int, b: int) -> int:
        low, high = min(a, b), max(a, b)
        if (low, high) not in known:
            known[low, high] = len(level) + len(rows)
            rows.append((low, high, level[low] / (level[low] - level[high])))
        return known[low, high]

    triangles, of = [], []
    for triangle, quad in zip(whole.triangles.tolist(), whole.quad, strict=True):
        polygon = list(_clipped(triangle, level, crossing))
        for i in range(1, len(polygon) - 1):
            triangles.append([polygon[0], polygon[i], polygon[i + 1]])
            of.append(quad)
    n = len(level)
    blend = np.zeros((len(rows), 3)) if not rows else np.array(rows)
    r = np.arange(len(rows))
    between = csr_array((blend[:, 2], (r, blend[:, 1].astype(int))), shape=(len(rows), n)) + csr_array(
        (1 - blend[:, 2], (r, blend[:, 0].astype(int))), shape=(len(rows), n)
    )
    everything = csr_array(vstack([whole.matrix, between @ whole.matrix]))
    used, order = np.unique(np.array(triangles), return_inverse=True)
    return csr_array(everything[used]), order.reshape(-1, 3).astype(np.int64), np.array(of, np.int64)


def _snapped(level: F64, triangles: I64) -> F64:
    """Levels with those that are small against their neighbours' set to 0."""
    a, b = triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
    steepest = np.zeros(len(level))
    np.maximum.at(steepest, a, np.abs(level[a] - level[b]))
    np.maximum.at(steepest, b, np.abs(level[a] - level[b]))
    return np.where(np.abs(level) < _NEAR_RIM * steepest, 0.0, level)


def _clipped(triangle: list[int], level: F64, crossing: Callable[[int, int], int]) -> Iterator[int]:
    """The corners of the part of a triangle that has a level of 0 and more; none where no corner has more than 0."""
    if max(level[vertex] for vertex in triangle) <= 0:
        return
    for a, b in zip(triangle, [*triangle[1:], triangle[0]], strict=True):
        if level[a] >= 0:
            yield a
        if level[a] * level[b] < 0:
            yield crossing(a, b)


def _mirror(points: F64) -> I64:
    """The vertex at the mirror image of each; raises `ValueError` where the mesh is not symmetric."""
    found = cKDTree(points).query(points * [-1, 1, 1])
    distance, nearest = np.asarray(found[0]), np.asarray(found[1])
    if distance.max() > _SYMMETRIC or (nearest[nearest] != np.arange(len(points))).any():
        raise ValueError(f"The mesh is not symmetric: a vertex is {distance.max():.3f} mm from its mirror image.")
    return np.asarray(nearest, np.int64)
