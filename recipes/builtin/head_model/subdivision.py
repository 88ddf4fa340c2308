"""Catmull–Clark subdivision as a matrix, so that meshes and displacements are subdivided alike (CAD 10(6), 1978).

Some quads are divided in four, the others keep their corners and are cut into triangles around whatever vertices their
divided neighbours put on their edges: no crack, and few vertices where nothing shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array

from ddfa_batch.schemas.arrays import F64, I64, Bools


@dataclass(frozen=True)
class Subdivided:
    """A triangle mesh made from quads of N vertices."""

    #: (V, N): vertices of the mesh = matrix @ vertices of the quads.
    matrix: csr_array
    #: (T, 3).
    triangles: I64
    #: (T,), which quad each triangle is a part of.
    quad: I64


@dataclass(frozen=True)
class _Edges:
    """The E edges of quads (Q, 4)."""

    #: Their ends (E, 2).
    ends: I64
    #: (Q, 4), the edge from each corner to the next.
    of_quad: I64
    #: (E,), how many quads share it.
    uses: I64


def subdivide(quads: I64, n: int, finer: Bools) -> Subdivided:
    """Quads (Q, 4) of n vertices, those that `finer` (Q,) says divided in four.

    Vertices come in this order: those quads have, in their order; the middles of divided quads; the edges of these.
    """
    edges = _edges(quads, n)
    faces = _averages(quads, n)
    edge_points = _edge_points(edges, faces, quads, n)
    used, split = np.unique(quads), np.unique(edges.of_quad[finer])
    rows = [_vertex_points(edges, faces, quads, n)[used], faces[finer], edge_points[split]]
    total = np.cumsum([0, *(block.shape[0] for block in rows)])
    corner = np.full(n, -1)
    corner[used] = np.arange(len(used))
    middle = np.full(len(quads), -1)
    middle[finer] = total[1] + np.arange(finer.sum())
    half_way = np.full(len(edges.ends), -1)
    half_way[split] = total[2] + np.arange(len(split))
    triangles, of = [], []
    for index in range(len(quads)):
        ring = [(int(corner[v]), int(half_way[e])) for v, e in zip(quads[index], edges.of_quad[index], strict=True)]
        parts = list(_quarters(ring, int(middle[index])) if finer[index] else _fan(ring))
        triangles += parts
        of += [index] * len(parts)
    blocks = [block.tocoo() for block in rows]
    matrix = _stacked(blocks, total, n)
    return Subdivided(matrix, np.array(triangles, np.int64), np.array(of, np.int64))


def _quarters(ring: list[tuple[int, int]], middle: int) -> Iterator[tuple[int, int, int]]:
    """The four quads about a middle, each cut from corner to middle's neighbours."""
    for (corner, ahead), (_, behind) in zip(ring, [ring[-1], *ring[:-1]], strict=True):
        yield corner, ahead, middle
        yield corner, middle, behind


def _fan(ring: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """A quad that is not divided, cut into triangles from the first of its edges' vertices, if it has one."""
    polygon = [(vertex, place) for pair in ring for place, vertex in enumerate(pair) if vertex >= 0]
    start = next((i for i, (_, place) in enumerate(polygon) if place), 0)
    turned = [vertex for vertex, _ in polygon[start:] + polygon[:start]]
    for i in range(1, len(turned) - 1):
        yield turned[0], turned[i], turned[i + 1]


def _stacked(blocks: list[coo_array], total: I64, n: int) -> csr_array:
    rows = np.concatenate([block.coords[0] + start for block, start in zip(blocks, total, strict=False)])
    columns = np.concatenate([block.coords[1] for block in blocks])
    values = np.concatenate([block.data for block in blocks])
    return csr_array((values, (rows, columns)), shape=(int(total[-1]), n))


def _edges(quads: I64, n: int) -> _Edges:
    ends = np.stack([quads, np.roll(quads, -1, axis=1)], axis=2).reshape(-1, 2)
    key = np.sort(ends, axis=1) @ [n, 1]
    keys, of, uses = np.unique(key, return_inverse=True, return_counts=True)
    return _Edges(np.column_stack([keys // n, keys % n]), of.reshape(quads.shape), uses)


def _averages(rows: I64, n: int) -> csr_array:
    """(R, n), the mean of the vertices in each row (R, k)."""
    r, k = rows.shape
    return csr_array((np.full(r * k, 1 / k), (np.repeat(np.arange(r), k), rows.ravel())), shape=(r, n))


def _incidence(rows: I64, columns: I64, shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def _edge_points(edges: _Edges, faces: csr_array, quads: I64, n: int) -> csr_array:
    """(E, n): the mean of ends and of the two faces' middles; of edges on the rim, of the ends alone."""
    middles = _averages(edges.ends, n)
    beside = _incidence(edges.of_quad.ravel(), np.repeat(np.arange(len(quads)), 4), (len(edges.ends), len(quads)))
    inner = edges.uses == 2
    of_ends = np.where(inner, 0.5, 1.0)
    return csr_array(_scaled(middles, of_ends) + _scaled(beside @ faces, np.where(inner, 0.25, 0.0)))


def _vertex_points(edges: _Edges, faces: csr_array, quads: I64, n: int) -> csr_array:
    """(n, n): (F + 2 E + (k − 3) v) / k, F and E the means of k faces' and edges' middles; on the rim a B-spline."""
    around = _incidence(quads.ravel(), np.repeat(np.arange(len(quads)), 4), (n, len(quads)))
    ends = _incidence(edges.ends.ravel(), np.repeat(np.arange(len(edges.ends)), 2), (n, len(edges.ends)))
    rim = edges.uses == 1
    on_rim = np.zeros(n, np.bool_)
    on_rim[edges.ends[rim]] = True
    k = np.maximum(np.asarray(around.sum(axis=1)).ravel(), 1)
    middles = _averages(edges.ends, n)
    one = csr_array((np.ones(n), (np.arange(n), np.arange(n))), shape=(n, n))
    inner = _scaled(around @ faces, 1 / k**2) + _scaled(ends @ middles, 2 / k**2) + _scaled(one, (k - 3) / k)
    spline = _scaled(_scaled_columns(ends, rim.astype(float)) @ middles, np.full(n, 0.25)) + _scaled(
        one, np.full(n, 0.5)
    )
    return csr_array(_scaled(inner, (~on_rim).astype(float)) + _scaled(spline, on_rim.astype(float)))


def _scaled(matrix: csr_array, by: F64) -> csr_array:
    return csr_array(csr_array((by, (np.arange(len(by)), np.arange(len(by))))) @ matrix)


def _scaled_columns(matrix: csr_array, by: F64) -> csr_array:
    return csr_array(matrix @ csr_array((by, (np.arange(len(by)), np.arange(len(by))))))
