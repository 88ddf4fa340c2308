"""A small head made in code: half an ellipsoid with a nose, symmetric, with a few ways to change its shape."""

from __future__ import annotations

from functools import cache

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, U8
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.rendering.surface import Surface

N_SHAPE, N_EXPRESSION = 4, 2
#: Model units: a face is about 160,000 µm wide, as in BFM.
HALF = np.array([75_000.0, 100_000.0, 80_000.0])
#: The photograph and the scale at which the head fills about half of it.
SIZE, F = 200, 50 / 75_000


@cache
def head(rings: int = 24, sectors: int = 48) -> MorphableModel:
    """A model of about rings × sectors vertices; x → −x maps its vertices onto themselves."""
    polar = np.linspace(0, 0.62 * np.pi, rings + 1)[1:]
    around = 2 * np.pi * np.arange(sectors) / sectors
    p, a = np.meshgrid(polar, around, indexing="ij")
    unit = np.stack([np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p)], axis=-1).reshape(-1, 3)
    unit = np.concatenate([[[0.0, 0.0, 1.0]], unit])
    mean = unit * HALF
    nose = np.exp(-((unit[:, 0] / 0.2) ** 2) - ((unit[:, 1] + 0.1) / 0.3) ** 2)
    mean[:, 2] += 28_000 * nose * (unit[:, 2] > 0)
    triangles = [(0, 1 + s, 1 + (s + 1) % sectors) for s in range(sectors)]
    for ring in range(rings - 1):
        for s in range(sectors):
            here, there = 1 + ring * sectors + s, 1 + ring * sectors + (s + 1) % sectors
            if sectors // 4 <= s < 3 * sectors // 4:  # quads of the left half are cut the other way
                triangles += [(here, here + sectors, there), (there, here + sectors, there + sectors)]
            else:
                triangles += [(here, here + sectors, there + sectors), (here, there + sectors, there)]
    wider = [unit * axis for axis in np.eye(3) * 4_000]
    longer_nose = nose[:, None] * [0, 0, 4_000]
    opened = [unit * [0, 2_000 * k, 0] * (unit[:, 1:2] < 0) for k in (1, -2)]
    basis = np.stack([*wider, longer_nose, *opened])
    front = np.flatnonzero(unit[:, 2] > 0.1)
    return MorphableModel(
        mean=mean.astype(np.float32),
        basis=basis.astype(np.float32),
        n_shape=N_SHAPE,
        triangles=np.array(triangles, np.int32),
        landmarks=front[np.linspace(0, len(front) - 1, 68).astype(int)].astype(np.int32),
        topology="test head",
        unit="micrometre",
    )


@cache
def surface() -> Surface:
    return Surface.of(head())


def image_pose_of(rotation: F64, scale: float = F, x: float = SIZE / 2, y: float = SIZE / 2) -> F64:
    """T (3, 4) in image pixels of a head of a rotation given with y up."""
    flip = np.diag([1.0, -1.0, 1.0])
    return np.concatenate([flip @ (scale * rotation), [[x], [y], [0.0]]], axis=1)


def photograph(seed: int = 0, size: int = SIZE) -> U8:
    """A smooth random picture (size, size, 3) without a flat spot."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    out = np.zeros((size, size, 3))
    for channel in range(3):
        for _ in range(6):
            u, v, w = rng.uniform(-20, 20), rng.uniform(-20, 20), rng.uniform(0, 7)
            out[..., channel] += np.sin(u * x + v * y + w)
    return np.asarray(np.clip(128 + 25 * out, 2, 253), np.uint8)


def coordinates(size: int = SIZE) -> U8:
    """A picture whose blue is x and whose green is y (for sizes up to 255): texture that says where it is from."""
    y, x = np.mgrid[:size, :size]
    return np.stack([x, y, np.full_like(x, 7)], axis=-1).astype(np.uint8)


def params(alpha: F32 | None = None) -> F32:
    """Parameters with no pose."""
    out = np.zeros(12 + N_SHAPE + N_EXPRESSION, np.float32)
    if alpha is not None:
        out[12:] = alpha
    return out
