"""Every kind of picture of faces: drawn over the photograph, as values in its pixels, or a square a face.

Kinds drawn over the photograph are anti-aliased. Kinds whose colours are values (depth, pncc, normals) are not: each
pixel has the value of the surface at its centre, or is black, so that they can be read again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.tasks.geometry.crop import rotated_crop
from ddfa_batch.tasks.geometry.pose import angles
from ddfa_batch.tasks.rendering.coverage import Window, cover, cover_with_lines
from ddfa_batch.tasks.rendering.landmark_lines import (
    draw_dense,
    draw_landmarks,
    draw_pose,
    track_colour,
    write_caption,
)
from ddfa_batch.tasks.rendering.lighting import CLAY, lit
from ddfa_batch.tasks.rendering.lit_texture import lay_lit
from ddfa_batch.tasks.rendering.photo_colours import uv_texture
from ddfa_batch.tasks.rendering.pictured_faces import PicturedFaces
from ddfa_batch.tasks.rendering.rasteriser import interpolate, normals
from ddfa_batch.tasks.rendering.sheets import grid, resized
from ddfa_batch.tasks.rendering.topology import Topology

#: Side of the squares of uv and crop, pixels.
SQUARE = 256
#: The grey of a face's farthest point in depth pictures; its nearest is 255, what is no face 0.
FARTHEST = 40
#: Half the width of a wire, in the head's scale; least and most, pixels.
_WIRE, _WIRE_RANGE = 0.004, (0.3, 1.5)
#: How much of a track's colour a mesh takes on.
_TINT = 0.55
#: Heads of a smaller scale, pixels, get no words beside them.
_TOLD = 15.0


def _albedo(track: int) -> F32:
    """What colour a mesh is of."""
    clay = np.array(CLAY, np.float32)
    tint = _TINT if track >= 0 else 0.0
    return np.asarray(clay + tint * (np.array(track_colour(track), np.float32) / 255 - clay), np.float32)


def _lit(faces: PicturedFaces, topology: Topology, i: int) -> F32:
    mesh = faces.meshes[i]
    return lit(topology, mesh, normals(mesh, topology.triangles), _albedo(int(faces.track[i])))


# ----------------------------------------------------------------------------------------- over the photograph


def plain(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """The photograph."""
    return image.copy()


def landmarks(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """The 68 landmarks, green where they can be seen, red where the head hides them."""
    picture = image.copy()
    draw_landmarks(picture, faces)
    return picture


def dense(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """The vertices that can be seen, as dots that are lit as the surface is."""
    picture = image.copy()
    draw_dense(picture, faces, topology, [_lit(faces, topology, i) for i in range(len(faces))])
    return picture


def mesh(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """The surface in lit clay, fading where the mesh ends."""
    picture = image.copy()
    for i in faces.from_afar():
        cover(picture, faces.meshes[i], topology.triangles, _lit(faces, topology, i), topology.opacity)
    return picture


def textured_mesh(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """The surface in the photograph's colours, lit as clay is; what does not show the face is filled by symmetry."""
    picture = image.copy()
    for i in faces.from_afar():
        lay_lit(picture, image, faces.meshes[i], topology)
    return picture


