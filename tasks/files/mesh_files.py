"""Dense meshes on disk: one HDF5 file per shard, all of them as one virtual dataset, and the topology they share.

A file has `vertices`, (n, V, 3) float32, or the same quantised: `vertices_quantised`, int16, and for each face an
offset (3,) and a scale, so that its mesh is offset + scale · quantised.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I16, I64
from ddfa_batch.schemas.config import QUANTISED
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.files.store import TOPOLOGY

#: A virtual dataset over more files than this opens slowly (HDFGroup/hdf5 issues 5187 and 5295).
MAX_VIRTUAL_SOURCES = 256
#: Bytes of a vertex in the file, x y z, by form.
BYTES_PER_VERTEX = {"float32": 12, QUANTISED: 6}
#: The datasets of meshes as they are, and quantised.
_WHOLE = "vertices"
_QUANTISED, _OFFSET, _SCALE = "vertices_quantised", "vertices_offset", "vertices_scale"
#: Pixels between two numbers of a quantised mesh, which is so off by half of it at most. It doubles, as often as it
#: must, for faces that span more of them than there are numbers.
QUANTISED_STEP = 1 / 64
_LARGEST = np.iinfo(np.int16).max
#: Vertices whose bounds are sought together.
_TOGETHER = 64

AXES = "image pixels; x right, y down, z towards the viewer; z is comparable within a face only"


@dataclass(frozen=True)
class QuantisedMeshes:
    """Meshes as int16: offset + scale · quantised. Offsets are whole and scales powers of two, so nothing is rounded
    when they are read, nor changed when they are quantised again."""

    #: (n, V, 3).
    quantised: I16
    #: (n, 3), whole pixels.
    offset: F64
    #: (n,), pixels.
    scale: F64

    @staticmethod
    def of(meshes: F32) -> QuantisedMeshes:
        """Meshes (n, V, 3) with an error of scale/2 at most: 1/128 pixel where a face spans less than 1,000."""
        low, high = (_over_vertices(which, meshes).astype(np.float64) for which in (np.minimum, np.maximum))
        offset = np.round((low + high) / 2)
        span = np.maximum(high - offset, offset - low).max(axis=1)
        doublings = np.ceil(np.log2(np.maximum(span / (_LARGEST * QUANTISED_STEP), 1)))
        scale = QUANTISED_STEP * 2**doublings
        # Offsets and scales are exact in float32; what is subtracted from is float32, too.
        moved = (meshes - offset[:, None].astype(np.float32)) / scale[:, None, None].astype(np.float32)
        return QuantisedMeshes(np.rint(moved).astype(np.int16), offset, scale)

    def meshes(self) -> F32:
        """The meshes (n, V, 3)."""
        return np.asarray(self.offset[:, None] + self.scale[:, None, None] * self.quantised, np.float32)


def _over_vertices(which: np.ufunc, meshes: F32) -> F32:
    """The least or greatest x, y, z (n, 3) of meshes (n, V, 3), many at a time, for loops over 3 numbers are slow."""
    n, v = meshes.shape[:2]
    even = v - v % _TOGETHER
    rest = which.reduce(meshes[:, -_TOGETHER:], axis=1)
    if not even:
        return np.asarray(rest)
    rows = which.reduce(meshes[:, :even].reshape(n, -1, 3 * _TOGETHER), axis=1)
    return np.asarray(which(which.reduce(rows.reshape(n, _TOGETHER, 3), axis=1), rest))


class MeshFile:
    """The meshes of an open HDF5 file, whatever their form; raises `KeyError` where it has none."""

    def __init__(self, file: h5py.File) -> None:
        self._whole: Any = file.get(_WHOLE)
        self._parts: list[Any] = [] if _WHOLE in file else [file[name] for name in (_QUANTISED, _OFFSET, _SCALE)]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, V, 3)."""
        return tuple((self._parts[0] if self._whole is None else self._whole).shape)

    def mesh(self, row: int) -> F32:
        """The mesh (V, 3) of a row, image pixels."""
        if self._whole is not None:
            return np.asarray(self._whole[row])
        quantised, offset, scale = (part[row : row + 1] for part in self._parts)
        return QuantisedMeshes(quantised, offset, scale).meshes()[0]


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[h5py.File]:
    """A new file; raises `OSError` as any other file does where HDF5 finds no room, which h5py tells otherwise.

    It does so as it writes, with a trace of its own in place of the reason, or only as it closes, as a `RuntimeError`.
    """
    try:
        with h5py.File(path, "w", libver=("earliest", "v110")) as file:
            yield file
    except (RuntimeError, OSError) as fault:
        if (told := re.search(r"errno = (\d+)", str(fault))) is None:
            raise
        number = int(told[1])
        raise OSError(number, os.strerror(number), str(path)) from None


