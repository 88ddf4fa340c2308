"""glTF 2.0 as one binary file (GLB): a mesh with its colours, and a head that moves and whose expression changes."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ddfa_batch.schemas.arrays import F32, F64, U8, check_shape
from ddfa_batch.tasks.files.exported_mesh import ExportedMesh, texture_jpeg

#: Numbers of the specification: component types, targets of buffers, filters and wrapping of textures, chunk types.
_FLOAT, _SHORT, _INT = 5126, 5123, 5125
_VERTICES, _INDICES = 34962, 34963
_LINEAR, _MIPMAPS, _CLAMP = 9729, 9987, 33071
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
#: How a face reflects light.
_ROUGH = 0.75


@dataclass(frozen=True)
class HeadMotion:
    """How a head moves and what its expression does, frame by frame."""

    #: (n,) seconds from the first frame, increasing.
    times: F64
    #: Names (K,) of the expressions.
    names: tuple[str, ...]
    #: (K, V, 3) what each adds to the vertices.
    targets: F32
    #: (n, K) how much of each there is.
    weights: F32
    #: Unit quaternions (n, 4), x y z w, positions (n, 3) and sizes (n,) of the head; None for one that stays in place.
    rotation: F32 | None = None
    translation: F32 | None = None
    scale: F32 | None = None

    def __post_init__(self) -> None:
        n, k = len(self.times), len(self.names)
        check_shape("targets", self.targets, k, None, 3)
        check_shape("weights", self.weights, n, k)


def write_glb(
    path: Path,
    mesh: ExportedMesh,
    name: str,
    extras: dict[str, Any],
    scale: float = 1.0,
    motion: HeadMotion | None = None,
) -> list[Path]:
    """Write a mesh, and its `motion` if it has one; scale: units of the scene in one of its vertices'."""
    buffers = _Buffers()
    primitive: dict[str, Any] = {"attributes": _attributes(buffers, mesh), "mode": 4}
    primitive["indices"] = buffers.accessor(mesh.triangles.astype(np.uint32).ravel(), _INT, _INDICES)
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": f"ddfa-batch {version('ddfa-batch')}", "extras": extras},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": name, "mesh": 0, **({"scale": [scale] * 3} if scale != 1 else {})}],
        "meshes": [{"name": name, "primitives": [primitive]}],
    }
    material: dict[str, Any] = {"metallicFactor": 0, "roughnessFactor": _ROUGH}
    if mesh.texture is not None:
        document |= _textured(buffers, mesh.texture)
        material["baseColorTexture"] = {"index": 0}
    document["materials"] = [{"name": "skin", "pbrMetallicRoughness": material, "doubleSided": True}]
    primitive["material"] = 0
    if motion is not None:
        primitive["targets"] = [
            {"POSITION": buffers.accessor(target, _FLOAT, _VERTICES, bounded=True)} for target in motion.targets
        ]
        document["meshes"][0]["weights"] = motion.weights[0].astype(float).tolist()
        document["meshes"][0]["extras"] = {"targetNames": list(motion.names)}
        document["animations"] = [_animation(buffers, motion)]
    path.write_bytes(buffers.glb(document))
    return [path]


def _attributes(buffers: _Buffers, mesh: ExportedMesh) -> dict[str, int]:
    length = np.linalg.norm(mesh.normals, axis=1, keepdims=True)
    unit = np.where(length > 0.5, mesh.normals / np.maximum(length, 1e-9), np.array([0, 0, 1.0]))
    attributes = {
        "POSITION": buffers.accessor(mesh.vertices, _FLOAT, _VERTICES, bounded=True),
        "NORMAL": buffers.accessor(unit.astype(np.float32), _FLOAT, _VERTICES),
    }
    if mesh.texture is not None and mesh.uv is not None:
        attributes["TEXCOORD_0"] = buffers.accessor(mesh.uv, _FLOAT, _VERTICES)
    elif mesh.colours is not None:
        attributes["COLOR_0"] = buffers.accessor(_linear(mesh.colours), _SHORT, _VERTICES, normalised=True)
    return attributes


def _linear(colours: U8) -> npt.NDArray[np.uint16]:
    """sRGB colours (V, 3) as the linear light (V, 4) that glTF's COLOR_0 is, opaque."""
    share = colours / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.rint(np.concatenate([light, np.ones((len(light), 1))], axis=1) * 65535).astype(np.uint16)


def _textured(buffers: _Buffers, texture: U8) -> dict[str, Any]:
    return {
        "images": [{"mimeType": "image/jpeg", "bufferView": buffers.view(texture_jpeg(texture))}],
        "samplers": [{"magFilter": _LINEAR, "minFilter": _MIPMAPS, "wrapS": _CLAMP, "wrapT": _CLAMP}],
        "textures": [{"source": 0, "sampler": 0}],
    }


def _animation(buffers: _Buffers, motion: HeadMotion) -> dict[str, Any]:
    times = buffers.accessor(motion.times.astype(np.float32), _FLOAT, bounded=True)
    sizes = None if motion.scale is None else np.repeat(motion.scale[:, None], 3, axis=1)
    moving = {"rotation": motion.rotation, "translation": motion.translation, "scale": sizes}
    outputs = {"weights": motion.weights.astype(np.float32).ravel(), **moving}
    samplers: list[dict[str, int]] = []
    channels: list[dict[str, Any]] = []
    for path, values in outputs.items():
        if values is not None:
            channels.append({"sampler": len(samplers), "target": {"node": 0, "path": path}})
            samplers.append({"input": times, "output": buffers.accessor(values.astype(np.float32), _FLOAT)})
    return {"name": "video", "channels": channels, "samplers": samplers}


class _Buffers:
    """The binary part of a file, and the list of what stands where in it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        """Put bytes in, at a multiple of four; the number of their view."""
        self._data += bytes(-len(self._data) % 4)
        used = {} if target is None else {"target": target}
        self._views.append({"buffer": 0, "byteOffset": len(self._data), "byteLength": len(data), **used})
        self._data += data
        return len(self._views) - 1

    def accessor(
        self,
        values: npt.NDArray[Any],
        component: int,
        target: int | None = None,
        *,
        bounded: bool = False,
        normalised: bool = False,
    ) -> int:
        """Put an array (n,) or (n, k) in; the number of its accessor."""
        values = np.ascontiguousarray(values)
        rows = values.reshape(len(values), -1)
        entry: dict[str, Any] = {
            "bufferView": self.view(values.tobytes(), target),
            "componentType": component,
            "count": len(rows),
            "type": _SHAPES[rows.shape[1]],
        }
        if bounded:
            entry |= {"min": rows.min(axis=0).astype(float).tolist(), "max": rows.max(axis=0).astype(float).tolist()}
        if normalised:
            entry["normalized"] = True
        self._accessors.append(entry)
        return len(self._accessors) - 1

    def glb(self, document: dict[str, Any]) -> bytes:
        """The whole file: header, the document as JSON, the binary part."""
        self._data += bytes(-len(self._data) % 4)
        lists = {"accessors": self._accessors, "bufferViews": self._views}
        whole = {**document, **lists, "buffers": [{"byteLength": len(self._data)}]}
        text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + len(self._data)
        head = struct.pack("<III", _MAGIC, 2, total)
        return b"".join(
            (head, struct.pack("<II", len(text), _JSON), text, struct.pack("<II", len(self._data), _BIN), self._data)
        )
