"""How much light reaches a face's vertices: little in the mouth, all of it on open skin."""

from __future__ import annotations

from itertools import product

import numpy as np

from ddfa_batch.schemas.arrays import F32
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.geometry.pose import rotation_matrix
from ddfa_batch.tasks.rendering.rasteriser import normals, rasterise

#: Directions from which a mesh is looked at to find its cavities, degrees of yaw and pitch, and pixels across it.
_YAWS, _PITCHES, _ACROSS = range(-100, 101, 25), range(-60, 61, 20), 256.0
#: A vertex this share of the mesh's size behind what a direction shows is not seen from there.
_BEHIND = 0.01
#: Share of the light of a flat surface that counts as full: lids, wings of the nose and lips stay as they are.
_FULL = 0.35


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