def put_vertices(
    path: Path, face_ids: I64, blocks: Iterator[F32], n_vertices: int, topology: str, form: str = "float32"
) -> None:
    """Write dense meshes (n, V, 3) in a form, one face per chunk, block by block, with their face ids."""
    with _new_file(path) as file:
        n, whole = len(face_ids), form != QUANTISED
        dataset = file.create_dataset(
            _WHOLE if whole else _QUANTISED,
            (n, n_vertices, 3),
            np.float32 if whole else np.int16,
            chunks=(1, n_vertices, 3),
            track_times=False,
        )
        dataset.attrs["axes"], dataset.attrs["topology"] = AXES, topology
        file.create_dataset("face_id", data=face_ids, track_times=False)
        offsets, scales, row = np.zeros((n, 3)), np.zeros(n), 0
        for block in blocks:
            stored: Any = np.ascontiguousarray(block, np.float32)
            if not whole:
                made = QuantisedMeshes.of(stored)
                rows = slice(row, row + len(stored))
                stored, offsets[rows], scales[rows] = made.quantised, made.offset, made.scale
            for mesh in stored:
                dataset.id.write_direct_chunk((row, 0, 0), mesh.data)
                row += 1
        if row != n:
            raise RunFolderError(f"{path}: {row} meshes were made for {n} faces.")
        if not whole:
            dataset.attrs["meaning"] = f"{_OFFSET} + {_SCALE} * {_QUANTISED}, by face"
            file.create_dataset(_OFFSET, data=offsets, track_times=False)
            file.create_dataset(_SCALE, data=scales, track_times=False)


def put_topology(path: Path, model: MorphableModel) -> None:
    """Write what every mesh of a run shares: triangles, the 68 vertex indices, UV and NCC where known."""
    with _new_file(path) as file:
        arrays = {
            "triangles": model.triangles,
            "landmarks68": model.landmarks,
            "uv": model.uv,
            "ncc": model.ncc,
        }
        for name, array in arrays.items():
            if array is not None:
                file.create_dataset(name, data=array, track_times=False)
        file.attrs["topology"], file.attrs["unit"] = model.topology, model.unit
        file.attrs["n_vertices"], file.attrs["axes"] = model.n_vertices, AXES


def put_virtual(path: Path, files: dict[str, int], n_vertices: int, form: str = "float32") -> None:
    """Join vertex files, whose numbers of faces are given by their names, as virtual datasets of vertices.h5.

    They are called as in the files.
    """
    total = sum(files.values())
    with _new_file(path) as file:
        for name, (shape, kind) in _datasets(n_vertices, form).items():
            layout, row = h5py.VirtualLayout((total, *shape), kind), 0
            for source, n in files.items():
                layout[row : row + n] = h5py.VirtualSource(source, name, (n, *shape), kind)
                row += n
            file.create_virtual_dataset(name, layout)
        file[_QUANTISED if form == QUANTISED else _WHOLE].attrs["axes"] = AXES
        for name in ("triangles", "landmarks68"):
            file[name] = h5py.ExternalLink(TOPOLOGY, name)


def _datasets(n_vertices: int, form: str) -> dict[str, tuple[tuple[int, ...], type]]:
    """What a file holds of each face, by name: shape and type."""
    ids: dict[str, tuple[tuple[int, ...], type]] = {"face_id": ((), np.int64)}
    if form != QUANTISED:
        return {_WHOLE: ((n_vertices, 3), np.float32), **ids}
    parts = {_QUANTISED: ((n_vertices, 3), np.int16), _OFFSET: ((3,), np.float64), _SCALE: ((), np.float64)}
    return {**parts, **ids}
