"""A textured mesh keeps the photograph's detail, takes clay's light, and fills what the photograph does not show."""

from __future__ import annotations

import cv2
import numpy as np
import small_model
from test_face_pictures import OVERLAPPING, SHAPE, scene, topology

from ddfa_batch.schemas.arrays import F64, U8
from ddfa_batch.tasks.rendering.face_pictures import mesh, side_by_side, surface_values, textured_mesh
from ddfa_batch.tasks.rendering.lit_texture import light_on
from ddfa_batch.tasks.rendering.photo_colours import photo_colours
from ddfa_batch.tasks.rendering.rasteriser import normals

#: One head that looks at the viewer's left.
ONE = scene((-20.0, 56.0, 42.0, 80.0))


def photograph() -> U8:
    """Stripes a pixel wide, which no colour of a vertex could hold."""
    image = np.full(SHAPE, 120, np.uint8)
    image[:, ::2] += 40
    return image


def sure() -> np.ndarray:
    """Where the mesh is opaque and each pixel is the face's without doubt."""
    _, doubt = photo_colours(topology(), photograph(), ONE.meshes[0])
    told = np.stack([topology().opacity, (doubt < 0.01).astype(np.float32)], axis=1)
    found = surface_values(SHAPE, ONE, topology(), [told])
    return np.asarray(np.nan_to_num(found).min(axis=2) > 0.999)


def expected() -> F64:
    """The photograph times the light, pixel by pixel, written down anew."""
    light = surface_values(SHAPE, ONE, topology(), [light_on(topology(), ONE.meshes[0])])
    return photograph() * np.nan_to_num(light).astype(np.float64)


def test_every_pixel_of_the_face_is_the_photographs_in_the_light_of_clay() -> None:
    there = sure()
    assert there.mean() > 0.05
    picture = textured_mesh(photograph(), ONE, topology())
    difference = np.abs(picture[there] - expected()[there])
    assert np.percentile(difference, 95) < 4


def test_the_light_is_that_of_the_plain_mesh() -> None:
    """On even grey a textured mesh is the plain one but for brightness and colour."""
    grey = np.full(SHAPE, 128, np.uint8)
    there = sure()
    textured = textured_mesh(grey, ONE, topology())[there].mean(axis=1)
    plain = mesh(grey, ONE, topology())[there].mean(axis=1)
    assert np.corrcoef(textured, plain)[0, 1] > 0.99
    assert textured.max() < 255


def test_what_hides_the_cheek_is_replaced_by_the_other_sides_skin() -> None:
    """As in exported textures: a dark thing before the side that turns away is not taken for the face."""
    head = scene((45.0, 56.0, 42.0, 80.0))
    facing = normals(head.meshes[0], topology().triangles)[:, 2:]
    towards = surface_values(SHAPE, head, topology(), [np.concatenate([facing, topology().opacity[:, None]], axis=1)])
    image = np.full(SHAPE, 160, np.uint8)
    image[np.nan_to_num(towards[..., 0]) < 0.45] = 0
    there = (towards[..., 0] < 0.3) & (towards[..., 1] > 0.9)
    assert there.sum() > 20
    light = surface_values(SHAPE, head, topology(), [light_on(topology(), head.meshes[0])])
    skin = textured_mesh(image, head, topology())[there] / light[there]
    assert np.median(np.abs(skin - 160)) < 16


def test_nearer_faces_hide_others_and_the_picture_around_stays() -> None:
    image, faces = photograph(), scene(*OVERLAPPING)
    near = faces.take(np.array([0]))
    picture, alone = textured_mesh(image, faces, topology()), textured_mesh(image, near, topology())
    opaque = surface_values(SHAPE, near, topology(), [topology().opacity[:, None]])[..., 0] > 0.999
    same = np.abs(picture[opaque].astype(int) - alone[opaque]).max(axis=1) <= 1
    assert same.mean() > 0.98  # all but outlines within the face
    nobody = np.isnan(surface_values(SHAPE, faces, topology(), [small_model.head().mean] * 2)[..., 0])
    inner = cv2.erode(nobody.astype(np.uint8), np.ones((3, 3))) > 0
    assert (picture[inner] == image[inner]).all()


def test_the_texture_is_for_meshes_alone() -> None:
    image = photograph()
    both = side_by_side(image, ONE, topology(), ("mesh", "landmarks"), texture=True)
    assert (both[:, : SHAPE[1]] == textured_mesh(image, ONE, topology())).all()
    assert (both[:, SHAPE[1] :] == side_by_side(image, ONE, topology(), ("landmarks",))).all()
