"""What pictures of a model's meshes need to know of it, once per process: its edge, its hollows, its lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I32, Bools
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.rendering.rasteriser import normals, rasterise
from ddfa_batch.tasks.rendering.surface import Surface

#: Width of the edge over which a mesh fades into the photograph, as a share of the face's height.
_SOFT_EDGE = 0.06
#: Directions from which light of the sky is sent, pixels across the face in each, and how far behind the first surface,
#: as a share of the face's height, a vertex is still taken to be seen.
_DIRECTIONS, _PIXELS, _BEHIND = 64, 160, 0.02
#: Share of triangles that are halves of a quad above which all are taken to be.
_QUADS = 0.9


@dataclass(frozen=True)
class Topology:
    """A model's mesh, as pictures of it need it."""

    #: (T, 3), counter-clockwise seen from outside.
    triangles: I32
    #: (V, 3) the mean face, in the model's unit and axes.
    mean: F32
    #: (V,) 0 on the outer edge of the mesh, 1 where it is opaque.
    opacity: F32
    #: (V,) share of the light of the sky that reaches a vertex of the mean face: less in nostrils and between lips.
    openness: F32
    #: (T, 3) whether the side opposite to a corner is drawn: not the diagonals of what were quads.
    sides: Bools
    #: (V, 3) colours of the projected normalised coordinate code, RGB, 0 to 1.
    ncc: F32
    #: (V, 2) in [0, 1]; None where the model has none.
    uv: F32 | None
    #: Whether their v rises from chin to brow, as most have it, or falls.
    v_upwards: bool
    #: Neighbours and mirror images of vertices.
    surface: Surface

    @staticmethod
    def of(model: MorphableModel) -> Topology:
        """The topology of a model."""
        surface = Surface.of(model)
        return Topology(
            triangles=model.triangles,
            mean=model.mean,
            opacity=_opacity(model, surface),
            openness=openness(model.mean * np.array([1, -1, 1], np.float32), model.triangles),
            sides=_sides(model),
            ncc=_code(model.mean) if model.ncc is None else model.ncc,
            uv=model.uv,
            v_upwards=model.uv is None or float(np.dot(model.uv[:, 1] - 0.5, model.mean[:, 1])) > 0,
            surface=surface,
        )

    def uv_down(self) -> F32:
        """UV (V, 2) with v from the top of an upright texture downwards; raises `ValueError` for a model without."""
        if self.uv is None:
            raise ValueError("the model has no UV coordinates")
        return np.stack([self.uv[:, 0], 1 - self.uv[:, 1]], axis=1) if self.v_upwards else self.uv


def _code(mean: F32) -> F32:
    """The mean face's coordinates, each from 0 to 1 over the face (Zhu et al., CVPR 2016, eq. 3)."""
    low = mean.min(axis=0)
    return np.asarray((mean - low) / np.maximum(mean.max(axis=0) - low, 1e-9), np.float32)


def _opacity(model: MorphableModel, surface: Surface) -> F32:
    """How opaque each vertex is (V,), by its distance over the surface from the outer edge of the mesh."""
    distance = np.full(model.n_vertices, np.inf)
    distance[surface.rim[: model.n_vertices]] = 0
    heads = np.repeat(np.arange(model.n_vertices), np.diff(surface.starts))
    length = np.linalg.norm(model.mean[heads] - model.mean[surface.neighbours], axis=1).astype(np.float64)
    width = _SOFT_EDGE * float(np.ptp(model.mean[:, 1]))
    while True:  # Bellman and Ford's, as far as the edge is wide
        nearer = distance.copy()
        np.minimum.at(nearer, heads, distance[surface.neighbours] + length)
        if not ((nearer < distance) & (nearer < width)).any():
            break
        distance = nearer
    t = np.clip(distance / width, 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def openness(vertices: F32, triangles: I32) -> F32:
    """Share (V,) of the light of an evenly bright sky that reaches vertices (V, 3), y down: ambient occlusion."""
    facing = normals(vertices, triangles)
    size = float(np.ptp(vertices[:, 1]))
    centred = vertices - (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    reached, possible = np.zeros(len(vertices)), np.zeros(len(vertices))
    for direction in _sphere(_DIRECTIONS):
        cosine = np.maximum(facing @ direction, 0)
        possible += cosine
        turned = (centred @ _towards(direction).T).astype(np.float32)
        zoom = _PIXELS / size
        pictured = (turned * zoom + np.array([_PIXELS, _PIXELS, 0])).astype(np.float32)
        depth = rasterise(pictured, triangles, 2 * _PIXELS, 2 * _PIXELS).depth
        x, y = np.clip(np.rint(pictured[:, :2]), 0, 2 * _PIXELS - 1).astype(int).T
        reached += cosine * (pictured[:, 2] > depth[y, x] - _BEHIND * _PIXELS)
    return (reached / np.maximum(possible, 1e-9)).astype(np.float32)


def _sphere(n: int) -> F64:
    """Unit vectors (n, 3) spread evenly over a sphere: Fibonacci's spiral."""
    z = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    across = np.sqrt(1 - z * z)
    return np.stack([across * np.cos(angle), across * np.sin(angle), z], axis=1)


def _towards(direction: F64) -> F64:
    """The rotation (3, 3) that turns a unit vector towards the viewer, to (0, 0, 1)."""
    aside = np.array([0.0, 1.0, 0.0]) if abs(direction[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    x = np.cross(aside, direction)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(direction, x), direction])


def _sides(model: MorphableModel) -> Bools:
    """The sides of triangles (T, 3), each named by the corner opposite, that are drawn.

    Where nearly all triangles share their longest side with one whose longest it is, too, they are halves of quads, and
    those sides are diagonals.
    """
    corners = model.mean[model.triangles].astype(np.float64)
    length = np.linalg.norm(corners[:, [2, 0, 1]] - corners[:, [1, 2, 0]], axis=2)
    longest = np.zeros(length.shape, np.bool_)
    longest[np.arange(len(length)), length.argmax(axis=1)] = True
    ends = np.sort(np.stack([model.triangles[:, [1, 2, 0]], model.triangles[:, [2, 0, 1]]], axis=-1), axis=-1)
    keys = ends.reshape(-1, 2).astype(np.int64) @ [model.n_vertices, 1]
    _, which = np.unique(keys, return_inverse=True)
    diagonals = np.bincount(which, weights=longest.ravel()) == 2
    drawn = ~diagonals[which].reshape(length.shape)
    quads = float((~drawn).any(axis=1).mean())
    return drawn if quads > _QUADS else np.ones_like(drawn)
