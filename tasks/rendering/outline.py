"""The outline of a face, polar about its centre: rays that carry the anchors of the background around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64
from ddfa_batch.tasks.rendering.compiled import compiled
from ddfa_batch.tasks.rendering.rasteriser import Fragments, Viewport
from ddfa_batch.tasks.rendering.surface import N_RAYS, Surface

#: The rim, where motion ends, is the image's border, but within these multiples of the face's radius.
_RIM = (1.35, 3.0)
#: How much the outline may fall per radian of angle, as a share of the radius: a 45° slope.
#: Less steep is calmer: an outline that jumps from frame to frame makes the background shiver.
_STEEP = 1.0
#: Cosine between surface and viewer below which a vertex may be on the outline.
_TURNING = 0.4
#: A vertex nearer to the centre than this share of the farthest one is not looked at for the outline.
_INNERMOST = 0.25


@dataclass(frozen=True)
class SolidView:
    """The still's face alone, rasterised, to find out what the photograph shows of it."""

    #: (3,) pixels: about what the face turns.
    centre: F64
    #: Of a ball about the centre that holds the mesh, in pixels.
    radius: float
    #: What of the image the fragments show.
    view: Viewport
    #: The nearest triangle of face and lining at every pixel of the view.
    fragments: Fragments


@dataclass(frozen=True)
class Rays:
    """The anchors in the still, polar about the face's centre, one row a ray, in pixels."""

    #: (K,) radians, from the image's right, clockwise.
    angle: F64
    #: (K,) radius of the outline.
    outline: F64
    #: (K,) radius of the first pixel the face leaves free, less a pixel.
    inner: F64
    #: (K,) radius of the rim, where motion ends.
    rim: F64
    #: (K,) depth of the outline.
    depth: F64
    #: (K,) how far the background there belongs to the head: 1 above it and 0 below, where the neck stands still.
    follow: F64


def rays_of(surface: Surface, mesh: F32, facing: F32, pose: F64, size: tuple[int, int], solid: SolidView) -> Rays:
    """The rays of a face: mesh (V, 3) in image pixels, its normals, its pose (3, 4); size of the image (h, w)."""
    outline, depth = outline_of(surface, mesh, facing, np.eye(3), solid.centre)
    angle = np.arange(N_RAYS, dtype=np.float64) * (2 * np.pi / N_RAYS)
    border = np.clip(_border(angle, solid.centre, size), _RIM[0] * solid.radius, _RIM[1] * solid.radius)
    up = pose[:2, 1] / max(float(np.linalg.norm(pose[:2, 1])), 1e-9)
    upward = np.cos(angle) * up[0] + np.sin(angle) * up[1]
    return Rays(
        angle=angle,
        outline=outline,
        inner=np.clip(_free(solid, outline), 0.3 * outline, outline),
        rim=blurred(border, 4),
        depth=depth,
        follow=(1 + upward) / 2,
    )


def _free(solid: SolidView, outline: F64) -> F64:
    """Radius (K,) in image pixels of the first pixel each ray finds free of the face, less a pixel."""
    view = solid.view
    middle = view.affine[:2, :2] @ solid.centre[:2] + view.affine[:2, 3]
    free = np.empty(N_RAYS)
    _first_free(solid.fragments.triangle, middle, outline * view.zoom_x, free)
    free = np.minimum(np.minimum(free, np.roll(free, 1)), np.roll(free, -1)) - 2.0
    return free / view.zoom_x


def _border(angle: F64, centre: F64, size: tuple[int, int]) -> F64:
    """Radius (K,) at which rays from the centre leave an image of a height and width."""
    height, width = size
    ends = np.array([[-centre[0], -centre[1]], [width - 1 - centre[0], height - 1 - centre[1]]])
    ahead = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    steps = np.where(ahead > 0, ends[1], ends[0]) / np.where(np.abs(ahead) > 1e-9, ahead, np.inf)
    return np.asarray(np.where(np.abs(ahead) > 1e-9, steps, np.inf).min(axis=1))


def outline_of(surface: Surface, mesh: F32, facing: F32, turn: F64, centre: F64) -> tuple[F64, F64]:
    """Radius and depth (K,) of the turned mesh's outline along each ray from `centre` (3,), which stays."""
    radius, depth = np.zeros(N_RAYS), np.zeros(N_RAYS)
    _outermost(mesh, facing, surface.rim, turn, centre, radius, depth)
    found = np.flatnonzero(radius > 0)
    if 0 < len(found) < N_RAYS:
        at = np.arange(N_RAYS)
        radius, depth = (np.interp(at, found, values[found], period=N_RAYS) for values in (radius, depth))
    return blurred(np.maximum(radius, 1.0), 3), blurred(depth, 6)


# --------------------------------------------------------------------------------------------- the kernels


@compiled()
def blurred(values, times):  # type: ignore[no-untyped-def]
    """Values (K,) around a circle, each mixed ¼ : ½ : ¼ with its neighbours, that many times."""
    n = values.shape[0]
    for _ in range(times):
        before, out = values, np.empty_like(values)
        for k in range(n):
            out[k] = (before[k - 1] + 2 * before[k] + before[(k + 1) % n]) / 4
        values = out
    return values


@compiled()
def _outermost(mesh, facing, rim, turn, centre, radius, depth):  # type: ignore[no-untyped-def]
    n = radius.shape[0]
    step = 2 * np.pi / n
    largest = 0.0
    for v in range(mesh.shape[0]):
        # only where the surface turns away, or is about to, or ends, can it be the outline
        z = turn[2, 0] * facing[v, 0] + turn[2, 1] * facing[v, 1] + turn[2, 2] * facing[v, 2]
        if abs(z) > _TURNING and not rim[v]:
            continue
        px, py, pz = mesh[v, 0] - centre[0], mesh[v, 1] - centre[1], mesh[v, 2] - centre[2]
        dx = turn[0, 0] * px + turn[0, 1] * py + turn[0, 2] * pz
        dy = turn[1, 0] * px + turn[1, 1] * py + turn[1, 2] * pz
        r = np.sqrt(dx * dx + dy * dy)
        largest = max(largest, r)
        if r < _INNERMOST * largest:
            continue
        at = np.arctan2(dy, dx) / step
        low = int(np.floor(at))
        for k in range(low - 1, low + 3):
            reach = r * (1 - _STEEP * abs(at - k) * step)
            ray = k % n
            if reach > radius[ray]:
                radius[ray] = reach
                depth[ray] = turn[2, 0] * px + turn[2, 1] * py + turn[2, 2] * pz


@compiled()
def _first_free(shown, middle, outline, free):  # type: ignore[no-untyped-def]
    n = free.shape[0]
    height, width = shown.shape
    for ray in range(n):
        nearest = outline[ray]
        for part in range(-1, 2):
            angle = (ray + part / 3.0) * 2 * np.pi / n
            r = 0.4 * outline[ray]
            while r < nearest:
                x = int(np.rint(middle[0] + r * np.cos(angle)))
                y = int(np.rint(middle[1] + r * np.sin(angle)))
                if 0 <= x < width and 0 <= y < height and shown[y, x] < 0:
                    nearest = r
                r += 0.5
        free[ray] = nearest