def overlay(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """The surface with the landmarks on it, face by face."""
    picture = image.copy()
    for i in faces.from_afar():
        one = faces.take(np.array([i]))
        cover(picture, faces.meshes[i], topology.triangles, _lit(faces, topology, i), topology.opacity)
        draw_landmarks(picture, one)
    return picture


def wireframe(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """The edges of the mesh that can be seen, lit as the surface is."""
    picture, scale = image.copy(), faces.scale()
    for i in faces.from_afar():
        radius = float(np.clip(_WIRE * scale[i], *_WIRE_RANGE))
        colours, sides = _lit(faces, topology, i), topology.sides
        cover_with_lines(picture, faces.meshes[i], topology.triangles, colours, topology.opacity, sides, radius)
    return picture


def pose(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """A box around each head, its axes from the nose, and its angles in words."""
    picture, scale = image.copy(), faces.scale()
    draw_pose(picture, faces)
    for i, (yaw, pitch, roll) in enumerate(angles(faces.rotation) if len(faces) else ()):
        if scale[i] >= _TOLD:
            top = faces.meshes[i, :, 1].min() - 0.5 * scale[i]
            words = f"yaw {yaw:+.0f}  pitch {pitch:+.0f}  roll {roll:+.0f}"
            write_caption(picture, words, float(faces.meshes[i, :, 0].mean()), float(top), float(scale[i]))
    return picture


# ------------------------------------------------------------------------------------------- values as colours


def surface_values(shape: Sequence[int], faces: PicturedFaces, topology: Topology, values: Sequence[F32]) -> F32:
    """What the nearest surface at a pixel's centre has of values (V, C) a face: (H, W, C), NaN where there is none."""
    channels = values[0].shape[1] if values else 1
    out = np.full((*shape[:2], channels), np.nan, np.float32)
    for i in faces.from_afar():
        window = Window.around(faces.meshes[i], out)
        if not (window.width and window.height):
            continue
        placed, fragments = window.samples(faces.meshes[i], topology.triangles, 1)
        found = interpolate(fragments, placed, topology.triangles, np.ascontiguousarray(values[i], np.float32))
        there = fragments.triangle >= 0
        window.of(out)[there] = found[there]
    return out


def _grey_levels(values: F32) -> U8:
    """Values (H, W, 3), RGB in [0, 1], as BGR; black where there are none."""
    return np.asarray(np.rint(np.nan_to_num(np.clip(values[..., ::-1], 0, 1)) * 255), np.uint8)


def depth(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """Depth: white at each face's nearest point, dark grey at its farthest; black where there is no face."""
    nearness = []
    for surface in faces.meshes:
        z = surface[:, 2:]
        share = (z - z.min()) / max(float(np.ptp(z)), 1e-9)
        nearness.append((FARTHEST + (255 - FARTHEST) * share).astype(np.float32) / 255)
    grey = surface_values(image.shape, faces, topology, nearness)
    return _grey_levels(np.repeat(grey[..., :1], 3, axis=2))


def pncc(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """The projected normalised coordinate code (Zhu et al., CVPR 2016): x, y and z of the mean face as R, G and B."""
    return _coloured(image, faces, topology, [topology.ncc] * len(faces))


def surface_normals(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """Normals n as (n + 1) / 2: x to the right as R, y up as G, z to the viewer as B."""
    upright = np.array([0.5, -0.5, 0.5], np.float32)
    coded = [normals(surface, topology.triangles) * upright + np.float32(0.5) for surface in faces.meshes]
    return _coloured(image, faces, topology, [code.astype(np.float32) for code in coded])


def _coloured(image: U8, faces: PicturedFaces, topology: Topology, values: Sequence[F32]) -> U8:
    if not values:
        return np.zeros_like(image)
    return _grey_levels(surface_values(image.shape, faces, topology, values))


# ----------------------------------------------------------------------------------------------- squares


def uv(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """Each face's texture: the photograph unwrapped, what it does not show filled by symmetry."""
    return _squares([uv_texture(topology, image, surface, SQUARE) for surface in faces.meshes])


def crop(image: U8, faces: PicturedFaces, topology: Topology) -> U8:
    """Each face's roi, turned so that the head stands upright."""
    lean = np.arctan2(-faces.rotation[:, 0, 1], faces.rotation[:, 1, 1])
    return _squares([rotated_crop(image, roi, float(a), SQUARE) for roi, a in zip(faces.roi, lean, strict=True)])


def _squares(tiles: list[U8]) -> U8:
    if not tiles:
        return np.zeros((SQUARE, SQUARE, 3), np.uint8)
    return grid(tiles, int(np.ceil(np.sqrt(len(tiles)))))


#: Draws a photograph (H, W, 3) BGR and its faces.
Picture = Callable[[U8, PicturedFaces, Topology], U8]
#: Every kind of picture by its name.
KINDS: dict[str, Picture] = {
    "image": plain,
    "landmarks": landmarks,
    "dense": dense,
    "mesh": mesh,
    "wireframe": wireframe,
    "depth": depth,
    "pncc": pncc,
    "normals": surface_normals,
    "pose": pose,
    "uv": uv,
    "crop": crop,
}


def at_size(image: U8, faces: PicturedFaces, zoom: float) -> tuple[U8, PicturedFaces]:
    """A photograph and its faces so many times as large, in whole pixels."""
    height, width = image.shape[:2]
    image = resized(image, max(1, round(width * zoom)), max(1, round(height * zoom)))
    return image, faces.scaled(image.shape[1] / width, image.shape[0] / height)


def side_by_side(
    image: U8, faces: PicturedFaces, topology: Topology, kinds: Sequence[str], texture: bool = False
) -> U8:
    """Pictures of some kinds beside each other, as high as the highest; what is lower stands at the top.

    texture: meshes are drawn in the photograph's colours.
    """
    drawn = {**KINDS, "mesh": textured_mesh} if texture else KINDS
    pictures = [drawn[kind](image, faces, topology) for kind in kinds]
    height = max(picture.shape[0] for picture in pictures)
    return np.hstack([np.pad(picture, ((0, height - picture.shape[0]), (0, 0), (0, 0))) for picture in pictures])
