"""Which landmarks the head itself hides, without rendering it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, I32, I64, Bools, check_shape
from ddfa_batch.schemas.morphable import MorphableModel

#: Cells along the longest side of the mean face, in each of which one occluding vertex is kept: fine
#: enough for a nose, coarse enough for some 1,000 of them.
_CELLS = 24
#: An occluder hides a landmark if it lies within this many cells of it across the picture …
_REACH = 0.75
#: … and this many cells nearer to the viewer than both the landmark and the landmark's tangent plane, which
#: keeps a steep cheek from hiding its own rim. Set against a z-buffer (tests/geometry/test_visibility.py), not labels.
_DEPTH = 1.5
#: A landmark's surface may face away from the viewer by so many degrees: then it lies on the head's outline, where the
#: eye sees it. Without, half of a profile's midline from brow to chin counted as hidden; 5° agree best with the
#: visibility that annotators gave AFLW's landmarks (of 5, 7, 10, 15, 20 and 25).
_OUTLINE = 5.0
#: Least share of a normal that counts as facing the viewer, so that the tangent planes of steep surfaces are not too
#: steep; chosen with it.
_STEEPEST = 0.3


@dataclass(frozen=True)
class Occlusion:
    """The few vertices that decide, as indices into the model's vertices."""

    #: The triangles around each landmark (68, k, 3), degenerate ones filling up.
    corners: I32
    #: An even sample of the surface (m,).
    occluders: I32
    #: The sample's spacing, model units.
    cell: float

    @property
    def vertices(self) -> I32:
        """All vertices `visible` needs, in its order: the corners, then the occluders."""
        return np.concatenate([self.corners.ravel(), self.occluders])

    @staticmethod
    def of(model: MorphableModel) -> Occlusion:
        """Choose the vertices for a model; once per process."""
        near = model.triangles[np.isin(model.triangles, model.landmarks).any(axis=1)]
        around = [near[(near == vertex).any(axis=1)] for vertex in model.landmarks]
        k = max(1, *(len(found) for found in around))
        corners = np.repeat(model.landmarks[:, None, None], 3, axis=2).repeat(k, axis=1)
        for row, found in enumerate(around):
            corners[row, : len(found)] = found
        cell = float(np.ptp(model.mean, axis=0).max()) / _CELLS
        cells = np.floor(model.mean / cell).astype(np.int64)
        places = np.ravel_multi_index(tuple((cells - cells.min(axis=0)).T), tuple(np.ptp(cells, axis=0) + 1))
        _, first = np.unique(places, return_index=True)
        in_triangles = np.zeros(len(model.mean), np.bool_)
        in_triangles[model.triangles] = True
        used = np.sort(first[in_triangles[first]])
        return Occlusion(corners.astype(np.int32), used.astype(np.int32), cell)


def visible(occlusion: Occlusion, points: F32, landmarks: F32, scale: F32) -> Bools:
    """Whether each landmark can be seen, (N, 68), under orthographic projection along z.

    points (N, len(occlusion.vertices), 3) and landmarks (N, 68, 3) in image pixels, y down, z to the
    viewer; scale (N,) pixels per model unit. A landmark is hidden if its surface faces away from the viewer, by more
    than what lies on the outline does, or another part of the head lies before it.
    """
    n_corners = occlusion.corners.size
    check_shape("points", points, None, len(occlusion.vertices), 3)
    ring = points[:, :n_corners].reshape(-1, *occlusion.corners.shape, 3)
    ab, ac = ring[..., 1, :] - ring[..., 0, :], ring[..., 2, :] - ring[..., 0, :]
    normals = np.stack([ab[..., i] * ac[..., j] - ab[..., j] * ac[..., i] for i, j in ((1, 2), (2, 0), (0, 1))], -1)
    normals = normals.sum(axis=2)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    normals /= np.maximum(length, np.finfo(np.float32).tiny)
    # y points down in the image, so the normal of a counter-clockwise triangle seen from outside has z < 0
    seen = (normals[..., 2] < np.float32(np.sin(np.radians(_OUTLINE)))) & (length[..., 0] > 0)
    normals[..., 2] = np.minimum(normals[..., 2], -_STEEPEST)
    for face in range(points.shape[0]):
        facing = np.flatnonzero(seen[face])
        cell = occlusion.cell * float(scale[face])
        hidden = _hidden(landmarks[face, facing], normals[face, facing], points[face, n_corners:], cell)
        seen[face, facing[hidden]] = False
    return np.asarray(seen)


def _hidden(landmarks: F32, normals: F32, occluders: F32, cell: float) -> I64:
    """Indices of the landmarks (L, 3) with unit normals (L, 3) that some of the occluders (m, 3) hide."""
    centre = occluders.mean(axis=0)
    p, q = landmarks - centre, occluders - centre
    # squared distances across the picture as one matrix product: |p|² − 2 p·q + |q|²
    left = np.column_stack([-2 * p[:, :2], (p[:, :2] ** 2).sum(axis=1), np.ones(len(p), p.dtype)])
    right = np.stack([q[:, 0], q[:, 1], np.ones(len(q), q.dtype), (q[:, :2] ** 2).sum(axis=1)])
    # of two axes np.nonzero takes three times as long
    of, by = np.divmod(np.flatnonzero(left @ right < (_REACH * cell) ** 2), len(q))
    d = q[by] - p[of]
    n = normals[of]
    plane = np.maximum(-(n[:, 0] * d[:, 0] + n[:, 1] * d[:, 1]) / n[:, 2], 0)
    return np.unique(of[d[:, 2] > plane + _DEPTH * cell])
