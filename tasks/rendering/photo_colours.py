"""What colours a photograph gives a mesh: its own where a vertex is seen, else by symmetry or from what lies around."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F32, U8, Bools
from ddfa_batch.tasks.rendering.completion import completed, doubted, sampled
from ddfa_batch.tasks.rendering.coverage import Window
from ddfa_batch.tasks.rendering.rasteriser import Fragments, normals, rasterise, textured
from ddfa_batch.tasks.rendering.topology import Topology

#: How far behind the first surface a vertex is hidden, as a share of the mesh's height.
_BEHIND = 0.02


def photo_colours(topology: Topology, image: U8, mesh: F32) -> tuple[F32, F32]:
    """Colours (V, 3) BGR, 0 to 255, of a mesh (V, 3) over its photograph, and how doubtful (V,) its own pixels are."""
    facing = normals(mesh, topology.triangles)
    seen = sampled(image, mesh)
    everywhere = np.ones(len(mesh), np.bool_)
    doubt = doubted(topology.surface, image, mesh, facing[:, 2], _hidden(topology, mesh), seen, everywhere)
    return completed(topology.surface, seen, doubt), doubt


def _hidden(topology: Topology, mesh: F32) -> Bools:
    """Which vertices (V,) face away, or lie behind others."""
    low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
    window = Window(*np.floor(low).astype(int).tolist(), *(np.ceil(high - low).astype(int) + 2).tolist())
    placed, fragments = window.samples(mesh, topology.triangles, 1)
    x, y = np.clip(np.rint(placed[:, :2]), 0, [window.width - 1, window.height - 1]).astype(int).T
    return np.asarray(placed[:, 2] < fragments.depth[y, x] - _BEHIND * float(np.ptp(mesh[:, 1])))


def uv_texture(topology: Topology, image: U8, mesh: F32, size: int) -> U8:
    """The photograph unwrapped to the model's UV coordinates, (size, size, 3), upright; black where there is no face.

    Raises `ValueError` where the model has no UV coordinates.
    """
    if topology.uv is None:
        raise ValueError("the model has no UV coordinates")
    colours, doubt = photo_colours(topology, image, mesh)
    down = 1 - topology.uv[:, 1] if topology.v_upwards else topology.uv[:, 1]
    flat = np.stack([topology.uv[:, 0] * size - 0.5, down * size - 0.5, np.zeros(len(mesh))], axis=1).astype(np.float32)
    both = np.concatenate([topology.triangles, topology.triangles[:, ::-1]])  # islands may be mirrored
    shown: Fragments = rasterise(flat, both, size, size)
    return textured(shown, flat, both, image, np.ascontiguousarray(mesh[:, :2]), colours, np.clip(doubt, 0, 1))
