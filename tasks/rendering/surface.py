"""A face's mesh as face profiling uses it: what lies beside what, what is opposite, where it is open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ddfa_batch.schemas.arrays import F32, F64, I32, I64, Bools
from ddfa_batch.schemas.morphable import MorphableModel

#: Rays that carry anchors: one every two degrees, 3 to 4 pixels of outline on a face of 200.
N_RAYS = 180
#: Anchors of a ray: by the centre, just within the outline, on it, a fifth of the way to the rim, the rim, far.
N_RINGS = 6
#: Rounds in which the plane of symmetry of a face is found.
_MIRROR_ROUNDS = 3


@dataclass(frozen=True)
class Surface:
    """What profiling needs to know of a morphable model, once per process.

    triangles (T, 3): the face's, the lining's, which closes holes within the face such as an open mouth, and the
    anchors'. Vertices: the model's V, then copies of those in `lined` (M,), then the anchors; neighbours of vertex
    v: neighbours[starts[v] : starts[v + 1]]; mirror (V,): the vertex on the other side; rim (V + M,): on the
    edge of the surface; centre (3,) in model units: the mean of the mean face, about which heads turn.
    """

    triangles: I32
    n_face_triangles: int
    n_solid_triangles: int
    lined: I32
    starts: I32
    neighbours: I32
    mirror: I32
    rim: Bools
    centre: F64

    @staticmethod
    def of(model: MorphableModel) -> Surface:
        """The surface of a model."""
        v = model.n_vertices
        edges = model.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
        keys, uses = np.unique(np.concatenate([edges @ [v, 1], edges @ [1, v]]), return_counts=True)
        starts = np.searchsorted(keys, np.arange(v + 1) * v)
        single = np.isin(edges @ [v, 1], keys[uses == 1])
        loops = sorted(_loops(edges[single]), key=len)
        holes = [_from_a_corner(loop, model.mean) for loop in loops[:-1]]
        lined = np.array([vertex for hole in holes for vertex in hole], np.int32)
        lining = _lining(holes, v)
        rim = np.zeros(v + len(lined), np.bool_)
        rim[loops[-1] if loops else []] = True
        return Surface(
            triangles=np.concatenate([model.triangles, lining, _sheet() + v + len(lined)]).astype(np.int32),
            n_face_triangles=len(model.triangles),
            n_solid_triangles=len(model.triangles) + len(lining),
            lined=lined,
            starts=starts.astype(np.int32),
            neighbours=(keys % v).astype(np.int32),
            mirror=_mirror(model.mean),
            rim=rim,
            centre=model.mean.astype(np.float64).mean(axis=0),
        )


def _loops(edges: I64) -> list[list[int]]:
    """The closed paths that directed edges (n, 2) run along."""
    ahead = dict(edges.tolist())
    loops = []
    while ahead:
        loop = [next(iter(ahead))]
        while loop[-1] in ahead:
            loop.append(ahead.pop(loop[-1]))
        loops.append(loop[:-1])
    return loops


def _from_a_corner(loop: list[int], mean: F32) -> list[int]:
    """The loop begun at an end of its longest side: a corner of the mouth."""
    axis = int(np.argmax(np.ptp(mean[loop], axis=0)))
    first = int(np.argmin(mean[loop, axis]))
    return loop[first:] + loop[:first]


def _lining(loops: list[list[int]], first: int) -> I32:
    """Strips of triangles that close loops, seen from either side; vertices are counted loop by loop from `first`."""
    triangles: list[tuple[int, int, int]] = []
    for loop in loops:
        low, high = first, first + len(loop) - 1
        while high - low >= 2:
            triangles += [(low, low + 1, high), (low, high, low + 1)]
            low += 1
            if high - low >= 2:
                triangles += [(low, high - 1, high), (low, high, high - 1)]
                high -= 1
        first += len(loop)
    return np.array(triangles, np.int32).reshape(-1, 3)


def _mirror(mean: F32) -> I32:
    """The vertex nearest to each vertex's mirror image (V,), left and right being along x."""
    tree = cKDTree(mean)
    middle = float(mean[:, 0].min() + mean[:, 0].max()) / 2
    for _ in range(_MIRROR_ROUNDS):
        nearest = tree.query(mean * [-1, 1, 1] + [2 * middle, 0, 0])[1]
        middle = float((mean[:, 0] + mean[nearest, 0]).mean()) / 2
    return np.asarray(nearest, np.int32)


def _sheet() -> I32:
    """Triangles of the anchors, ring by ring from the centre, clockwise on a picture whose y points down."""
    ray, ring = (a.ravel() for a in np.meshgrid(np.arange(N_RAYS), np.arange(N_RINGS - 1), indexing="ij"))
    here, there = ring * N_RAYS + ray, ring * N_RAYS + (ray + 1) % N_RAYS
    out_here, out_there = here + N_RAYS, there + N_RAYS
    sheet = np.stack([here, there, out_there, here, out_there, out_here], axis=1)
    # the left half is cut the other way, so that mirrored anchors have mirrored triangles
    left = (ray >= N_RAYS // 4) & (ray < 3 * N_RAYS // 4)
    sheet[left] = np.stack([here, there, out_here, there, out_there, out_here], axis=1)[left]
    sheet = sheet.reshape(-1, 3)
    # close the middle with a fan, lest a pixel at the very centre stay empty
    fan = np.stack([np.zeros(N_RAYS - 2), np.arange(2, N_RAYS), np.arange(1, N_RAYS - 1)], axis=1)
    return np.concatenate([sheet, fan]).astype(np.int32)
