"""A colour for every part of a face of which a photograph shows some (Zhu et al., CVPR 2016, fill by symmetry)."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F32, U8, Bools, Floats
from ddfa_batch.tasks.rendering.compiled import compiled
from ddfa_batch.tasks.rendering.surface import Surface

#: Cosine between surface and viewer above which its pixels are the face's without question …
_CORE = 0.5
#: … and between which doubt rises from 0 to 1 towards the outline, where a misfit of a pixel or two paints
#: background on the cheek.
_GRAZING = (0.25, 0.12)
#: Grey levels by which pixels between the core and the outline may differ from what the core would lead one to
#: expect there: from the first on doubt rises, at the second they are background, or hair.
_STRANGE = (40.0, 80.0)
#: Doubt above which a vertex has no colour of its own.
_TRUSTED = 0.3
#: Rounds in which doubt spreads to neighbours, to leave no speckles.
_SPREAD = 3
#: Sweeps that smooth a filled surface, each replacing every colour by the mean of those around it.
_SWEEPS = 12


def sampled(image: U8, mesh: F32) -> F32:
    """The image's colours (V, 3) at vertices (V, 3) in its pixels, bilinear, the edge repeated."""
    seen = np.empty((len(mesh), 3), np.float32)
    _sample(image, mesh, seen)
    return seen


def doubted(surface: Surface, image: U8, mesh: F32, facing: F32, hidden: Bools, seen: F32, within: Bools) -> F32:
    """How unlikely it is (V,), 0 to 1, that the pixel at a vertex shows the face; 1 where it is hidden."""
    h, w = image.shape[:2]
    inside = (mesh[:, 0] >= 0) & (mesh[:, 0] <= w - 1) & (mesh[:, 1] >= 0) & (mesh[:, 1] <= h - 1)
    visible = inside & ~hidden
    core = visible & within & (facing > _CORE)
    expected = np.where(core[:, None], seen, 0).astype(np.float32)
    _grow(expected, core, visible & ~core, surface.starts, surface.neighbours, 1)
    strange = np.maximum.reduce(np.abs(seen - expected).T)
    doubt = smoothstep((strange - _STRANGE[0]) / (_STRANGE[1] - _STRANGE[0]))
    doubt = np.maximum(doubt, smoothstep((facing - _GRAZING[0]) / (_GRAZING[1] - _GRAZING[0])))
    doubt = np.where(core, 0, np.where(visible, doubt, 1)).astype(np.float32)
    for _ in range(_SPREAD):
        spread = np.empty_like(doubt)
        _mean_of_neighbours(doubt, surface.starts, surface.neighbours, spread)
        doubt = spread
    return np.where(core, 0, np.where(visible, doubt, 1)).astype(np.float32)


def completed(surface: Surface, seen: F32, doubt: F32) -> F32:
    """A colour for every vertex (V, 3): its own where there is little `doubt`, or the mirrored, or its neighbours'.

    A part that is joined to nothing known has the picture's colours.
    """
    trusted = doubt < _TRUSTED
    if not trusted.any():
        return seen
    both = trusted[surface.mirror]
    colours = np.where(trusted[:, None], seen, 0).astype(np.float32)
    opposite = seen[surface.mirror]
    # the membrane: what must be added to the other side's colours for them to meet this side's
    membrane = np.where((trusted & both)[:, None], seen - opposite, 0).astype(np.float32)
    borrowed = both & ~trusted
    _grow(membrane, trusted & both, borrowed, surface.starts, surface.neighbours, _SWEEPS)
    colours[borrowed] = np.clip(opposite[borrowed] + membrane[borrowed], 0, 255)
    known = trusted | borrowed
    _grow(colours, known, ~known, surface.starts, surface.neighbours, _SWEEPS)
    # parts of which nothing is known, such as teeth behind lips: what the picture shows before them
    lost = ~known & (colours == 0).all(axis=1)
    colours[lost] = seen[lost]
    return colours


def smoothstep(t: Floats) -> Floats:
    """Rise smoothly from 0 at t ≤ 0 to 1 at t ≥ 1."""
    t = np.clip(t, 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


# --------------------------------------------------------------------------------------------- the kernels


@compiled()
def _sample(image, mesh, out):  # type: ignore[no-untyped-def]
    h, w = image.shape[0], image.shape[1]
    for v in range(mesh.shape[0]):
        x, y = min(max(mesh[v, 0], 0.0), w - 1.0), min(max(mesh[v, 1], 0.0), h - 1.0)
        x0, y0 = int(x), int(y)
        x1, y1 = min(x0 + 1, w - 1), min(y0 + 1, h - 1)
        fx, fy = x - x0, y - y0
        for ch in range(3):
            top = image[y0, x0, ch] * (1 - fx) + image[y0, x1, ch] * fx
            out[v, ch] = top * (1 - fy) + (image[y1, x0, ch] * (1 - fx) + image[y1, x1, ch] * fx) * fy


@compiled()
def _mean_of_neighbours(values, starts, neighbours, out):  # type: ignore[no-untyped-def]
    for v in range(values.shape[0]):
        total = values[v]
        for e in range(starts[v], starts[v + 1]):
            total += values[neighbours[e]]
        out[v] = total / (1 + starts[v + 1] - starts[v])


@compiled()
def _grow(values, known, wanted, starts, neighbours, sweeps):  # type: ignore[no-untyped-def]
    """Fill `values` (V, 3) in place where `wanted`: outwards from what is known, ring by ring, then smoothed.

    No vertex depends on the order in which its ring is filled, so mirrored faces are filled alike.
    """
    n = values.shape[0]
    order = np.empty(n, np.int32)
    fresh = np.empty((n, 3), np.float32)
    reached = ~wanted
    done = known.copy()
    head, tail = 0, 0
    for v in range(n):
        if known[v]:
            tail = _reach(v, order, reached, tail, starts, neighbours)
    while head < tail:
        end = tail
        for i in range(head, end):
            _average(values, order[i], done, starts, neighbours, fresh[i])
        for i in range(head, end):
            values[order[i]] = fresh[i]
            done[order[i]] = True
        for i in range(head, end):
            tail = _reach(order[i], order, reached, tail, starts, neighbours)
        head = end
    for _ in range(sweeps):
        for i in range(tail):
            _average(values, order[i], done, starts, neighbours, fresh[i])
        for i in range(tail):
            values[order[i]] = fresh[i]


@compiled(inline=True)
def _reach(v, order, reached, tail, starts, neighbours):  # type: ignore[no-untyped-def]
    for e in range(starts[v], starts[v + 1]):
        u = neighbours[e]
        if not reached[u]:
            reached[u] = True
            order[tail] = u
            tail += 1
    return tail


@compiled(inline=True)
def _average(values, v, usable, starts, neighbours, out):  # type: ignore[no-untyped-def]
    blue, green, red, count = np.float32(0), np.float32(0), np.float32(0), 0
    for e in range(starts[v], starts[v + 1]):
        u = neighbours[e]
        if usable[u]:
            blue += values[u, 0]
            green += values[u, 1]
            red += values[u, 2]
            count += 1
    share = np.float32(1.0) / np.float32(max(count, 1))
    out[0], out[1], out[2] = blue * share, green * share, red * share
