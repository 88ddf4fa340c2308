"""A photograph made ready for face profiling: what of its face can be seen, what colours the rest gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, U8, Bools, Floats, check_shape
from ddfa_batch.schemas.errors import DdfaError
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.rendering.completion import completed, doubted, sampled
from ddfa_batch.tasks.rendering.outline import Rays, SolidView, rays_of
from ddfa_batch.tasks.rendering.rasteriser import Viewport, normals, rasterise
from ddfa_batch.tasks.rendering.surface import N_RAYS, N_RINGS, Surface

#: A vertex within this share of the way to the outline can be beyond doubt; farther out an ear may face the viewer.
_WITHIN = 0.8
#: A vertex this share of the face's radius behind the z-buffer is hidden.
_HIDDEN = 0.03
#: Pixels across the face in the pass that finds out what the still shows.
_VISIBILITY_SIZE = 400.0


Rows = TypeVar("Rows", bound="np.ndarray[Any, Any]")


@dataclass(frozen=True)
class Still:
    """A photograph made ready for any number of frames."""

    #: (H, W, 3) BGR.
    image: U8
    #: (3, 4) in image pixels, true in depth.
    pose: F64
    #: (V + M + S, 3), face, lining and skirt, in image pixels.
    mesh: F32
    #: (V + M + S, 3), of the mesh; 0 on the lining, which faces nowhere, so that nothing of it opens or hides.
    normals: F32
    #: (3,) pixels, about which the head turns.
    centre: F64
    #: (V + M + S + anchors, 3), 0 to 255: completed colours of the whole surface.
    colours: F32
    #: (V + M + S,): turned away or behind something.
    hidden: Bools
    #: (V + M + S,), 0 to 1: that a pixel shows something else than the face.
    doubt: F32
    #: Anchors of the background.
    rays: Rays
    #: Of a ball about the centre that holds the mesh, in pixels.
    radius: float


def prepare(surface: Surface, image: U8, pose: Floats, shape: F32) -> Still:
    """Make a still ready for any number of frames; pose (3, 4) to its pixels, shape (V, 3) in model units.

    `pose` should be true in depth (`motion.true_depth`). The image is BGR, (H, W, 3). Raises `DdfaError` where
    pose or shape are not finite.
    """
    check_shape("image", image, None, None, 3)
    check_shape("pose", pose, 3, 4)
    check_shape("shape", shape, surface.mirror.shape[0], 3)
    T = np.asarray(pose, np.float64)
    mesh = (shape @ T[:, :3].T + T[:, 3]).astype(np.float32)
    if not np.isfinite(mesh).all():
        raise DdfaError("The still's parameters give a face that is not finite.")
    facing = normals(mesh, surface.triangles[: surface.n_face_triangles])
    solid = _solid_view(surface, mesh, T[:, :3] @ surface.centre + T[:, 3])
    hidden = _hidden(solid, mesh, facing)
    rays = rays_of(surface, mesh, facing, T, (image.shape[0], image.shape[1]), solid)
    seen = sampled(image, mesh)
    doubt = doubted(surface, image, mesh, facing[:, 2], hidden, seen, _within(mesh, solid.centre, rays.outline))
    colours = completed(surface, seen, doubt)
    edge = surface.skirt.edge
    skirt = (mesh[edge] + surface.skirt.offset @ T[:, :3].T).astype(np.float32)
    n_lined, n_anchors = len(surface.lined), N_RINGS * N_RAYS
    return Still(
        image=image,
        pose=T,
        mesh=np.concatenate([mesh, mesh[surface.lined], skirt]),
        normals=_joined(facing, n_lined, facing[edge]),
        centre=solid.centre,
        colours=_joined(colours, n_lined, np.concatenate([colours[edge], np.zeros((n_anchors, 3), np.float32)])),
        hidden=_joined(hidden, n_lined, _hidden(solid, skirt, facing[edge])),
        doubt=_joined(doubt, n_lined, doubt[edge]),
        rays=rays,
        radius=solid.radius,
    )


def _joined(values: Rows, n: int, more: Rows) -> Rows:
    """Values (V, …), n rows of zeros, and more rows."""
    return cast(Rows, np.concatenate([values, np.zeros((n, *values.shape[1:]), values.dtype), more]))


def face_shape(model: MorphableModel, params: Floats) -> F32:
    """S = S̄ + A·α (eq. 1), (V, 3) in model units, of one face's params (P,): what stays the same in a clip."""
    alpha = model.layout.coefficients(np.asarray(params, np.float32)[None])[0]
    return np.asarray(model.mean + np.tensordot(alpha, model.basis, axes=1), np.float32)


def _solid_view(surface: Surface, mesh: F32, centre: F64) -> SolidView:
    """The face in the square around it, at `_VISIBILITY_SIZE` pixels or as many as the still has, if fewer."""
    radius = max(float(np.sqrt(((mesh - centre) ** 2).sum(axis=1).max())), 1.0)
    size = int(min(np.ceil(2 * radius) + 2, _VISIBILITY_SIZE))
    zoom = size / (2 * radius + 2)
    view = Viewport(float(centre[0]) - radius - 1, float(centre[1]) - radius - 1, zoom, zoom, size, size)
    pictured = view.place(mesh)
    solid = np.concatenate([pictured, pictured[surface.lined]])
    fragments = rasterise(solid, surface.triangles[: surface.n_solid_triangles], size, size)
    return SolidView(centre, radius, view, fragments)


def _hidden(solid: SolidView, mesh: F32, facing: F32) -> Bools:
    """Vertices (V,) of the mesh that face away from the viewer or lie behind others."""
    pictured, depth = solid.view.place(mesh), solid.fragments.depth
    height, width = depth.shape
    x, y = np.clip(np.rint(pictured[:, :2]), 0, [width - 1, height - 1]).astype(np.int64).T
    behind = depth[y, x] - pictured[:, 2] > _HIDDEN * _VISIBILITY_SIZE / 2
    return np.asarray((facing[:, 2] <= 0) | behind)


def _within(mesh: F32, centre: F64, outline: F64) -> Bools:
    """Vertices (V,) well within the outline."""
    x, y = (mesh[:, :2] - centre[:2]).T
    ray = np.rint(np.arctan2(y, x) * (N_RAYS / (2 * np.pi))).astype(np.int64) % N_RAYS
    return np.asarray(np.hypot(x, y) < _WITHIN * outline[ray])
