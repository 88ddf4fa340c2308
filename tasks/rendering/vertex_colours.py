"""A colour for every vertex of a face: the photograph's where it shows the vertex, else the mirrored side's."""

from __future__ import annotations

from itertools import product

import numpy as np

from ddfa_batch.schemas.arrays import F32, U8, Floats
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.geometry.pose import rotation_matrix
from ddfa_batch.tasks.rendering.rasteriser import normals, rasterise
from ddfa_batch.tasks.rendering.stills import prepare
from ddfa_batch.tasks.rendering.surface import Surface

#: Directions from which a mesh is looked at to find its cavities, degrees of yaw and pitch, and pixels across it.
_YAWS, _PITCHES, _ACROSS = range(-100, 101, 25), range(-60, 61, 20), 256.0
#: A vertex this share of the mesh's size behind what a direction shows is not seen from there.
_BEHIND = 0.01
#: Share of the light of a flat surface that counts as full: lids, wings of the nose and lips stay as they are.
_FULL = 0.35


def vertex_colours(surface: Surface, image: U8, pose: Floats, shape: F32, exposed: F32 | None = None) -> U8:
    """Colours (V, 3), BGR, of the vertices of one face in `image` (H, W, 3).

    pose (3, 4) leads from the model to the image's pixels, shape (V, 3) is the face in model units (`face_shape`). What
    the picture hides takes the colour of the vertex opposite, shifted to meet what is seen around it, or grows from its
    neighbours; in cavities, where `exposed` (V,) is small, it is darkened by that.
    """
    still = prepare(surface, image, pose, shape)
    n = len(shape)
    colours = still.colours[:n].copy()
    unseen = still.doubt[:n] >= 1
    empty = unseen & (colours == 0).all(axis=1)
    both = empty & ~empty[surface.mirror]
    colours[both] = colours[surface.mirror[both]]
    if exposed is not None:
        colours[unseen] *= exposed[unseen, None]
    return np.asarray(np.clip(np.rint(colours), 0, 255), np.uint8)


def exposure(model: MorphableModel) -> F32:
    """How much light reaches each vertex (V,) of the mean face from all around, 0 in a cavity to 1 on open skin."""
    size = float(np.ptp(model.mean, axis=0).max())
    zoom = _ACROSS / size
    seen, possible = np.zeros(model.n_vertices), np.zeros(model.n_vertices)
    centre = (model.mean.min(axis=0) + model.mean.max(axis=0)) / 2
    side = int(1.5 * _ACROSS)
    for yaw, pitch in product(_YAWS, _PITCHES):
        turn = rotation_matrix(np.array([float(yaw)]), np.array([float(pitch)]), np.zeros(1))[0]
        placed = ((model.mean - centre) @ turn.T * [zoom, -zoom, zoom] + [side / 2, side / 2, 0]).astype(np.float32)
        facing = np.clip(normals(placed, model.triangles)[:, 2], 0, 1)
        depth = rasterise(placed, model.triangles, side, side).depth
        x, y = np.clip(np.rint(placed[:, :2]), 0, side - 1).astype(np.int64).T
        open_to = depth[y, x] - placed[:, 2] <= _BEHIND * _ACROSS
        seen += facing * open_to
        possible += facing
    return np.asarray(np.clip(seen / np.maximum(possible, 1e-9) / _FULL, 0, 1), np.float32)
