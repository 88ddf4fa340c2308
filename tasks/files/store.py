"""The run folder on disk: nothing is visible until it is whole, and nothing is written twice."""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.schemas.arrays import F32, I64
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.morphable import MorphableModel

RUN, PLAN, SHARDS = "run.json", "plan.parquet", "shards"
IMAGES, FACES, VERTICES, FRAMES = "images", "faces", "vertices", "frames"
TOPOLOGY, ALL_VERTICES = "topology.h5", "vertices.h5"
#: What a run makes, and all that --overwrite removes: these files, and in these folders what a shard is named.
OWN_FILES = (RUN, PLAN, TOPOLOGY, ALL_VERTICES, "preview.png", "preview.gif")
OWN_FOLDERS = (SHARDS, IMAGES, FACES, VERTICES, FRAMES, "clips")
OWN_ENTRY = re.compile(r"\d{6,}(\.(json|parquet|h5|tar))?|\.\d{6,}\..*")
#: What planning writes before run.json.
PLANNED = (PLAN, TOPOLOGY)
#: A virtual dataset over more files than this opens slowly (HDFGroup/hdf5 issues 5187 and 5295).
MAX_VIRTUAL_SOURCES = 256
#: A face's dense mesh in the file: float32, x y z.
BYTES_PER_VERTEX = 12

AXES = "image pixels; x right, y down, z towards the viewer; z is comparable within a face only"


@dataclass(frozen=True)
class Receipt:
    """What one finished shard says of itself.

    rows by table (images, faces …); images without a face; error rows by kind; the size of every file written.
    """

    shard: int
    rows: dict[str, int]
    no_face: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def shard_name(shard: int) -> str:
    """The file stem of a shard."""
    return f"{shard:06d}"


def staged(path: Path) -> Path:
    """A name beside `path` to write under until `publish` gives the file its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def publish(work: Path, path: Path) -> None:
    """Flush the staged file `work` to disk and rename it to `path`."""
    descriptor = os.open(work, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    work.replace(path)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a staged path for `path`; on success publish it, else remove it."""
    work = staged(path)
    try:
        yield work
        publish(work, path)
    finally:
        work.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with whole_file(path) as work:
        work.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises `RunFolderError` naming a damaged file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise RunFolderError(f"{path} cannot be read ({fault}); is it the file a run wrote?") from None
    if not isinstance(content, dict):
        raise RunFolderError(f"{path} is not the file a run wrote.")
    return content


def put_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet table: zstd, dictionaries for text only, byte-stream-split for floats."""
    floats = [_leaf(f.name, f.type) for f in table.schema if pa.types.is_floating(_item(f.type))]
    text = [f.name for f in table.schema if pa.types.is_string(f.type)]
    pq.write_table(
        table, path, compression="zstd", compression_level=3, use_dictionary=text, use_byte_stream_split=floats
    )  # fmt: skip


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet table, whole or not at all."""
    with whole_file(path) as work:
        put_table(work, table)


def _item(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if isinstance(kind, pa.FixedSizeListType | pa.ListType) else kind


def _leaf(name: str, kind: pa.DataType) -> str:
    return name if _item(kind) is kind else f"{name}.list.element"


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


def write_receipt(out: Path, receipt: Receipt) -> None:
    """Write a shard's receipt: from now on the shard counts as done."""
    write_json(out / SHARDS / f"{shard_name(receipt.shard)}.json", asdict(receipt))


def read_receipt(out: Path, shard: int) -> Receipt | None:
    """The receipt of a shard, or None while there is none."""
    path = out / SHARDS / f"{shard_name(shard)}.json"
    if not path.exists():
        return None
    try:
        return Receipt(**read_json(path))
    except TypeError:
        raise RunFolderError(f"{path} is not a receipt; remove it and run the same command again.") from None


class InFlight:
    """A mark on disk of the image a worker holds, so that one which kills its process can be told.

    One 8-byte record per attempt at the shard: the image the attempt has in hand, or −1 between images.
    An attempt that dies leaves its record behind; `deaths` counts them per image.
    """

    def __init__(self, out: Path, shard: int) -> None:
        path = out / SHARDS / f".{shard_name(shard)}.inflight"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        before = os.read(self._descriptor, os.fstat(self._descriptor).st_size)
        records = [r[0] for r in struct.iter_unpack("<q", before[: len(before) // 8 * 8])]
        self._deaths = {image: records.count(image) for image in set(records) if image >= 0}
        self._offset = len(records) * 8

    def __enter__(self) -> InFlight:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no image in hand: an exception, even Ctrl-C, is no death of the process."""
        self.hold(-1)
        os.close(self._descriptor)

    def deaths(self, image_id: int) -> int:
        """How many attempts died while they held this image."""
        return self._deaths.get(image_id, 0)

    def hold(self, image_id: int) -> None:
        """Note the image now in hand; −1 for none."""
        os.pwrite(self._descriptor, struct.pack("<q", image_id), self._offset)

    @staticmethod
    def forget(out: Path, shard: int) -> None:
        """Remove the mark of a finished shard."""
        (out / SHARDS / f".{shard_name(shard)}.inflight").unlink(missing_ok=True)
