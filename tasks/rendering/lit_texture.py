"""A mesh in the colours of its photograph, which keep every pixel's detail, in the light that clay is shown in."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.tasks.rendering.coverage import Window, cover
from ddfa_batch.tasks.rendering.lighting import CLAY, lit
from ddfa_batch.tasks.rendering.photo_colours import photo_colours
from ddfa_batch.tasks.rendering.rasteriser import normals
from ddfa_batch.tasks.rendering.topology import Topology

#: The grey level that stands for light which changes nothing; twice as bright is the most that is told.
_NEUTRAL = 127.5
#: The percentile of the light on what faces the viewer that leaves the photograph as bright as it is.
_UNCHANGED = 85


def lay_lit(picture: U8, image: U8, mesh: F32, topology: Topology) -> None:
    """Paint a mesh (V, 3) into a picture (H, W, 3) with the texture of `image`, the photograph as it was."""
    window = Window.around(mesh, picture)
    if not (window.width and window.height):
        return
    placed = mesh - np.array([window.x0, window.y0, 0], np.float32)
    colours, doubt = photo_colours(topology, image, mesh)
    skin = window.of(image).copy()
    cover(skin, placed, topology.triangles, colours, np.clip(doubt, 0, 1))
    light = np.full_like(skin, round(_NEUTRAL))
    shown = light_on(topology, mesh) * _NEUTRAL
    everywhere = np.ones(len(mesh), np.float32)
    cover(light, placed, topology.triangles, np.clip(shown, 0, 255).astype(np.float32), everywhere)
    share = np.zeros_like(skin)
    cover(share, placed, topology.triangles, np.full((len(mesh), 3), 255, np.float32), topology.opacity)
    opaque = share / np.float32(255)
    under = window.of(picture)
    under[:] = np.rint(np.clip(under + opaque * (skin * (light / np.float32(_NEUTRAL)) - under), 0, 255))


def light_on(topology: Topology, mesh: F32) -> F32:
    """The light on clay, a factor a channel (V, 3), such that it brightens little and darkens the rest.

    A photograph has light of its own: brightened as much as darkened, skin would burn out.
    """
    facing, clay = normals(mesh, topology.triangles), np.array(CLAY, np.float32)
    light = lit(topology, mesh, facing, clay) / clay
    bright = np.percentile(light[facing[:, 2] > 0], _UNCHANGED) if (facing[:, 2] > 0).any() else 255.0
    return np.asarray(light / max(float(bright), 1e-6), np.float32)
