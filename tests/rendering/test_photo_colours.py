"""A colour for every vertex: the photograph's, or the mirrored side's; and how much light reaches it."""

from dataclasses import replace

import numpy as np
import synthetic_head as sh

from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.geometry import pose
from ddfa_batch.tasks.rendering.exposure import exposure
from ddfa_batch.tasks.rendering.photo_colours import photo_colours
from ddfa_batch.tasks.rendering.rasteriser import interpolate, rasterise
from ddfa_batch.tasks.rendering.topology import Topology


def painted(colours: F32, yaw: float) -> tuple[U8, np.ndarray]:
    """A photograph of the head, its vertices of these colours, turned by `yaw`, and its pose in it."""
    T = sh.image_pose_of(pose.rotation_matrix(np.array([yaw]), np.zeros(1), np.zeros(1))[0])
    mesh = (sh.head().mean @ T[:, :3].T + T[:, 3]).astype(np.float32)
    shown = rasterise(mesh, sh.head().triangles, sh.SIZE, sh.SIZE)
    picture = interpolate(shown, mesh, sh.head().triangles, colours)
    return np.nan_to_num(picture, nan=128).astype(np.uint8), T


def colours_of(model: MorphableModel, picture: U8, T: np.ndarray) -> F32:
    """What a photograph gives the vertices of the mean face in that pose."""
    mesh = (model.mean @ T[:, :3].T + T[:, 3]).astype(np.float32)
    return photo_colours(Topology.of(model), picture, mesh)[0]


def symmetric_texture() -> F32:
    """Smooth colours (V, 3) that are the same on both sides."""
    x, y, z = (sh.head().mean / sh.HALF).T
    return np.stack([130 + 40 * y, 150 + 40 * np.abs(x), 120 + 50 * z], axis=1).astype(np.float32)


def test_a_vertex_that_is_seen_has_the_photographs_colour() -> None:
    texture = symmetric_texture()
    picture, T = painted(texture, 0.0)
    found = colours_of(sh.head(), picture, T)
    front = sh.head().mean[:, 2] > 0.6 * sh.HALF[2]
    assert np.abs(found[front] - texture[front]).max() < 6


def test_a_vertex_that_is_hidden_has_the_colour_of_the_other_side() -> None:
    texture = symmetric_texture()
    picture, T = painted(texture, 60.0)
    found = colours_of(sh.head(), picture, T)
    hidden = ((sh.head().mean @ T[2, :3]) < 0) & (np.abs(sh.head().mean[:, 2]) < 0.8 * sh.HALF[2])
    assert hidden.sum() > 50
    assert np.median(np.abs(found[hidden] - texture[hidden])) < 10


def test_open_skin_has_all_the_light_and_a_cavity_little() -> None:
    head = sh.head()
    assert np.median(exposure(head)) == 1
    mean = head.mean.copy()
    pit = np.linalg.norm(mean[:, :2] - [0, -40_000], axis=1) < 12_000
    mean[pit, 2] -= 90_000
    light = exposure(replace(head, mean=mean))
    assert light[pit & (head.mean[:, 2] > 0)].max() < 0.6
    assert np.median(light[~pit]) == 1


def test_a_part_of_which_nothing_is_seen_has_the_colours_before_it() -> None:
    """A plate within the head, as teeth behind lips: joined to nothing, it is not left black."""
    head = sh.head()
    plate = np.array([[-9e3, -9e3, 2e4], [9e3, -9e3, 2e4], [9e3, 9e3, 2e4], [-9e3, 9e3, 2e4]], np.float32)
    n = head.n_vertices
    both = replace(
        head,
        mean=np.concatenate([head.mean, plate]),
        basis=np.concatenate([head.basis, np.zeros((len(head.basis), 4, 3), np.float32)], axis=1),
        triangles=np.concatenate([head.triangles, np.array([[n, n + 1, n + 2], [n, n + 2, n + 3]], np.int32)]),
    )
    picture, T = painted(symmetric_texture(), 0.0)
    found = colours_of(both, picture, T)[n:]
    x, y = np.rint((plate @ T[:, :3].T + T[:, 3])[:, :2]).astype(int).T
    assert np.abs(found - picture[y, x]).max() <= 3
