"""The model put together: neutral face, identities carried to the surface, expressions."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64
from ddfa_batch.schemas.morphable import MorphableModel
from recipes.builtin.face_model.design import TOPOLOGY, UNIT
from recipes.builtin.face_model.expressions import expressions
from recipes.builtin.face_model.identities import Measured
from recipes.builtin.face_model.template import Template, build_template


def build(measured: Measured, template: Template | None = None) -> MorphableModel:
    """The built-in model: neutral face, 40 measured identities carried to the surface, 10 designed expressions."""
    face = template or build_template()
    neutral = face.vertices + face.carry(measured.offset[None])[0]
    neutral = (neutral + neutral[face.mirror] * [-1, 1, 1]) / 2
    identities = face.carry(measured.moves)
    mirrored = identities[:, face.mirror] * [-1, 1, 1]
    sign = np.sign((identities * mirrored).sum(axis=(1, 2)))[:, None, None]
    identities = (identities + sign * mirrored) / 2
    basis = np.concatenate([identities, expressions(face)])
    return MorphableModel(
        mean=neutral.astype(np.float32),
        basis=basis.astype(np.float32),
        n_shape=len(identities),
        triangles=face.triangles,
        landmarks=face.landmarks.astype(np.int32),
        topology=TOPOLOGY,
        unit=UNIT,
        uv=face.uv,
        ncc=_position_colours(neutral),
    )


def _position_colours(vertices: F64) -> F32:
    """Normalised coordinate code (V, 3): every axis of the neutral face scaled to [0, 1] (Zhu et al., 2016)."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    colours: F32 = ((vertices - low) / (high - low)).astype(np.float32)
    return colours
