"""Meshes painted over pictures with soft edges: each pixel shows as much of a surface as its samples do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ddfa_batch.schemas.arrays import F32, F64, I32, U8, Bools
from ddfa_batch.tasks.rendering.compiled import compiled
from ddfa_batch.tasks.rendering.rasteriser import Fragments, Viewport, rasterise

#: Samples across a pixel, and down; and what each has of it.
SAMPLES = 2
_SHARE = 1 / SAMPLES**2


@dataclass(frozen=True)
class Window:
    """The part of a picture that a mesh may cover."""

    #: The left and the upper end, pixels.
    x0: int
    y0: int
    #: The extent, pixels; 0 where the mesh lies beside the picture.
    width: int
    height: int

    @staticmethod
    def around(mesh: F32, picture: npt.NDArray[Any]) -> Window:
        """Around the vertices (V, 3) of a mesh within a picture (H, W, …)."""
        low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return Window(0, 0, 0, 0)
        size = [picture.shape[1], picture.shape[0]]
        x0, y0 = np.clip(np.floor(low) - 1, 0, size).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(high) + 2, 0, size).astype(int).tolist()
        return Window(x0, y0, max(x1 - x0, 0), max(y1 - y0, 0))

    def samples(self, mesh: F32, triangles: I32, across: int = SAMPLES) -> tuple[F32, Fragments]:
        """The vertices in pixels of samples, and what each of so many samples across a pixel shows."""
        view = Viewport(self.x0, self.y0, across, across, self.width * across, self.height * across)
        placed = view.place(mesh)
        return placed, rasterise(placed, triangles, view.width, view.height)

    def of(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """This part of a picture, which it shares."""
        return picture[self.y0 : self.y0 + self.height, self.x0 : self.x0 + self.width]


def cover(picture: U8, mesh: F32, triangles: I32, colours: F32, opacity: F32) -> None:
    """Paint a mesh, vertices (V, 3), into a picture in colours (V, 3) BGR, 0 to 255, as opaque (V,) as is said."""
    window = Window.around(mesh, picture)
    if window.width and window.height:
        placed, fragments = window.samples(mesh, triangles)
        _cover(fragments.triangle, _plane_of(placed, triangles, colours, opacity), window.of(picture))


def cover_with_pixels(
    picture: U8, image: U8, mesh: F32, triangles: I32, colours: F32, doubt: F32, light: F32, opacity: F32
) -> None:
    """Paint a mesh in an image's own pixels, in colours (V, 3) as far as there is doubt (V,), times light (V, 3)."""
    window = Window.around(mesh, picture)
    if window.width and window.height:
        placed, fragments = window.samples(mesh, triangles)
        planes = _plane_of(placed, triangles, light, opacity, doubt[:, None], colours)
        _cover_with_pixels(fragments.triangle, planes, window.of(image), window.of(picture))


def cover_with_lines(
    picture: U8, mesh: F32, triangles: I32, colours: F32, opacity: F32, sides: Bools, radius: float
) -> None:
    """Paint the sides (T, 3) of triangles, each opposite to a corner, that can be seen; radius: half their width."""
    window = Window.around(mesh, picture)
    if window.width and window.height:
        placed, fragments = window.samples(mesh, triangles)
        planes = _plane_of(placed, triangles, colours, opacity)
        _lines(fragments.triangle, placed, triangles, planes, sides, radius * SAMPLES, window.of(picture))


def _plane_of(placed: F32, triangles: I32, colours: F32, opacity: F32, *others: F32) -> F64:
    """Colours, opacity and `others` (V, C), K values of vertices together, as planes over triangles (T, 2 + 3 K)."""
    values = np.concatenate([colours, opacity[:, None], *others], axis=1).astype(np.float32)
    planes = np.empty((len(triangles), 2 + 3 * values.shape[1]))
    _planes(placed, triangles, values, planes)
    return planes


# --------------------------------------------------------------------------------------------- the kernels


@compiled()
def _planes(vertices, triangles, values, out):  # type: ignore[no-untyped-def]
    """Where triangles begin (x, y), and each of their K values there and its rise across and down: (T, 2 + 3 K)."""
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = np.float64(vertices[a, 0]), np.float64(vertices[a, 1])
        bx, by = vertices[b, 0] - ax, vertices[b, 1] - ay
        cx, cy = vertices[c, 0] - ax, vertices[c, 1] - ay
        area = bx * cy - by * cx
        if not area < 0.0:  # it faces away, and no sample shows it
            continue
        out[t, 0], out[t, 1] = ax, ay
        for k in range(values.shape[1]):
            vb, vc = values[b, k] - values[a, k], values[c, k] - values[a, k]
            out[t, 2 + 3 * k] = values[a, k]
            out[t, 3 + 3 * k] = (vb * cy - vc * by) / area
            out[t, 4 + 3 * k] = (vc * bx - vb * cx) / area


