"""The meshes that a report's viewer turns are the run's, to a share of a pixel, under the lamps of the pictures."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import small_model

from ddfa_batch.tasks.geometry.pose import rotation_matrix
from ddfa_batch.tasks.rendering import lighting
from ddfa_batch.tasks.rendering.face_viewer import ViewerContent, bytes_of, viewed_face, viewer_data
from ddfa_batch.tasks.rendering.topology import Topology

MODEL = small_model.head()
ROTATION = rotation_matrix(np.array([30.0]), np.array([10.0]), np.array([-5.0]))[0]


@pytest.fixture(scope="module")
def topology() -> Topology:
    return Topology.of(MODEL)


@pytest.fixture(scope="module")
def mesh() -> np.ndarray:
    """The mean head turned by ROTATION, in pixels of a picture of 256."""
    turned = MODEL.mean @ ROTATION.T * [1, -1, 1] * 0.8
    return (turned + np.array([128, 128, 0])).astype(np.float32)


def unpacked(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_a_mesh_is_the_heads_own_frame_and_its_rotation_gives_the_photographs(
    topology: Topology, mesh: np.ndarray
) -> None:
    image = np.full((256, 256, 3), 90, np.uint8)
    face = viewed_face("x", image, mesh, ROTATION, topology)
    data = viewer_data(ViewerContent([face], topology))["faces"][0]
    found = unpacked(data["mesh"], "<i2").reshape(-1, 3) / 32767
    assert np.abs(found).max() <= 1
    straight = np.asarray(MODEL.mean, np.float64)
    centred = found - found.mean(axis=0)
    straight = straight - straight.mean(axis=0)
    zoom = np.linalg.norm(centred) / np.linalg.norm(straight)
    assert np.abs(centred - zoom * straight).max() < 2 / 32767
    posed = centred @ np.array(data["rotation"]).reshape(3, 3).T / zoom * 0.8 * [1, -1, 1]
    assert np.abs(posed - (mesh - mesh.mean(axis=0))).max() < 0.02  # pixels


def test_colours_are_the_photographs(topology: Topology, mesh: np.ndarray) -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    image[:] = (20, 60, 200)  # blue, green, red
    face = viewed_face("x", image, mesh, ROTATION, topology)
    assert np.abs(np.median(face.skin[:, :3], axis=0) - [200, 60, 20]).max() < 6


def test_the_lamps_are_those_of_the_pictures(topology: Topology, mesh: np.ndarray) -> None:
    face = viewed_face("x", np.zeros((256, 256, 3), np.uint8), mesh, ROTATION, topology)
    light = viewer_data(ViewerContent([face], topology))["light"]
    key = np.array(lighting.KEY.towards)
    assert np.allclose(light["towards"][0], key / np.linalg.norm(key) * [1, -1, 1], atol=1e-4)
    assert light["colour"][0] == lighting.KEY.colour[::-1]
    assert len(light["towards"]) == len(light["colour"]) == 4


def test_the_room_that_faces_take_is_known_beforehand(topology: Topology, mesh: np.ndarray) -> None:
    face = viewed_face("x", np.zeros((256, 256, 3), np.uint8), mesh, ROTATION, topology)
    one, three = (len(json.dumps(viewer_data(ViewerContent([face] * n, topology)))) for n in (1, 3))
    shared, each = bytes_of(topology)
    assert (three - one) / 2 == pytest.approx(each, rel=0.05)
    assert one == pytest.approx(shared + each, rel=0.1)
