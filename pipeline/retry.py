"""Error rows done again: the failed images of a finished shard, and its files replaced by such as hold the new rows.

All other rows, and every face and image id, stay as they are: nothing but the failed images is read again.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import h5py
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline import graph, plan
from ddfa_batch.pipeline.context import RunContext, run_context
from ddfa_batch.pipeline.faces import ShardFaces, dense_blocks, find_faces_of, follows_faces, reconstruct, write
from ddfa_batch.pipeline.outstanding import Retry
from ddfa_batch.pipeline.run_tables import conformed, faces_table, images_table
from ddfa_batch.pipeline.staging import StagedShard, finish_replacement, replace_shard, staging
from ddfa_batch.schemas.arrays import F32
from ddfa_batch.schemas.config import NO_SMOOTHING
from ddfa_batch.schemas.faces import Faces, Geometry, ImageRecord
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.mesh_files import MeshFile, put_vertices
from ddfa_batch.tasks.files.run_folders import RunFolder, run_folder_at


def retry_faces(kinds: frozenset[str]) -> Retry | None:
    """How the error rows of `process` are done again; None for no kinds."""
    if not kinds:
        return None
    find_failed = functools.partial(find_failed_faces, kinds=kinds)
    stages: graph.Stages = {
        "find-faces": find_failed,
        "reconstruct": reconstruct,
        "write": write_merged,
        "commit": replace_shard,
    }
    return Retry(kinds, stages)


def find_failed_faces(out: str, shard: int, *, kinds: frozenset[str]) -> ShardFaces:
    """`faces.find_faces` of the images of a finished shard that ended as an error row of one of `kinds`.

    A frame that can be read now changes what is known of the faces around it: where faces are followed the whole shard
    is done again.
    """
    finish_replacement(out, shard)
    planned = plan.read_shard(out, shard)
    if follows_faces(run_context(out), planned):
        return find_faces_of(out, shard, planned)
    images = run_folder_at(out).source(store.table_name(store.IMAGES, shard))
    rows = pq.read_table(images, columns=["image_id", "error_kind"]).to_pylist()
    failed = {row["image_id"] for row in rows if row["error_kind"] in kinds}
    return find_faces_of(out, shard, [row for row in planned if row.image_id in failed])


def write_merged(out: str, shard: int, reconstructed: tuple[ShardFaces, Geometry]) -> StagedShard:
    """Write a shard's tables and meshes anew under staged names: as they are, with the rows that were done again."""
    context, (found, meaning) = run_context(out), reconstructed
    if found.segments:
        return write(out, shard, reconstructed)
    folder, stem = run_folder_at(out), store.shard_name(shard)
    again = {record.image_id: record for record in found.records}
    rows = pq.read_table(folder.source(store.table_name(store.IMAGES, shard))).to_pylist()
    records = [again.get(row["image_id"]) or ImageRecord(**row) for row in rows]
    smooth = context.options.smooth != NO_SMOOTHING
    names = context.model.bundle.manifest.expression_names
    new = faces_table(found.records, found.faces, meaning, None, context.run.model, smooth, names)
    old = conformed(pq.read_table(folder.source(store.table_name(store.FACES, shard))), new.schema, names)
    faces = pa.concat_tables([old, new]).sort_by("face_id").combine_chunks()
    with staging(out) as staged:
        if context.options.vertices != "none" and len(faces):
            name = f"{store.VERTICES}/{stem}.h5"
            meshes = _merged_meshes(context, folder, name, faces["vertices_row"].to_pylist(), found.faces)
            ids, topology = faces["face_id"].to_numpy(), context.model.morphable.topology
            form = context.options.vertices
            put_vertices(staged.path(name), ids, meshes, context.dense.n_points, topology, form)
            faces = _with_meshes(faces, name)
        store.put_table(staged.path(f"{store.FACES}/{stem}.parquet"), faces)
        images = images_table(records, context.options.sample_json)
        store.put_table(staged.path(f"{store.IMAGES}/{stem}.parquet"), images)
        return staged.shard(records, {store.FACES: len(faces)})


def _merged_meshes(
    context: RunContext, folder: RunFolder, name: str, rows: list[int | None], new: Faces
) -> Iterator[F32]:
    """Meshes (1, V, 3), one after the other: `rows` of the file that is there, and for None the next of `new`."""
    made = (mesh for block in dense_blocks(context, new) for mesh in block)
    with contextlib.ExitStack() as stack:
        old: Any = None
        if any(row is not None for row in rows):
            old = MeshFile(stack.enter_context(h5py.File(folder.source(name), "r")))
        for row in rows:
            yield (next(made) if row is None else old.mesh(row))[None]


def _with_meshes(faces: pa.Table, file: str) -> pa.Table:
    """A shard's faces with the file and row of their meshes, which stand there in the same order."""
    columns = {"vertices_file": [file] * len(faces), "vertices_row": range(len(faces))}
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else faces[field.name]
        for field in faces.schema
    ]
    return pa.Table.from_arrays(arrays, schema=faces.schema)
