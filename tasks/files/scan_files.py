"""3-D scans on disk: the vertices of .obj, .ply and .npz files, and of what trimesh reads."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import F64
from ddfa_batch.schemas.errors import InputError

#: Read by trimesh, where it is installed (the extra `scans`).
_TRIMESH_SUFFIXES = (".stl", ".off", ".glb", ".gltf")
#: File endings of scans.
SUFFIXES = (".obj", ".ply", ".npz", *_TRIMESH_SUFFIXES)
#: A larger file is no scan of one face.
_MAX_BYTES = 1 << 30
#: numpy's names of a PLY file's number types, by both of the names PLY has for each.
_PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
#: Byte orders of the binary forms of PLY, as numpy writes them.
_PLY_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}


def read_scan(path: Path) -> F64:
    """Vertices (N, 3) of a scan, in its own unit: `v` lines of .obj, the vertex element of .ply, `vertices` of .npz.

    With trimesh installed also the vertices of .stl, .off, .glb and .gltf. Raises `InputError` naming the file for what
    is not one.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise InputError(f"{path} is no scan: {', '.join(_READERS)} are read, the last four with trimesh.")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is too large for a scan of one face.")
        points = _READERS[suffix](path)
    except OSError as fault:
        raise InputError(f"{path} cannot be read ({fault.strerror or fault}).") from None
    except (ValueError, KeyError, IndexError, TypeError, EOFError, OverflowError, zipfile.BadZipFile) as fault:
        raise InputError(f"{path} is no scan ({str(fault)[:200]}).") from None
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise InputError(f"{path} must hold finite vertices (N, 3), but has an array of {points.shape}.")
    return points


def _obj(path: Path) -> F64:
    with path.open(encoding="utf-8", errors="replace") as file:
        return np.array([line.split()[1:4] for line in file if line.startswith("v ")], np.float64)


def _npz(path: Path) -> F64:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return np.asarray(archive["vertices"], np.float64)


@dataclass(frozen=True)
class _PlyHead:
    """What the head of a PLY file says of its first element, which must be `vertex`."""

    #: "ascii", or one of `_PLY_ORDERS`.
    form: str
    #: How many vertices there are.
    count: int
    #: (name, PLY's type) of each of a vertex's properties, in order.
    properties: tuple[tuple[str, str], ...]


def _ply(path: Path) -> F64:
    head, _, body = path.read_bytes().partition(b"end_header")
    ply = _ply_head(head)
    body = body[body.index(b"\n") + 1 :]
    return _ascii_vertices(ply, body) if ply.form == "ascii" else _binary_vertices(ply, body)


def _ply_head(head: bytes) -> _PlyHead:
    lines = [line.split() for line in head.decode("ascii").splitlines() if line.strip()]
    if not lines or lines[0] != ["ply"]:
        raise ValueError("it does not begin with 'ply'")
    elements = [line[1:] for line in lines if line[0] == "element"]
    if not elements or elements[0][0] != "vertex":
        raise ValueError("its first element is not 'vertex'")
    form = next(line[1] for line in lines if line[0] == "format")
    following = lines[lines.index(["element", *elements[0]]) + 1 :]
    of_vertex = itertools.takewhile(lambda line: line[0] != "element", following)
    properties = tuple((line[-1], line[1]) for line in of_vertex if line[0] == "property")
    return _PlyHead(form, int(elements[0][1]), properties)


def _ascii_vertices(ply: _PlyHead, body: bytes) -> F64:
    names = [name for name, _ in ply.properties]
    columns = [names.index(axis) for axis in "xyz"]
    rows = [line.split() for line in body.decode("ascii").splitlines()[: ply.count]]
    return np.array([[row[column] for column in columns] for row in rows], np.float64)


def _binary_vertices(ply: _PlyHead, body: bytes) -> F64:
    order = _PLY_ORDERS[ply.form]
    kind = np.dtype([(name, order + _PLY_TYPES[of]) for name, of in ply.properties])
    table = np.frombuffer(body, kind, count=ply.count)
    return np.stack([table[axis].astype(np.float64) for axis in "xyz"], axis=1)


def _with_trimesh(path: Path) -> F64:
    try:
        import trimesh
    except ImportError:
        raise InputError(f"{path} needs trimesh to be read ('pip install trimesh'), or be saved as .ply.") from None
    try:
        return np.asarray(trimesh.load_mesh(path, process=False).vertices, np.float64)
    except Exception as fault:  # each of its formats raises another kind
        raise ValueError(str(fault) or type(fault).__name__) from None


_READERS: dict[str, Callable[[Path], F64]] = {
    ".obj": _obj,
    ".ply": _ply,
    ".npz": _npz,
    **dict.fromkeys(_TRIMESH_SUFFIXES, _with_trimesh),
}
