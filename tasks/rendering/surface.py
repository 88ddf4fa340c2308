"""A face's mesh as face profiling uses it: what lies beside what, what is opposite, where it is open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I32, I64, Bools
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.geometry.nearest import Neighbours

#: Rays that carry anchors: one every two degrees, 3 to 4 pixels of outline on a face of 200.
N_RAYS = 180
#: Anchors of a ray: by the centre, just within the outline, on it, a fifth of the way to the rim, the rim, far.
N_RINGS = 6
#: Rounds in which the plane of symmetry of a face is found.
_MIRROR_ROUNDS = 3
#: Width of the skirt as a share of the face's radius, and the rings of triangles it is made of.
_SKIRT, _SKIRT_RINGS = 0.15, 3
#: Share of the edge, to either side, over which the skirt's direction is averaged.
_SMOOTHED = 0.02


@dataclass(frozen=True)
class Surface:
    """What profiling needs to know of a morphable model, once per process.

    Vertices are counted so: the model's V; the lining's M, copies of those on the edges of holes; the skirt's S; the
    anchors'.
    """

    #: (T, 3): the face's, the lining's, which closes holes within the face such as an open mouth, and the anchors'.
    triangles: I32
    #: Of these, the face's own, which come first.
    n_face_triangles: int
    #: Of these, the face's and the lining's.
    n_solid_triangles: int
    #: (M,) the vertices the lining copies.
    lined: I32
    #: (V + 1,): the neighbours of vertex v are neighbours[starts[v] : starts[v + 1]].
    starts: I32
    #: Vertices that share an edge with another, one after the other.
    neighbours: I32
    #: (V,) the vertex on the other side of the face.
    mirror: I32
    #: (V + M,) whether a vertex is on the edge of the surface.
    rim: Bools
    #: (3,) model units: the mean of the mean face, about which heads turn.
    centre: F64
    #: The strip around the edge of the surface.
    skirt: Skirt

    @staticmethod
    def of(model: MorphableModel) -> Surface:
        """The surface of a model."""
        v = model.n_vertices
        edges = model.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
        keys, uses = np.unique(np.concatenate([edges @ [v, 1], edges @ [1, v]]), return_counts=True)
        starts = np.searchsorted(keys, np.arange(v + 1) * v)
        single = np.isin(edges @ [v, 1], keys[uses == 1])
        loops = sorted(_loops(edges[single]), key=len)
        outer = loops[-1] if loops else []
        holes = [_from_a_corner(loop, model.mean) for loop in loops[:-1]]
        lined = np.array([vertex for hole in holes for vertex in hole], np.int32)
        lining = _lining(holes, v)
        rim = np.zeros(v + len(lined), np.bool_)
        rim[outer] = True
        skirt = Skirt.around(model, np.array(outer, np.int64), v + len(lined))
        sheet = _sheet() + v + len(lined) + len(skirt.edge)
        return Surface(
            triangles=np.concatenate([model.triangles, lining, sheet]).astype(np.int32),
            n_face_triangles=len(model.triangles),
            n_solid_triangles=len(model.triangles) + len(lining),
            lined=lined,
            starts=starts.astype(np.int32),
            neighbours=(keys % v).astype(np.int32),
            mirror=_mirror(model.mean),
            rim=rim,
            centre=model.mean.astype(np.float64).mean(axis=0),
            skirt=skirt,
        )


@dataclass(frozen=True)
class Skirt:
    """A strip that goes on where the surface ends: it turns with the head and fades into what is around the face."""

    #: (S,) the vertex of the model's edge each of its vertices goes out from.
    edge: I32
    #: (S, 3) model units, from there.
    offset: F32
    #: (S,) 1 at the edge, 0 at the far side.
    opacity: F32
    #: (T, 3).
    triangles: I32

    @staticmethod
    def around(model: MorphableModel, loop: I64, first: int) -> Skirt:
        """The skirt of a closed loop of edge vertices, in the order of their triangles; its own count from `first`."""
        k, rings = len(loop), np.arange(_SKIRT_RINGS + 1)
        radius = float(np.linalg.norm(model.mean - model.mean.mean(axis=0), axis=1).max())
        outward = _outward(model.mean.astype(np.float64), loop)
        reach = rings / _SKIRT_RINGS
        here = first + (rings[:-1, None] * k + np.arange(k)).ravel()
        ahead = first + (rings[:-1, None] * k + (np.arange(k) + 1) % max(k, 1)).ravel()
        quads = np.stack([here, here + k, ahead, ahead, here + k, ahead + k], axis=1)
        return Skirt(
            edge=np.tile(loop, len(rings)).astype(np.int32),
            offset=(reach[:, None, None] * _SKIRT * radius * outward).reshape(-1, 3).astype(np.float32),
            opacity=np.repeat(1 - reach, k).astype(np.float32),
            triangles=quads.reshape(-1, 3).astype(np.int32),
        )


def _outward(mean: F64, loop: I64) -> F64:
    """Unit directions (K, 3) in which the surface would go on beyond its edge, smooth along it.

    Each leads from the middle of what lies within a skirt's width of the edge to the edge.
    """
    if not len(loop):
        return np.zeros((0, 3))
    radius = float(np.linalg.norm(mean - mean.mean(axis=0), axis=1).max())
    reach = 1.5 * _SKIRT * radius
    inner = np.stack([mean[np.linalg.norm(mean - at, axis=1) <= reach].mean(axis=0) for at in mean[loop]])
    outward = mean[loop] - inner
    window = max(1, round(_SMOOTHED * len(loop)))
    around = np.arange(-window, window + 1) + np.arange(len(loop))[:, None]
    outward = outward[around % len(loop)].mean(axis=1)
    return np.asarray(outward / np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9))


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
    known = Neighbours(mean)
    middle = float(mean[:, 0].min() + mean[:, 0].max()) / 2
    for _ in range(_MIRROR_ROUNDS):
        nearest = known.nearest(mean * [-1, 1, 1] + [2 * middle, 0, 0])
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
