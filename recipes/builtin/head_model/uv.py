"""Texture coordinates: the skin laid flat, eyeballs and teeth beside it."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from ddfa_batch.schemas.arrays import F32, F64, I64
from recipes.builtin.head_model.region import Region

#: Axes of the ellipse that the rim becomes, in a square of side 1.
_ELLIPSE = (0.49, 0.49)
#: Half the side of the boxes in the square's corners: eyeballs below, rows of teeth above.
_EYE = 0.055


def texture_coordinates(region: Region, points: F64) -> F32:
    """(V, 2) in [0, 1], v down, of the mean head (V, 3), symmetric; no two triangles of the skin overlap."""
    uv = np.zeros((len(points), 2))
    skin = ~(region.ball | region.teeth)
    uv[skin] = 0.5 + _flattened(region, points, skin)[skin] * [1, -1]
    right = points[:, 0] > 0
    for side, where in ((1, right), (-1, ~right)):
        ball = region.ball & where
        uv[ball] = _boxed(points[ball, :2] * [1, -1], (0.5 + side * (0.5 - _EYE - 0.005), 1 - _EYE - 0.005), _EYE)
    for place, row in enumerate(_rows_of_teeth(region)):
        uv[row] = _boxed(points[row][:, [0, 2]], (0.06 + 0.88 * place, 0.06), _EYE)
    return np.clip(uv, 0, 1).astype(np.float32)


def _rows_of_teeth(region: Region) -> list[I64]:
    """The vertices of each row of teeth."""
    n = len(region.teeth)
    triangles = region.triangles[region.teeth[region.triangles].all(axis=1)]
    edges = coo_array(
        (np.ones(triangles.size), (triangles.ravel(), np.roll(triangles, 1, axis=1).ravel())), shape=(n, n)
    )
    labels = connected_components(edges, directed=False)[1]
    return [np.flatnonzero(labels == label) for label in np.unique(labels[region.teeth])]


def _boxed(flat: F64, centre: tuple[float, float], radius: float) -> F64:
    """Positions (N, 2) moved and scaled alike into a square about a centre."""
    low, high = flat.min(axis=0), flat.max(axis=0)
    return np.asarray((flat - (low + high) / 2) * (2 * radius / (high - low).max()) + centre)


def _flattened(region: Region, points: F64, skin: np.ndarray) -> F64:
    """The skin as a net of springs in the plane, its rim nailed to an ellipse (Tutte, 1963; Floater's mean values)."""
    n = len(points)
    triangles = region.triangles[skin[region.triangles].all(axis=1)]
    weights = _mean_values(points, triangles, n)
    rim = _rim(triangles)
    # begin above at the middle
    start = int(np.argmax(points[rim, 1] - np.abs(points[rim, 0]) * 10))
    rim = np.roll(rim, -start)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points[np.append(rim, rim[0])], axis=0), axis=1))])
    angle = 2 * np.pi * along[:-1] / along[-1]
    flat = np.zeros((n, 2))
    turn = -1.0 if points[rim[1], 0] < points[rim[0], 0] else 1.0
    flat[rim] = np.column_stack([turn * np.sin(angle) * _ELLIPSE[0], np.cos(angle) * _ELLIPSE[1]])
    inner = np.setdiff1d(np.unique(triangles), rim)
    total = np.asarray(weights.sum(axis=1)).ravel()
    laplacian = csr_array(diags_array(total) - weights)
    solver = splu(laplacian[inner][:, inner].tocsc())
    flat[inner] = solver.solve(-(laplacian[inner][:, rim] @ flat[rim]))
    return np.asarray((flat + flat[region.mirror] * [-1, 1]) / 2)


def _mean_values(points: F64, triangles: I64, n: int) -> csr_array:
    """Mean value weights (n, n): Σ tan(angle/2) / length over the two triangles beside an edge."""
    rows, columns, values = [], [], []
    for i in range(3):
        a, b, c = (triangles[:, (i + k) % 3] for k in range(3))
        ab, ac = points[b] - points[a], points[c] - points[a]
        lb, lc = np.linalg.norm(ab, axis=1), np.linalg.norm(ac, axis=1)
        cosine = np.clip((ab * ac).sum(axis=1) / np.maximum(lb * lc, 1e-12), -0.999, 1)
        half = np.sqrt((1 - cosine) / (1 + cosine))
        rows += [a, a]
        columns += [b, c]
        values += [half / np.maximum(lb, 1e-6), half / np.maximum(lc, 1e-6)]
    out = coo_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(n, n))
    return csr_array(out)


def _rim(triangles: I64) -> I64:
    """The longest closed path of edges that one triangle has, in order."""
    edges = np.stack([triangles, np.roll(triangles, -1, axis=1)], axis=2).reshape(-1, 2)
    directed = set(map(tuple, edges.tolist()))
    ahead = {a: b for a, b in directed if (b, a) not in directed}
    longest: list[int] = []
    while ahead:
        loop = [next(iter(ahead))]
        while loop[-1] in ahead:
            loop.append(ahead.pop(loop[-1]))
        longest = max(longest, loop[:-1], key=len)
    return np.array(longest, np.int64)
