"""Meshes to pictures: a z-buffer that remembers which triangle a pixel shows, and what to paint there.

Orthographic, y down, z to the viewer, the centre of the top-left pixel at (0, 0). Triangles are those of the
model: counter-clockwise seen from outside, which is clockwise on a picture whose y points down; the others face
away and are not drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I32, U8, Floats, check_shape
from ddfa_batch.tasks.rendering.compiled import compiled

#: A pixel this far outside a triangle, in pixels, still counts as inside: two triangles that share an edge
#: round it differently, and no pixel may fall between them.
_SLACK = 1e-7
#: Light reaching a surface whatever its direction, as a share of all light (`lambert`).
AMBIENT = 0.35


@dataclass(frozen=True)
class Fragments:
    """What each pixel of a picture shows."""

    #: (H, W) the nearest triangle, −1 for none.
    triangle: I32
    #: (H, W) its depth, −inf for none.
    depth: F32


@dataclass(frozen=True)
class Viewport:
    """The rectangle of an image that a picture of width × height pixels shows.

    Picture pixel u shows image position (u + ½)/zoom − ½ + corner, as OpenCV's `resize` has it, so a viewport of
    a roi is that of `crop.crop`.
    """

    #: The rectangle's left end, image pixels.
    x0: float
    #: Its upper end, image pixels.
    y0: float
    #: Picture pixels an image pixel, across.
    zoom_x: float
    #: And down.
    zoom_y: float
    #: Of the picture, pixels.
    width: int
    #: Of the picture, pixels.
    height: int

    @staticmethod
    def of_image(image: U8) -> Viewport:
        """All of an image (H, W, 3), as it is."""
        return Viewport(0.0, 0.0, 1.0, 1.0, image.shape[1], image.shape[0])

    @staticmethod
    def of_roi(roi: Floats, size: int) -> Viewport:
        """A roi (4,), rounded to whole pixels as `crop.crop` does, at size × size pixels."""
        x0, y0, x1, y1 = (round(float(v)) for v in roi)
        return Viewport(x0, y0, size / max(x1 - x0, 1), size / max(y1 - y0, 1), size, size)

    @property
    def affine(self) -> F64:
        """Image pixels to picture pixels as (3, 4); depth is scaled by the mean of both zooms."""
        x, y = self.zoom_x, self.zoom_y
        return np.array(
            [
                [x, 0, 0, (0.5 - self.x0) * x - 0.5],
                [0, y, 0, (0.5 - self.y0) * y - 0.5],
                [0, 0, (x + y) / 2, 0],
            ]
        )

    def place(self, points: F32) -> F32:
        """Points (n, 3) in image pixels, in picture pixels."""
        return (points @ self.affine[:, :3].T + self.affine[:, 3]).astype(np.float32)


def rasterise(vertices: F32, triangles: I32, width: int, height: int, before: Fragments | None = None) -> Fragments:
    """The nearest triangle of the mesh at the centre of each pixel, of vertices (V, 3) and triangles (T, 3).

    With `before`, fragments of the same picture, only what lies before them.
    """
    check_shape("vertices", vertices, None, 3)
    check_shape("triangles", triangles, None, 3)
    index = np.full((height, width), -1, np.int32)
    depth = np.full((height, width), -np.inf, np.float32) if before is None else before.depth.copy()
    _rasterise(vertices, triangles, index, depth)
    return Fragments(index, depth)


def textured(fragments: Fragments, vertices: F32, triangles: I32, image: U8, uv: F32, colours: F32, weight: F32) -> U8:
    """Paint fragments, (H, W, 3): `image` at the interpolated uv, mixed with vertex colours by `weight`.

    uv (V, 2) are positions in image pixels, sampled bilinearly and mirrored beyond the edge (as OpenCV's
    BORDER_REFLECT_101); colours (V, 3) are 0 to 255; weight (V,) runs from 0, all image, to 1, all colours.
    Pixels that show no triangle are black.
    """
    out = np.zeros((*fragments.triangle.shape, 3), np.uint8)
    paint(fragments, vertices, triangles, image, uv, colours, weight, np.ones(len(vertices), np.float32), out)
    return out


def paint(
    fragments: Fragments,
    vertices: F32,
    triangles: I32,
    image: U8,
    uv: F32,
    colours: F32,
    weight: F32,
    opacity: F32,
    picture: U8,
) -> None:
    """Paint fragments into a picture (H, W, 3) as `textured` does, as opaque as `opacity` (V,), 0 to 1, says."""
    n = vertices.shape[0]
    check_shape("uv", uv, n, 2)
    check_shape("colours", colours, n, 3)
    check_shape("weight", weight, n)
    check_shape("opacity", opacity, n)
    _paint(fragments.triangle, vertices, triangles, image, uv, colours, weight, opacity, picture)


def interpolate(fragments: Fragments, vertices: F32, triangles: I32, values: F32) -> F32:
    """Values (V, C) of the vertices at every pixel, (H, W, C); NaN where no triangle is."""
    out = np.full((*fragments.triangle.shape, values.shape[1]), np.nan, np.float32)
    _interpolate(fragments.triangle, vertices, triangles, values, out)
    return out


def lambert(
    image: U8, vertices: F32, triangles: I32, colour: tuple[float, float, float] | F32, light: Floats, opacity: float
) -> U8:
    """The mesh in one matt colour (BGR), or one a vertex (V, 3), over `image`, lit from the direction `light` (3,)."""
    fragments = rasterise(vertices, triangles, image.shape[1], image.shape[0])
    towards = np.asarray(light, np.float64) / np.linalg.norm(light)
    facing = np.clip(normals(vertices, triangles) @ towards, 0, 1)
    shade = (AMBIENT + (1 - AMBIENT) * facing).astype(np.float32)[:, None] * np.array(colour, np.float32)
    painted = interpolate(fragments, vertices, triangles, shade)
    covered = (fragments.triangle >= 0)[..., None]
    mixed = np.where(covered, opacity * np.nan_to_num(painted) + (1 - opacity) * image, image)
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)


def normals(vertices: F32, triangles: I32) -> F32:
    """Unit normals (V, 3) that point out of the surface, each the mean over its triangles by area."""
    out = np.zeros_like(vertices, dtype=np.float32)
    _normals(vertices, triangles, out)
    return out


# --------------------------------------------------------------------------------------------- the kernels


@compiled(inline=True)
def _pixels(a, b, c, size):  # type: ignore[no-untyped-def]
    """First and last of `size` pixels between the least and the most of three numbers; last < first for none."""
    low, high = min(a, b, c) - _SLACK, max(a, b, c) + _SLACK
    if not (high >= 0.0 and low <= size - 1):
        return 0, -1
    return int(np.ceil(max(low, 0.0))), int(np.floor(min(high, size - 1.0)))


@compiled(inline=True)
def _inside(left, right, px, py, qx, qy, y):  # type: ignore[no-untyped-def]
    """The part of left..right on row y inside the edge p → q, where (q−p)×(r−p) ≤ 0, that is run ≤ (x − px)·rise."""
    rise = qy - py
    run = (qx - px) * (y - py)
    if rise > 0.0:
        left = max(left, px + run / rise - _SLACK)
    elif rise < 0.0:
        right = min(right, px + run / rise + _SLACK)
    elif run > _SLACK * abs(qx - px):
        left = right + 1.0
    return left, right


@compiled()
def _rasterise(vertices, triangles, index, depth):  # type: ignore[no-untyped-def]
    height, width = index.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = np.float64(vertices[a, 0]), np.float64(vertices[a, 1]), np.float64(vertices[a, 2])
        bx, by, bz = np.float64(vertices[b, 0]), np.float64(vertices[b, 1]), vertices[b, 2] - az
        cx, cy, cz = np.float64(vertices[c, 0]), np.float64(vertices[c, 1]), vertices[c, 2] - az
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if not area < 0.0:  # it faces away, or a corner is no number
            continue
        x0, x1 = _pixels(ax, bx, cx, width)
        y0, y1 = _pixels(ay, by, cy, height)
        if x0 > x1:
            continue
        slope_x = (bz * (cy - ay) - cz * (by - ay)) / area
        slope_y = (cz * (bx - ax) - bz * (cx - ax)) / area
        for y in range(y0, y1 + 1):
            left, right = np.float64(x0), np.float64(x1)
            left, right = _inside(left, right, ax, ay, bx, by, y)
            left, right = _inside(left, right, bx, by, cx, cy, y)
            left, right = _inside(left, right, cx, cy, ax, ay, y)
            if not left <= right:
                continue
            first, last = int(np.ceil(left)), int(np.floor(right))
            z = az + slope_y * (y - ay) + slope_x * (first - ax)
            for x in range(first, last + 1):
                if z > depth[y, x]:
                    depth[y, x] = z
                    index[y, x] = t
                z += slope_x


@compiled(inline=True)
def _weights(vertices, a, b, c, x, y):  # type: ignore[no-untyped-def]
    ax, ay = np.float64(vertices[a, 0]), np.float64(vertices[a, 1])
    bx, by = vertices[b, 0] - ax, vertices[b, 1] - ay
    cx, cy = vertices[c, 0] - ax, vertices[c, 1] - ay
    area = bx * cy - by * cx
    wb = ((x - ax) * cy - (y - ay) * cx) / area
    wc = (bx * (y - ay) - by * (x - ax)) / area
    return 1.0 - wb - wc, wb, wc


@compiled(inline=True)
def _reflect(i, n):  # type: ignore[no-untyped-def]
    if 0 <= i < n:
        return i
    if n == 1:
        return 0
    i = i % (2 * n - 2)
    return i if i < n else 2 * n - 2 - i


@compiled()
def _paint(index, vertices, triangles, image, uv, colours, weight, opacity, out):  # type: ignore[no-untyped-def]
    height, width = index.shape
    h, w = image.shape[0], image.shape[1]
    for y in range(height):
        for x in range(width):
            t = index[y, x]
            if t < 0:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            wa, wb, wc = _weights(vertices, a, b, c, x, y)
            u = wa * uv[a, 0] + wb * uv[b, 0] + wc * uv[c, 0]
            v = wa * uv[a, 1] + wb * uv[b, 1] + wc * uv[c, 1]
            u0, v0 = int(np.floor(u)), int(np.floor(v))
            fu, fv = u - u0, v - v0
            if 0 <= u0 < w - 1 and 0 <= v0 < h - 1:
                u1, v1 = u0 + 1, v0 + 1
            else:
                u1, v1 = _reflect(u0 + 1, w), _reflect(v0 + 1, h)
                u0, v0 = _reflect(u0, w), _reflect(v0, h)
            m = wa * weight[a] + wb * weight[b] + wc * weight[c]
            o = wa * opacity[a] + wb * opacity[b] + wc * opacity[c]
            k00, k01 = (1 - fu) * (1 - fv), fu * (1 - fv)
            k10, k11 = (1 - fu) * fv, fu * fv
            for ch in range(3):
                top = k00 * image[v0, u0, ch] + k01 * image[v0, u1, ch]
                value = top + k10 * image[v1, u0, ch] + k11 * image[v1, u1, ch]
                if m > 0.0:
                    plain = wa * colours[a, ch] + wb * colours[b, ch] + wc * colours[c, ch]
                    value += m * (plain - value)
                if o < 1.0:
                    value = out[y, x, ch] + o * (value - out[y, x, ch])
                out[y, x, ch] = np.uint8(min(max(value + 0.5, 0.0), 255.0))


@compiled()
def _interpolate(index, vertices, triangles, values, out):  # type: ignore[no-untyped-def]
    height, width = index.shape
    for y in range(height):
        for x in range(width):
            t = index[y, x]
            if t < 0:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            wa, wb, wc = _weights(vertices, a, b, c, x, y)
            for k in range(values.shape[1]):
                out[y, x, k] = wa * values[a, k] + wb * values[b, k] + wc * values[c, k]


@compiled()
def _normals(vertices, triangles, out):  # type: ignore[no-untyped-def]
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, vx = vertices[b, 0] - vertices[a, 0], vertices[c, 0] - vertices[a, 0]
        uy, vy = vertices[b, 1] - vertices[a, 1], vertices[c, 1] - vertices[a, 1]
        uz, vz = vertices[b, 2] - vertices[a, 2], vertices[c, 2] - vertices[a, 2]
        # y points down, which turns the cross product inside out
        nx, ny, nz = uz * vy - uy * vz, ux * vz - uz * vx, uy * vx - ux * vy
        for corner in range(3):
            v = triangles[t, corner]
            out[v, 0] += nx
            out[v, 1] += ny
            out[v, 2] += nz
    for v in range(out.shape[0]):
        length = np.sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2)
        if length > 0.0:
            for k in range(3):
                out[v, k] /= length
