"""Dense meshes on disk: one HDF5 file per shard, all of them as one virtual dataset, and the topology they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from ddfa_batch.schemas.arrays import F32, I64
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.files.atomic import whole_file
from ddfa_batch.tasks.files.store import ALL_VERTICES, TOPOLOGY

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


def write_topology(path: Path, model: MorphableModel) -> None:
    """Write what every mesh of a run shares: triangles, the 68 vertex indices, UV and NCC where known."""
    with whole_file(path) as work, h5py.File(work, "w", libver=("earliest", "v110")) as file:
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


def write_virtual(out: Path, files: Sequence[str]) -> None:
    """Join the vertex files of all shards as virtual datasets `vertices` and `face_id` of vertices.h5."""
    sources = []
    for name in files:
        with h5py.File(out / name, "r") as file:
            sources.append((name, file["vertices"].shape))
    total = sum(shape[0] for _, shape in sources)
    meshes = h5py.VirtualLayout((total, *sources[0][1][1:]), np.float32)
    ids = h5py.VirtualLayout((total,), np.int64)
    row = 0
    for name, shape in sources:
        meshes[row : row + shape[0]] = h5py.VirtualSource(name, "vertices", shape, np.float32)
        ids[row : row + shape[0]] = h5py.VirtualSource(name, "face_id", shape[:1], np.int64)
        row += shape[0]
    with whole_file(out / ALL_VERTICES) as work, h5py.File(work, "w", libver=("earliest", "v110")) as file:
        file.create_virtual_dataset("vertices", meshes)
        file.create_virtual_dataset("face_id", ids)
        file["vertices"].attrs["axes"] = AXES
        for name in ("triangles", "landmarks68"):
            file[name] = h5py.ExternalLink(TOPOLOGY, name)
