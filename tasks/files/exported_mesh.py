"""One mesh to write, and the formats of meshes that stand still: OBJ, PLY, npz, CSV; glTF has a file of its own."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I32, U8, check_shape

#: Quality of a texture's JPEG.
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]


@dataclass(frozen=True)
class ExportedMesh:
    """A mesh with what a photograph gives it. Axes are right-handed, triangles counter-clockwise from outside."""

    #: (V, 3).
    vertices: F32
    #: (T, 3).
    triangles: I32
    #: (V, 3) unit.
    normals: F32
    #: (68,) vertex indices.
    landmarks: I32
    #: (3, 4) from vertices to image pixels, x right, y down, z towards the viewer.
    image_from_mesh: F64
    #: What a unit is, and where axes point, for people.
    unit: str
    axes: str
    #: (V, 3) RGB; None without.
    colours: U8 | None = None
    #: (V, 2) in [0, 1], v downwards from the texture's top; None without.
    uv: F32 | None = None
    #: (S, S, 3) BGR; None without.
    texture: U8 | None = None

    def __post_init__(self) -> None:
        v = self.vertices.shape[0]
        check_shape("vertices", self.vertices, v, 3)
        check_shape("normals", self.normals, v, 3)
        check_shape("triangles", self.triangles, None, 3)
        if self.colours is not None:
            check_shape("colours", self.colours, v, 3)
        if self.uv is not None:
            check_shape("uv", self.uv, v, 2)


def texture_jpeg(texture: U8) -> bytes:
    """A texture (S, S, 3) BGR as JPEG."""
    return cv2.imencode(".jpg", texture, _QUALITY)[1].tobytes()


def write_obj(path: Path, mesh: ExportedMesh) -> list[Path]:
    """Write Wavefront OBJ; with a texture also the material and the JPEG beside it. Gives all files."""
    lines = [f"# {mesh.unit}; {mesh.axes}"]
    files = [path]
    if mesh.texture is not None and mesh.uv is not None:
        material, picture = path.with_suffix(".mtl"), path.with_suffix(".jpg")
        picture.write_bytes(texture_jpeg(mesh.texture))
        material.write_text(f"newmtl face\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nmap_Kd {picture.name}\n", encoding="utf-8")
        lines.append(f"mtllib {material.name}")
        files += [material, picture]
    rows = mesh.vertices.tolist()
    if mesh.colours is None:
        lines += ["v {:.6f} {:.6f} {:.6f}".format(*row) for row in rows]
    else:
        shades = (mesh.colours / 255).tolist()
        pairs = zip(rows, shades, strict=True)
        lines += ["v {:.6f} {:.6f} {:.6f} {:.4f} {:.4f} {:.4f}".format(*row, *shade) for row, shade in pairs]
    lines += ["vn {:.4f} {:.4f} {:.4f}".format(*row) for row in mesh.normals.tolist()]
    corners = (mesh.triangles + 1).tolist()
    if len(files) > 1 and mesh.uv is not None:
        lines += [f"vt {u:.6f} {1 - v:.6f}" for u, v in mesh.uv.tolist()]
        lines.append("usemtl face")
        lines += [f"f {a}/{a}/{a} {b}/{b}/{b} {c}/{c}/{c}" for a, b, c in corners]
    else:
        lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in corners]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return files


def write_ply(path: Path, mesh: ExportedMesh) -> list[Path]:
    """Write PLY, binary, with normals and the colours of vertices."""
    columns = [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    names = [f"property float {name}" for name, _ in columns]
    if mesh.colours is not None:
        columns += [(name, "u1") for name in ("red", "green", "blue")]
        names += [f"property uchar {name}" for name in ("red", "green", "blue")]
    vertices = np.empty(len(mesh.vertices), columns)
    parts = [*mesh.vertices.T, *mesh.normals.T, *(() if mesh.colours is None else mesh.colours.T)]
    for (name, _), part in zip(columns, parts, strict=True):
        vertices[name] = part
    faces = np.empty(len(mesh.triangles), [("n", "u1"), ("corners", "<i4", 3)])
    faces["n"], faces["corners"] = 3, mesh.triangles
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {mesh.unit}; {mesh.axes}",
        f"element vertex {len(vertices)}",
        *names,
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    path.write_bytes("\n".join(header).encode("ascii", "replace") + vertices.tobytes() + faces.tobytes())
    return [path]


def write_npz(path: Path, mesh: ExportedMesh) -> list[Path]:
    """Write everything as NumPy arrays by their names."""
    arrays = {
        "vertices": mesh.vertices,
        "triangles": mesh.triangles,
        "normals": mesh.normals,
        "landmarks68": mesh.landmarks,
        "image_from_mesh": mesh.image_from_mesh,
        "unit": np.array(mesh.unit),
        "axes": np.array(mesh.axes),
    }
    if mesh.colours is not None:
        arrays["colours"] = mesh.colours
    if mesh.uv is not None:
        arrays["uv"] = mesh.uv
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # whose stub takes names for its options
    return [path]


def write_csv(path: Path, mesh: ExportedMesh) -> list[Path]:
    """Write the vertices, a row each: x, y, z, and red, green, blue where they have colours."""
    text = io.StringIO()
    if mesh.colours is None:
        text.write("x,y,z\n")
        text.writelines("{:.6f},{:.6f},{:.6f}\n".format(*row) for row in mesh.vertices.tolist())
    else:
        text.write("x,y,z,red,green,blue\n")
        pairs = zip(mesh.vertices.tolist(), mesh.colours.tolist(), strict=True)
        text.writelines("{:.6f},{:.6f},{:.6f},{},{},{}\n".format(*row, *colour) for row, colour in pairs)
    path.write_text(text.getvalue(), encoding="utf-8")
    return [path]
