"""Light that shows a face's shape: a key, a fill and a rim, light of the sky, and the relief of the surface itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, Floats
from ddfa_batch.tasks.rendering.compiled import compiled
from ddfa_batch.tasks.rendering.topology import Topology

#: Grey clay, BGR, 0 to 1.
CLAY = (0.80, 0.83, 0.86)


@dataclass(frozen=True)
class Light:
    """A lamp far away."""

    #: Towards it, (3,): x to the right, y down, z to the viewer; of any length.
    towards: tuple[float, float, float]
    #: BGR, 1 being as bright as white.
    colour: tuple[float, float, float]


#: From the upper left and before, warm; from the right and a little below, cool; from behind on either side.
KEY = Light((-0.55, -0.65, 0.62), (0.78, 0.86, 0.92))
FILL = Light((0.85, 0.15, 0.50), (0.24, 0.19, 0.15))
RIMS = (Light((-0.80, -0.35, -0.45), (0.35, 0.33, 0.30)), Light((0.85, -0.30, -0.40), (0.55, 0.52, 0.48)))
#: Light of the sky and of the ground, BGR.
SKY, GROUND = (0.26, 0.23, 0.21), (0.09, 0.10, 0.11)
#: How glossy clay is: the strength and the sharpness of highlights.
GLOSS, SHARPNESS = 0.10, 12
#: How much hollows are darkened and ridges lightened, a share for a curvature of one over the face's radius each way …
_RELIEF = 0.03
#: … and the least and the most that this makes of the light.
RELIEF_RANGE = (0.45, 1.22)
#: How much lamps are brightened in the middle tones, a share: eyes see shape there.
LIFT = 0.3


def lit(topology: Topology, mesh: F32, facing: F32, albedo: Floats) -> F32:
    """Colours (V, 3) BGR, 0 to 255, of vertices (V, 3) in pixels with unit normals (V, 3); albedo (3,) or (V, 3)."""
    out = np.empty((len(mesh), 3), np.float32)
    colours = np.broadcast_to(np.asarray(albedo, np.float32), (len(mesh), 3))
    _lit(facing, relief(topology, mesh, facing), topology.openness, colours, _LAMPS, out)
    return out


def relief(topology: Topology, mesh: F32, facing: F32) -> F32:
    """What curvature makes of the light (V,), within `RELIEF_RANGE`: hollows of a mesh (V, 3) are darker."""
    surface = topology.surface
    out = np.empty(len(mesh), np.float32)
    _relief(mesh, facing, surface.starts, surface.neighbours, _radius(mesh), out)
    return out


def _radius(mesh: F32) -> float:
    """About half the extent of a face, pixels: the root mean square distance of its vertices from their mean."""
    return float(np.sqrt(((mesh - mesh.mean(axis=0)) ** 2).sum(axis=1).mean())) + 1e-6


def _lamps() -> F64:
    """Lamps (4, 6): unit direction and colour; key, fill, rims."""
    rows = [(*(np.array(lamp.towards) / np.linalg.norm(lamp.towards)), *lamp.colour) for lamp in (KEY, FILL, *RIMS)]
    return np.array(rows)


_LAMPS = _lamps()


# --------------------------------------------------------------------------------------------- the kernels


@compiled()
def _relief(mesh, facing, starts, neighbours, radius, out):  # type: ignore[no-untyped-def]
    """Factors (V,) of light by curvature: the mean, over a vertex's edges, of how far they rise above its plane."""
    for v in range(mesh.shape[0]):
        total, count = 0.0, 0
        for e in range(starts[v], starts[v + 1]):
            u = neighbours[e]
            dx, dy, dz = mesh[u, 0] - mesh[v, 0], mesh[u, 1] - mesh[v, 1], mesh[u, 2] - mesh[v, 2]
            square = dx * dx + dy * dy + dz * dz
            if square > 0.0:
                total += 2.0 * (dx * facing[v, 0] + dy * facing[v, 1] + dz * facing[v, 2]) / square
                count += 1
        hollow = total / max(count, 1) * radius
        out[v] = min(max(1.0 - _RELIEF * hollow, RELIEF_RANGE[0]), RELIEF_RANGE[1])


@compiled()
def _lit(facing, relief, openness, albedo, lamps, out):  # type: ignore[no-untyped-def]
    hx, hy, hz = lamps[0, 0], lamps[0, 1], lamps[0, 2] + 1.0  # halfway between key and viewer
    length = np.sqrt(hx * hx + hy * hy + hz * hz)
    for v in range(facing.shape[0]):
        nx, ny, nz = facing[v, 0], facing[v, 1], facing[v, 2]
        key = max(nx * lamps[0, 0] + ny * lamps[0, 1] + nz * lamps[0, 2], 0.0)
        fill = max(nx * lamps[1, 0] + ny * lamps[1, 1] + nz * lamps[1, 2], 0.0)
        grazing = (1.0 - min(max(nz, 0.0), 1.0)) ** 2
        left = grazing * max(nx * lamps[2, 0] + ny * lamps[2, 1] + nz * lamps[2, 2], 0.0)
        right = grazing * max(nx * lamps[3, 0] + ny * lamps[3, 1] + nz * lamps[3, 2], 0.0)
        up = 0.5 - 0.5 * ny
        gloss = GLOSS * max((nx * hx + ny * hy + nz * hz) / length, 0.0) ** SHARPNESS
        dim = 0.25 + 0.75 * openness[v]  # lamps reach into hollows better than the sky
        for ch in range(3):
            sky = (GROUND[ch] + up * (SKY[ch] - GROUND[ch])) * openness[v]
            lamp = key * lamps[0, 3 + ch] + fill * lamps[1, 3 + ch] + left * lamps[2, 3 + ch] + right * lamps[3, 3 + ch]
            light = albedo[v, ch] * relief[v] * (sky + dim * lamp) + dim * relief[v] * gloss
            light = min(light, 1.0)
            out[v, ch] = 255.0 * light * (1.0 + LIFT - LIFT * light)
