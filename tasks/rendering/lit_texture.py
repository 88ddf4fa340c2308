"""A mesh in the colours of its photograph, which keep every pixel's detail, in the light that clay is shown in."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.tasks.rendering.coverage import cover_with_pixels
from ddfa_batch.tasks.rendering.lighting import CLAY, lit
from ddfa_batch.tasks.rendering.photo_colours import photo_colours
from ddfa_batch.tasks.rendering.rasteriser import normals
from ddfa_batch.tasks.rendering.topology import Topology

#: The percentile of the light on what faces the viewer that leaves the photograph as bright as it is.
_UNCHANGED = 85


def lay_lit(picture: U8, image: U8, mesh: F32, topology: Topology) -> None:
    """Paint a mesh (V, 3) into a picture (H, W, 3) with the texture of `image`, the photograph as it was."""
    colours, doubt = photo_colours(topology, image, mesh)
    light = light_on(topology, mesh)
    cover_with_pixels(picture, image, mesh, topology.triangles, colours, doubt, light, topology.opacity)


def light_on(topology: Topology, mesh: F32) -> F32:
    """The light on clay, a factor a channel (V, 3), such that it brightens little and darkens the rest.

    A photograph has light of its own: brightened as much as darkened, skin would burn out.
    """
    facing, clay = normals(mesh, topology.triangles), np.array(CLAY, np.float32)
    light = lit(topology, mesh, facing, clay) / clay
    bright = np.percentile(light[facing[:, 2] > 0], _UNCHANGED) if (facing[:, 2] > 0).any() else 255.0
    return np.asarray(light / max(float(bright), 1e-6), np.float32)
