"""Meshes as the report's viewer takes them: quantised, with the lamps of the pictures; drawn by page/report.js."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddfa_batch.schemas.arrays import F32, F64, U8
from ddfa_batch.tasks.rendering import lighting
from ddfa_batch.tasks.rendering.photo_colours import photo_colours
from ddfa_batch.tasks.rendering.rasteriser import normals
from ddfa_batch.tasks.rendering.topology import Topology

#: What positions are multiplied by: the farthest of a face is at this.
_FULL = 32767
#: How much of the view a face fills.
_FILLED = 0.92
#: Indices of at most so many vertices take two bytes.
_SHORT = 65535


@dataclass(frozen=True)
class ViewedFace:
    """A face that can be turned."""

    #: What it is called.
    title: str
    #: Its mesh (V, 3) as the head looks at one: y up, the farthest point at ±32767 or less.
    mesh: NDArray[np.int16]
    #: The photograph's colours, RGB, and the relief, each of 0 to 255 (V, 4).
    skin: U8
    #: R (3, 3), which turns it to how it was photographed.
    rotation: F64


@dataclass(frozen=True)
class ViewerContent:
    """Faces that can be turned, which share a mesh's triangles."""

    #: There is at least one.
    faces: Sequence[ViewedFace]
    #: Their topology.
    topology: Topology


def viewed_face(title: str, image: U8, mesh: F32, rotation: F64, topology: Topology) -> ViewedFace:
    """A face of a photograph (H, W, 3) BGR, its mesh (V, 3) in the photograph's pixels."""
    upright = (mesh * np.array([1, -1, 1], np.float32)).astype(np.float64)
    upright = (upright - (upright.min(axis=0) + upright.max(axis=0)) / 2) @ rotation
    upright *= _FILLED / max(float(np.linalg.norm(upright, axis=1).max()), 1e-9)
    colours, _ = photo_colours(topology, image, mesh)
    low, high = lighting.RELIEF_RANGE
    relief = lighting.relief(topology, mesh, normals(mesh, topology.triangles))
    skin = np.concatenate([colours[:, ::-1], ((relief - low) / (high - low) * 255)[:, None]], axis=1)
    quantised = np.rint(upright * _FULL).astype(np.int16)
    return ViewedFace(title, quantised, np.clip(np.rint(skin), 0, 255).astype(np.uint8), rotation)


def bytes_of(topology: Topology) -> tuple[int, int]:
    """About how many bytes of a page triangles and one face take."""
    n, triangles = len(topology.mean), len(topology.triangles)
    index = 2 if n <= _SHORT else 4
    return (4 * (3 * index * triangles + n)) // 3, (4 * n * (3 * 2 + 4)) // 3


def viewer_data(viewer: ViewerContent) -> dict[str, Any]:
    """The content as JSON holds it; arrays little-endian in base64."""
    topology = viewer.topology
    n = len(topology.mean)
    return {
        "vertices": n,
        "triangles": _packed(topology.triangles.astype("<u2" if n <= _SHORT else "<u4")),
        "openness": _packed(np.rint(np.clip(topology.openness, 0, 1) * 255).astype(np.uint8)),
        "light": _light(),
        "faces": [
            {
                "mesh": _packed(face.mesh.astype("<i2")),
                "skin": _packed(face.skin),
                "rotation": [round(v, 5) for v in face.rotation.ravel().tolist()],
            }
            for face in viewer.faces
        ],
    }


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _light() -> dict[str, Any]:
    """The lamps of `lighting`, RGB and y up."""
    lamps = (lighting.KEY, lighting.FILL, *lighting.RIMS)
    towards = [np.array(lamp.towards) * [1, -1, 1] / np.linalg.norm(lamp.towards) for lamp in lamps]
    return {
        "towards": [direction.round(5).tolist() for direction in towards],
        "colour": [lamp.colour[::-1] for lamp in lamps],
        "above": lighting.SKY[::-1],
        "below": lighting.GROUND[::-1],
        "clay": lighting.CLAY[::-1],
        "gloss": lighting.GLOSS,
        "sharpness": lighting.SHARPNESS,
        "lift": lighting.LIFT,
        "relief": lighting.RELIEF_RANGE,
    }