@compiled(inline=True)
def _blended(under, clear, over):  # type: ignore[no-untyped-def]
    return np.uint8(min(max(under * clear + over + 0.5, 0.0), 255.0))


@compiled(inline=True)
def _put(out, y, x, blue, green, red, opaque):  # type: ignore[no-untyped-def]
    if opaque > 0.0:
        clear = 1.0 - opaque
        out[y, x, 0] = _blended(out[y, x, 0], clear, blue)
        out[y, x, 1] = _blended(out[y, x, 1], clear, green)
        out[y, x, 2] = _blended(out[y, x, 2], clear, red)


@compiled(inline=True)
def _at(p, k, u, v):  # type: ignore[no-untyped-def]
    return p[2 + 3 * k] + p[3 + 3 * k] * u + p[4 + 3 * k] * v


@compiled()
def _cover(index, planes, out):  # type: ignore[no-untyped-def]
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            blue, green, red, opaque = 0.0, 0.0, 0.0, 0.0
            for j in range(SAMPLES):
                for i in range(SAMPLES):
                    t = index[y * SAMPLES + j, x * SAMPLES + i]
                    if t < 0:
                        continue
                    p = planes[t]
                    u, v = x * SAMPLES + i - p[0], y * SAMPLES + j - p[1]
                    o = _SHARE * min(max(_at(p, 3, u, v), 0.0), 1.0)
                    blue += o * _at(p, 0, u, v)
                    green += o * _at(p, 1, u, v)
                    red += o * _at(p, 2, u, v)
                    opaque += o
            _put(out, y, x, blue, green, red, opaque)


@compiled()
def _cover_with_pixels(index, planes, image, out):  # type: ignore[no-untyped-def]
    shown = np.empty(3)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            shown[:] = 0.0
            opaque = 0.0
            for j in range(SAMPLES):
                for i in range(SAMPLES):
                    t = index[y * SAMPLES + j, x * SAMPLES + i]
                    if t < 0:
                        continue
                    p = planes[t]
                    u, v = x * SAMPLES + i - p[0], y * SAMPLES + j - p[1]
                    o = _SHARE * min(max(_at(p, 3, u, v), 0.0), 1.0)
                    doubt = min(max(_at(p, 4, u, v), 0.0), 1.0)
                    for ch in range(3):
                        skin = image[y, x, ch] + doubt * (_at(p, 5 + ch, u, v) - image[y, x, ch])
                        shown[ch] += o * min(skin * _at(p, ch, u, v), 255.0)
                    opaque += o
            _put(out, y, x, shown[0], shown[1], shown[2], opaque)


@compiled(inline=True)
def _from_sides(vertices, a, b, c, sides, u, v):  # type: ignore[no-untyped-def]
    """How far a place within a triangle is from the nearest of its sides that are drawn; inf where none is."""
    ax, ay = np.float64(vertices[a, 0]), np.float64(vertices[a, 1])
    bx, by = vertices[b, 0] - ax, vertices[b, 1] - ay
    cx, cy = vertices[c, 0] - ax, vertices[c, 1] - ay
    u, v = u - ax, v - ay
    near = np.inf
    if sides[0]:
        near = abs((u - bx) * (cy - by) - (v - by) * (cx - bx)) / np.sqrt((cx - bx) ** 2 + (cy - by) ** 2)
    if sides[1]:
        near = min(near, abs(u * cy - v * cx) / np.sqrt(cx * cx + cy * cy))
    if sides[2]:
        near = min(near, abs(u * by - v * bx) / np.sqrt(bx * bx + by * by))
    return near


@compiled()
def _lines(index, vertices, triangles, planes, sides, radius, out):  # type: ignore[no-untyped-def]
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            blue, green, red, opaque = 0.0, 0.0, 0.0, 0.0
            for j in range(SAMPLES):
                for i in range(SAMPLES):
                    u, v = x * SAMPLES + i, y * SAMPLES + j
                    t = index[v, u]
                    if t < 0:
                        continue
                    a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                    away = _from_sides(vertices, a, b, c, sides[t], u, v)
                    p = planes[t]
                    du, dv = u - p[0], v - p[1]
                    o = _SHARE * min(max(radius + 0.5 - away, 0.0), 1.0)
                    o *= min(max(p[11] + p[12] * du + p[13] * dv, 0.0), 1.0)
                    blue += o * (p[2] + p[3] * du + p[4] * dv)
                    green += o * (p[5] + p[6] * du + p[7] * dv)
                    red += o * (p[8] + p[9] * du + p[10] * dv)
                    opaque += o
            _put(out, y, x, blue, green, red, opaque)
