"""3-D scans on disk: the vertices of .obj, .ply and .npz files."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import F64
from ddfa_batch.schemas.errors import InputError

SUFFIXES = (".obj", ".ply", ".npz")
#: A larger file is no scan of one face.
_MAX_BYTES = 1 << 30
#: numpy's names of a PLY file's number types.
_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


def read_scan(path: Path) -> F64:
    """Vertices (N, 3) of a scan, in its own unit: `v` lines of .obj, the vertex element of .ply, `vertices` of .npz.

    Raises `InputError` naming the file for what is not one.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is too large for a scan of one face.")
        points = {".obj": _obj, ".ply": _ply, ".npz": _npz}[path.suffix.lower()](path)
    except OSError as fault:
        raise InputError(f"{path} cannot be read ({fault.strerror or fault}).") from None
    except (ValueError, KeyError, IndexError, UnicodeDecodeError, struct.error, EOFError, zipfile.BadZipFile) as fault:
        raise InputError(f"{path} is no scan ({str(fault)[:200]}); .obj, .ply and .npz with 'vertices' are.") from None
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise InputError(f"{path} must hold finite vertices (N, 3), but has an array of {points.shape}.")
    return points


def _obj(path: Path) -> F64:
    with path.open(encoding="utf-8", errors="replace") as file:
        return np.array([line.split()[1:4] for line in file if line.startswith("v ")], np.float64)


def _npz(path: Path) -> F64:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return np.asarray(archive["vertices"], np.float64)


def _ply(path: Path) -> F64:
    data = path.read_bytes()
    head, _, body = data.partition(b"end_header")
    body = body[body.index(b"\n") + 1 :]
    lines = [line.split() for line in head.decode("ascii").splitlines()]
    if not lines or lines[0] != ["ply"]:
        raise ValueError("it does not begin with 'ply'")
    form = next(line[1] for line in lines if line[:1] == ["format"])
    elements = [i for i, line in enumerate(lines) if line[:1] == ["element"]]
    if not elements or lines[elements[0]][1] != "vertex":
        raise ValueError("its first element is not 'vertex'")
    n = int(lines[elements[0]][2])
    fields = [line for line in lines[elements[0] + 1 : [*elements, len(lines)][1]] if line[:1] == ["property"]]
    names = [line[-1] for line in fields]
    if form == "ascii":
        rows = [line.split() for line in body.decode("ascii").splitlines()[:n]]
        return np.array([[row[names.index(axis)] for axis in "xyz"] for row in rows], np.float64)
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}[form]
    kind = np.dtype([(line[-1], order + _PLY_TYPES[line[1]]) for line in fields])
    table = np.frombuffer(body, kind, count=n)
    return np.stack([table[axis].astype(np.float64) for axis in "xyz"], axis=1)
