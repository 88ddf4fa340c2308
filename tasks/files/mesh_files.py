"""Dense meshes on disk: one HDF5 file per shard, all of them as one virtual dataset, and the topology they share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from ddfa_batch.schemas.arrays import F32, I64
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.files.store import TOPOLOGY

#: A virtual dataset over more files than this opens slowly (HDFGroup/hdf5 issues 5187 and 5295).
MAX_VIRTUAL_SOURCES = 256
#: A face's dense mesh in the file: float32, x y z.
BYTES_PER_VERTEX = 12

AXES = "image pixels; x right, y down, z towards the viewer; z is comparable within a face only"


def put_vertices(path: Path, face_ids: I64, blocks: Iterator[F32], n_vertices: int, topology: str) -> None:
    """Write dense meshes, (n, V, 3) float32 one face per chunk, block by block, with their face ids."""
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        n = len(face_ids)
        dataset = file.create_dataset(
            "vertices", (n, n_vertices, 3), np.float32, chunks=(1, n_vertices, 3), track_times=False
        )
        dataset.attrs["axes"], dataset.attrs["topology"] = AXES, topology
        file.create_dataset("face_id", data=face_ids, track_times=False)
        row = 0
        for block in blocks:
            for mesh in block:
                dataset.id.write_direct_chunk((row, 0, 0), np.ascontiguousarray(mesh, np.float32).data)
                row += 1
        if row != n:
            raise RunFolderError(f"{path}: {row} meshes were made for {n} faces.")


def put_topology(path: Path, model: MorphableModel) -> None:
    """Write what every mesh of a run shares: triangles, the 68 vertex indices, UV and NCC where known."""
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
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


def put_virtual(path: Path, files: dict[str, int], n_vertices: int) -> None:
    """Join vertex files, whose numbers of faces are given by their names, as virtual datasets of vertices.h5.

    They are called `vertices` and `face_id`, as in the files.
    """
    total = sum(files.values())
    meshes = h5py.VirtualLayout((total, n_vertices, 3), np.float32)
    ids = h5py.VirtualLayout((total,), np.int64)
    row = 0
    for name, n in files.items():
        meshes[row : row + n] = h5py.VirtualSource(name, "vertices", (n, n_vertices, 3), np.float32)
        ids[row : row + n] = h5py.VirtualSource(name, "face_id", (n,), np.int64)
        row += n
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        file.create_virtual_dataset("vertices", meshes)
        file.create_virtual_dataset("face_id", ids)
        file["vertices"].attrs["axes"] = AXES
        for name in ("triangles", "landmarks68"):
            file[name] = h5py.ExternalLink(TOPOLOGY, name)
