"""Meshes against scans, as the Florence protocol: similarities, closest-point alignment, distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F64, Floats, check_shape
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.tasks.geometry.nearest import Neighbours

#: Radius of the part of a scan that is compared, in outer interocular distances about the nose tip: the 95 mm that
#: the Florence protocol (Jackson et al., ICCV 2017) cuts out, for eyes whose outer corners are 90 mm apart.
FACE_RADIUS = 95 / 90
#: A scan of fewer points shows no face.
_FEWEST_POINTS = 100
#: Most steps of the closest-point alignment.
_ICP_STEPS = 200
#: Share of the mean distance that a step must still gain for another to follow.
_ICP_GAIN = 1e-5
#: Vertices of the mesh that are aligned, about.
_ICP_VERTICES = 3000
#: Share of the pairs, the nearest ones, that count in a step: a scan holds hair, neck and holes.
_ICP_KEPT = 0.9


@dataclass(frozen=True)
class Similarity:
    """x → scale · R·x + shift."""

    scale: float
    #: (3, 3), a proper rotation.
    R: F64
    #: (3,), in the target's unit.
    shift: F64

    def __call__(self, points: Floats) -> F64:
        """Points (N, 3), moved."""
        return np.asarray(self.scale * points @ self.R.T + self.shift)


def umeyama(source: Floats, target: Floats) -> Similarity:
    """The similarity that brings points (N, 3) nearest to their counterparts (N, 3) (Umeyama, PAMI 1991)."""
    check_shape("source", source, *target.shape)
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    u, s, vt = np.linalg.svd((b - mean_b).T @ (a - mean_a))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    R = (u * sign) @ vt
    scale = float((s * sign).sum() / np.square(a - mean_a).sum())
    return Similarity(scale, R, mean_b - scale * R @ mean_a)


@dataclass(frozen=True)
class ScanError:
    """Of one reconstruction against a scan."""

    #: Mean distance in % of the scan's outer interocular distance.
    nme: float
    #: That distance, in the scan's unit.
    interocular: float
    #: Points of the scan that were compared.
    n_points: int


def scan_error(mesh: Floats, eyes: tuple[int, int], nose: int, scan: Floats) -> ScanError:
    """A mesh (V, 3) against the vertices of a scan (N, 3), after rigid alignment and scaling by closest points.

    Both upright and facing z. eyes and nose: the mesh's vertices at the outer corners of the eyes and the tip of the
    nose. As the Florence protocol: the part of the scan within `FACE_RADIUS` of the nose tip, each point's distance to
    the nearest vertex of the mesh, the mean over the outer interocular distance. The scan's own eye corners and nose
    tip are its points nearest to the aligned mesh's. Raises `ShapeError` for a scan of few points, or without a size.
    """
    check_shape("mesh", mesh, None, 3)
    check_shape("scan", scan, None, 3)
    if len(scan) < _FEWEST_POINTS or not np.isfinite(scan).all():
        raise ShapeError(f"A scan needs at least {_FEWEST_POINTS} finite points, but this one has {len(scan)}.")
    points, known = np.asarray(scan, np.float64), Neighbours(scan)
    moved = _closest_points(np.asarray(mesh, np.float64), points, known)(mesh)
    corners = points[known.nearest(moved[[*eyes, nose]])]
    interocular = float(np.linalg.norm(corners[0] - corners[1]))
    if interocular == 0:
        raise ShapeError("The corners of the eyes fall on one point of this scan: it is no upright face.")
    part = points[np.linalg.norm(points - corners[2], axis=1) <= FACE_RADIUS * interocular]
    distance = Neighbours(moved).distance(part)
    return ScanError(100 * float(np.mean(distance)) / interocular, interocular, len(part))


def _closest_points(mesh: F64, scan: F64, known: Neighbours) -> Similarity:
    """Iterative closest point from equal middles and extents; mesh to scan, the nearest pairs count."""
    low, high = scan.min(axis=0), scan.max(axis=0)
    scale = float((high - low)[:2].max() / np.ptp(mesh, axis=0)[:2].max())
    middle = (mesh.min(axis=0) + mesh.max(axis=0)) / 2
    best = Similarity(scale, np.eye(3), (low + high) / 2 - scale * middle)
    some, before = mesh[:: max(1, len(mesh) // _ICP_VERTICES)], np.inf
    for _ in range(_ICP_STEPS):
        here = best(some)
        nearest = known.nearest(here)
        distance = np.linalg.norm(scan[nearest] - here, axis=1)
        kept = distance <= np.quantile(distance, _ICP_KEPT)
        error = float(distance[kept].mean())
        if before - error < _ICP_GAIN * before:
            break
        best, before = umeyama(some[kept], scan[nearest[kept]]), error
    return best
