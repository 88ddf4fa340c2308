"""What colours a photograph gives a mesh: its own where a vertex is seen, else by symmetry or from what lies around."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, U8, Bools
from ddfa_batch.tasks.rendering.rasteriser import Fragments, rasterise, textured
from ddfa_batch.tasks.rendering.stills import prepare
from ddfa_batch.tasks.rendering.topology import Topology

#: Pixels by which a texture goes on beyond its edge, where that is asked for.
_MARGIN = 8


def photo_colours(topology: Topology, image: U8, mesh: F32) -> tuple[F32, F32]:
    """Colours (V, 3) BGR, 0 to 255, of a mesh (V, 3) over its photograph, and how doubtful (V,) its own pixels are.

    As face profiling colours a still (`stills.prepare`), which tells the face from what lies around it.
    """
    affine = _affine(topology.mean, mesh)
    shape = (mesh - affine[:, 3]) @ np.linalg.inv(affine[:, :3]).T
    still = prepare(topology.surface, image, affine, shape.astype(np.float32))
    return still.colours[: len(mesh)], still.doubt[: len(mesh)]


def _affine(mean: F32, mesh: F32) -> F64:
    """The affine map (3, 4) that brings the mean face (V, 3) nearest to a mesh (V, 3), in the least squares."""
    ones = np.ones((len(mean), 1))
    found, *_ = np.linalg.lstsq(np.concatenate([mean, ones], axis=1), mesh.astype(np.float64))
    return np.asarray(found.T)


def uv_texture(topology: Topology, image: U8, mesh: F32, size: int, margin: bool = False) -> U8:
    """The photograph unwrapped to the model's UV coordinates, (size, size, 3), upright; black where there is no face.

    With a `margin` the colours at its edge go on beyond it, for those who interpolate there. Raises `ValueError` where
    the model has no UV coordinates.
    """
    uv = topology.uv_down()
    colours, doubt = photo_colours(topology, image, mesh)
    flat = np.concatenate([uv * size - 0.5, np.zeros((len(mesh), 1))], axis=1).astype(np.float32)
    both = np.concatenate([topology.triangles, topology.triangles[:, ::-1]])  # islands may be mirrored
    shown: Fragments = rasterise(flat, both, size, size)
    texture = textured(shown, flat, both, image, np.ascontiguousarray(mesh[:, :2]), colours, np.clip(doubt, 0, 1))
    return _with_margin(texture, shown.triangle >= 0) if margin else texture


def _with_margin(texture: U8, known: Bools) -> U8:
    """The texture with the colours at the edge of what is `known` (S, S) spread over some pixels around it."""
    texture, there = texture.copy(), known.astype(np.float32)
    for _ in range(_MARGIN):
        near = cv2.blur(there, (3, 3))
        spread = cv2.blur(texture * there[..., None], (3, 3)) / np.maximum(near, 1e-6)[..., None]
        fresh = (there == 0) & (near > 1e-6)
        texture[fresh] = np.rint(spread[fresh]).astype(np.uint8)
        there[fresh] = 1
    return texture
