"""Eyeballs and teeth, which MakeHuman's targets of shape mostly leave where they are, moved with lids and lips."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from scipy.spatial import cKDTree

from ddfa_batch.schemas.arrays import F32, F64, I64
from recipes.builtin.head_model.region import Region

Moves = TypeVar("Moves", F32, F64)

#: Skin this near to an eyeball is its lid, mm.
_LID = 2.2
#: The inner lips among the 68 points.
_INNER_LIPS = slice(60, 68)


def seated(moves: Moves, region: Region, points: F64, landmarks: I64) -> Moves:
    """Displacements (M, V, 3) of a mesh (V, 3) in which balls keep to their lids and teeth to the inner lips.

    A ball moves with the mean of its lids and grows as these grow in width.
    """
    out = moves.copy()
    out[:, region.teeth] = moves[:, landmarks[_INNER_LIPS]].mean(axis=1, keepdims=True)
    skin = np.flatnonzero(~region.ball & ~region.teeth)
    for side in (points[:, 0] > 0, points[:, 0] < 0):
        ball = np.flatnonzero(region.ball & side)
        lids = skin[cKDTree(points[ball]).query(points[skin])[0] < _LID]
        middle = points[lids].mean(axis=0)
        across = points[lids, 0] - middle[0]
        growth = moves[:, lids, 0] @ across / (across @ across)
        out[:, ball] = moves[:, lids].mean(axis=1)[:, None] + growth[:, None, None] * (points[ball] - middle)
    return out
