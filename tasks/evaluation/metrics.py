"""Errors of landmarks, meshes and videos against labels, with the normalisers named (paper, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ddfa_batch.schemas.arrays import F64, Floats, check_shape
from ddfa_batch.schemas.errors import ShapeError

#: The paper's bins of |yaw| in degrees: small, medium and large poses.
YAW_EDGES = (30.0, 60.0)
#: Radius of the part of a scan that is compared, in outer interocular distances about the nose tip: the 95 mm that
#: the Florence protocol (Jackson et al., ICCV 2017) cuts out, for eyes whose outer corners are 90 mm apart.
FACE_RADIUS = 95 / 90
#: Steps of the iterative closest point alignment, the share of the distance it must still gain, vertices that do it.
_ICP_STEPS, _ICP_GAIN, _ICP_VERTICES = 200, 1e-5, 3000


def box_size(points: Floats) -> F64:
    """√(w·h) in pixels, (N,), of the box around points (N, P, ≥2); points that are NaN do not count."""
    xy = np.asarray(points, np.float64)[..., :2]
    if not np.isfinite(xy).any(axis=(1, 2)).all():
        raise ShapeError("A face without a single labelled point has no size.")
    return np.asarray(np.sqrt((np.nanmax(xy, axis=1) - np.nanmin(xy, axis=1)).prod(axis=1)))


def nme(found: Floats, truth: Floats) -> F64:
    """Normalised mean error (N,) in % of √(w·h) of the box around the true points.

    found and truth (N, P, ≥2) in pixels; only x and y count. A true point that is NaN does not count.
    """
    check_shape("found", found, *truth.shape[:2], None)
    size = box_size(truth)
    distance = np.linalg.norm(np.asarray(found, np.float64)[..., :2] - truth[..., :2], axis=2)
    return np.asarray(100 * np.nanmean(distance, axis=1) / size)


def nme_solid(found: Floats, truth: Floats) -> F64:
    """As `nme`, in three dimensions (N, P, 3).

    The mean depths are made equal first: no picture shows where depth begins.
    """
    check_shape("found", found, *truth.shape[:2], 3)
    difference = np.asarray(found, np.float64) - truth
    difference[..., 2] -= difference[..., 2].mean(axis=1, keepdims=True)
    return np.asarray(100 * np.linalg.norm(difference, axis=2).mean(axis=1) / box_size(truth))


def stability(found: Floats, truth: Floats) -> F64:
    """Error (n − 1,) in % of √(w·h) of the motion between adjacent frames of one video: ‖Δp − Δq‖, meaned over points.

    found and truth (n, P, ≥2) in pixels, frame after frame; Δp and Δq are what the points move by since the frame
    before, and the box is that of the true points (section 3.1).
    """
    check_shape("found", found, *truth.shape[:2], None)
    moved = np.diff(np.asarray(found, np.float64)[..., :2], axis=0) - np.diff(truth[..., :2], axis=0)
    return np.asarray(100 * np.linalg.norm(moved, axis=2).mean(axis=1) / box_size(truth)[1:])


def by_yaw(errors: Floats, yaw: Floats) -> F64:
    """Mean error of small, medium and large poses, (3,); NaN for a bin without faces. Their mean is the paper's."""
    bins = np.digitize(np.abs(yaw), YAW_EDGES)
    return np.array([np.mean(errors[bins == i]) if (bins == i).any() else np.nan for i in range(3)])


def labelled_face(boxes: Floats, centre: Floats) -> int | None:
    """Which of the boxes (N, 4) holds the point `centre` (2,), nearest centre first; None if none does."""
    b = np.asarray(boxes, np.float64)
    holds = ((b[:, :2] <= centre) & (centre <= b[:, 2:])).all(axis=1)
    if not holds.any():
        return None
    distance = np.linalg.norm((b[:, :2] + b[:, 2:]) / 2 - centre, axis=1)
    return int(np.argmin(np.where(holds, distance, np.inf)))


def cumulative(errors: Floats, most: float, steps: int = 200) -> tuple[F64, F64]:
    """Cumulative error distribution: thresholds (steps,) from 0 to `most`, and the share of `errors` (N,) up to each.

    An error of infinity stands for a face that was missed.
    """
    thresholds = np.linspace(0, most, steps)
    ordered = np.sort(np.asarray(errors, np.float64))
    return thresholds, np.searchsorted(ordered, thresholds, side="right") / max(len(ordered), 1)


@dataclass(frozen=True)
class Similarity:
    """x → scale · R·x + shift: R (3, 3) a proper rotation, shift (3,)."""

    scale: float
    R: F64
    shift: F64

    def __call__(self, points: Floats) -> F64:
        """Points (N, 3), moved."""
        return np.asarray(self.scale * points @ self.R.T + self.shift)


def aligned(source: Floats, target: Floats) -> Similarity:
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
    """Of one reconstruction against a scan: mean distance in % of the scan's outer interocular distance, which is in
    the scan's unit; points of the scan that were compared.
    """

    nme: float
    interocular: float
    n_points: int


def scan_error(mesh: Floats, eyes: tuple[int, int], nose: int, scan: Floats) -> ScanError:
    """A mesh (V, 3) against the vertices of a scan (N, 3), after rigid alignment and scaling by closest points.

    Both upright and facing z. eyes and nose: the mesh's vertices at the outer corners of the eyes and the tip of the
    nose. As the Florence protocol: the part of the scan within `FACE_RADIUS` of the nose tip, each point's distance to
    the nearest vertex of the mesh, the mean over the outer interocular distance. The scan's own eye corners and nose
    tip are its points nearest to the aligned mesh's.
    """
    check_shape("mesh", mesh, None, 3)
    check_shape("scan", scan, None, 3)
    if len(scan) < 100 or not np.isfinite(scan).all():
        raise ShapeError(f"A scan needs at least 100 finite points, but this one has {len(scan)}.")
    tree: Any = cKDTree(scan)
    map_ = _closest_points(np.asarray(mesh, np.float64), np.asarray(scan, np.float64), tree)
    moved = map_(mesh)
    corners = np.asarray(scan)[tree.query(moved[[*eyes, nose]])[1]]
    interocular = float(np.linalg.norm(corners[0] - corners[1]))
    part = np.asarray(scan)[np.linalg.norm(scan - corners[2], axis=1) <= FACE_RADIUS * interocular]
    nearest: Any = cKDTree(moved)
    distance = nearest.query(part)[0]
    return ScanError(100 * float(distance.mean()) / max(interocular, 1e-12), interocular, len(part))


def _closest_points(mesh: F64, scan: F64, tree: Any) -> Similarity:
    """Iterative closest point from equal middles and extents; mesh to scan, nine tenths of the nearest pairs count."""
    low, high = scan.min(axis=0), scan.max(axis=0)
    scale = float((high - low)[:2].max() / np.ptp(mesh, axis=0)[:2].max())
    middle = (mesh.min(axis=0) + mesh.max(axis=0)) / 2
    best = Similarity(scale, np.eye(3), (low + high) / 2 - scale * middle)
    some, before = mesh[:: max(1, len(mesh) // _ICP_VERTICES)], np.inf
    for _ in range(_ICP_STEPS):
        distance, nearest = tree.query(best(some))
        kept = distance <= np.quantile(distance, 0.9)
        error = float(distance[kept].mean())
        if before - error < _ICP_GAIN * before:
            break
        best, before = aligned(some[kept], scan[nearest[kept]]), error
    return best
