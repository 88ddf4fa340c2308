"""Reading a run: tables as Arrow, dense meshes from HDF5 or rebuilt from the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq

from ddfa_batch.pipeline import plan, receipts, tracks
from ddfa_batch.pipeline.cluster import one_thread_each
from ddfa_batch.pipeline.video_tables import planned_videos
from ddfa_batch.schemas import tables
from ddfa_batch.schemas.arrays import F32, I32, I64, U8
from ddfa_batch.schemas.config import CLIPS_PER_FACE, FACES_PER_IMAGE, NO_SMOOTHING
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import Bundle, load_bundle, recorded_folder
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.clip_files import read_clip
from ddfa_batch.tasks.files.mesh_files import MeshFile
from ddfa_batch.tasks.files.run_folders import Named, RunFolder
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points

#: How Arrow begins to say that a filter names a column that is not there.
_UNKNOWN_FIELD = "No match for FieldRef"


class Results:
    """The output folder of a run, finished or not. Only finished shards are read."""

    def __init__(self, out: Named | RunFolder, model: str | Path | None = None) -> None:
        self.run = plan.read_run(out)
        self._folder = self.run.folder
        self._model = model
        self.receipts = list(receipts.receipts(self.run))

    @property
    def path(self) -> Path:
        """The folder, of this machine; raises `RunFolderError` where it is behind a URL."""
        return self._folder.here

    def __repr__(self) -> str:
        done = sum(r.rows[store.IMAGES] for r in self.receipts)
        faces = sum(r.rows.get(store.FACES, 0) for r in self.receipts)
        return f"<ddfa_batch run {self._folder}: {done:,} of {self.run.n_inputs:,} images, {faces:,} faces>"

    @property
    def complete(self) -> bool:
        """Whether every shard is done."""
        return len(self.receipts) == self.run.n_shards

    def images(self, columns: Sequence[str] | None = None, filter: ds.Expression | None = None) -> pa.Table:
        """One row per input; see docs/output.md for the columns."""
        return self._table(store.IMAGES, tables.IMAGES, columns, filter)

    def faces(self, columns: Sequence[str] | None = None, filter: ds.Expression | None = None) -> pa.Table:
        """One row per face; `filter` is a pyarrow expression, such as `pyarrow.dataset.field("score") > 0.9`."""
        return self._table(store.FACES, self.faces_schema(), columns, filter)

    def faces_schema(self) -> pa.Schema:
        """The columns of `faces`, as the shards that are done have them."""
        if self.receipts:
            return self._first_schema(store.FACES)
        smooth = self.run.options.get("smooth", NO_SMOOTHING) != NO_SMOOTHING
        return tables.faces_schema(self._n_params(), {}, smooth)

    def images_schema(self) -> pa.Schema:
        """The columns of `images`, likewise."""
        return self._first_schema(store.IMAGES) if self.receipts else tables.IMAGES

    def _first_schema(self, table: str) -> pa.Schema:
        name = store.table_name(table, self.receipts[0].shard)
        with self._folder.reading(name):
            return pq.read_schema(self._folder.source(name))

    def tracks(self) -> pa.Table:
        """One row per face that was followed through a video; empty where none was. Of a complete run only."""
        return self._joined(tracks.TRACKS_FILE, tables.tracks_schema({}))

    def videos(self) -> pa.Table:
        """One row per video; empty where there was none. Of a complete run only."""
        return self._joined(tracks.VIDEOS_FILE, tables.videos_schema())

    def _joined(self, name: str, schema: pa.Schema) -> pa.Table:
        if not planned_videos(self.run):
            return schema.empty_table()
        if not self.complete or not tracks.joined(self.run):
            raise RunFolderError(f"The tracks of {self._folder} are not joined yet; run the same command again.")
        return self._whole(name)

    def _whole(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        with self._folder.reading(name):
            return pq.read_table(self._folder.source(name), columns=columns)

    def frames(self, columns: Sequence[str] | None = None, filter: ds.Expression | None = None) -> pa.Table:
        """One row per frame of `synth-videos`; see docs/synth-videos.md for the columns."""
        schema = tables.frames_schema(load_bundle(self._model_folder()).manifest.layout.size, {})
        return self._table(store.FRAMES, schema, columns, filter)

    def table(self, name: str) -> pa.Table:
        """All rows of another table of the run, such as `exports`."""
        files = [f for r in self.receipts for f in r.files if f.startswith(f"{name}/")]
        return pa.concat_tables([self._whole(file) for file in files])

    def clip(self, clip_id: int) -> list[U8]:
        """The pictures (H, W, 3) BGR of one clip of `synth-videos`, in order."""
        image_id = clip_id // CLIPS_PER_FACE // FACES_PER_IMAGE
        shard = int(self.run.shards_of(np.array([image_id]))[0])
        return read_clip(self.path, shard, self.run.options["format"], clip_id)

    def _table(self, kind: str, schema: pa.Schema, columns: Sequence[str] | None, filter: Any) -> pa.Table:
        files = [f for r in self.receipts for f in r.files if f.startswith(f"{kind}/")]
        try:
            found = self._dataset(files) if files else ds.dataset(schema.empty_table())
            for name in columns or ():
                if name not in found.schema.names:
                    raise self._no_column(kind, f"'{name}'", found.schema)
            return found.to_table(columns=columns, filter=filter)
        except (OSError, pa.ArrowException) as fault:
            if _UNKNOWN_FIELD in str(fault):
                raise self._no_column(kind, "that the filter names", found.schema) from None
            raise RunFolderError(f"{self._folder} is damaged ({fault}); see 'ddfa-batch status'.") from None

    def _dataset(self, names: Sequence[str]) -> ds.Dataset:
        """The tables of these names as one, read part by part; its schema is that of the first, as Arrow has it."""
        form, here = ds.ParquetFileFormat(), pa.fs.LocalFileSystem()
        sources = (self._folder.source(name) for name in names)
        fragments = [form.make_fragment(*((str(s), here) if isinstance(s, Path) else (s,))) for s in sources]
        return ds.FileSystemDataset(fragments, fragments[0].physical_schema, form)

    def _no_column(self, kind: str, which: str, schema: pa.Schema) -> RunFolderError:
        return RunFolderError(f"{self._folder.where(kind)} has no column {which}; it has {', '.join(schema.names)}.")

    def _n_params(self) -> int:
        if self.receipts and self.run.kind != "synth-videos":
            return int(self._first_schema(store.FACES).field("params").type.list_size)
        return load_bundle(self._model_folder()).manifest.layout.size

    @property
    def triangles(self) -> I32:
        """Triangles of every mesh of the run, (T, 3) vertex indices, counter-clockwise seen from outside."""
        return self._topology("triangles")

    @property
    def landmarks68(self) -> I32:
        """Vertex indices of the 68 landmarks, (68,)."""
        return self._topology("landmarks68")

    def _topology(self, name: str) -> I32:
        source = self._folder.source(store.TOPOLOGY)
        with self._folder.reading(store.TOPOLOGY), h5py.File(source, "r") as file:
            return np.asarray(file[name][:], np.int32)

    def vertices(self, face_ids: Iterable[int] | None = None) -> F32:
        """Dense meshes (n, V, 3) float32 in image pixels of the given faces, in that order; all by default.

        Read from HDF5 where the run wrote them, otherwise rebuilt from the parameters, bit for bit the same. Of a run
        with `--vertices quantised` they are read with an error of 1/128 pixel, of faces beyond 1,000 pixels more.
        Raises `RunFolderError` naming the first face id that the run does not have.
        """
        wanted = self._face_ids(face_ids)
        columns = ["face_id", "vertices_file", "vertices_row", "params", "roi"]
        shards = self._shards_of(wanted)
        out = np.empty((len(wanted), int(self.run.model.n_vertices), 3), np.float32)
        for shard, places in shards.items():
            table = self._whole(store.table_name(store.FACES, shard), columns)
            rows = self._rows(np.asarray(table["face_id"]), wanted[places])
            file = table["vertices_file"][0].as_py()
            if file is not None and self._folder.has(file):
                self._read(file, np.asarray(table["vertices_row"])[rows], out, places)
            else:
                params, rois = (tables.matrix(table[name])[rows] for name in ("params", "roi"))
                out[places] = self._rebuild(params, rois)
        return out

    def _face_ids(self, face_ids: Iterable[int] | None) -> I64:
        if face_ids is None:
            return np.asarray(self.faces(columns=["face_id"])["face_id"], np.int64)
        return np.fromiter(face_ids, np.int64)

    def _shards_of(self, face_ids: I64) -> dict[int, I64]:
        """Positions in `face_ids` by shard."""
        shard = self.run.shards_of(face_ids // FACES_PER_IMAGE)
        have = {r.shard for r in self.receipts}
        for position, number in enumerate(shard.tolist()):
            if number not in have:
                raise self._unknown(int(face_ids[position]))
        return {int(s): np.flatnonzero(shard == s) for s in np.unique(shard)}

    def _rows(self, have: I64, wanted: I64) -> I64:
        order = np.argsort(have)
        rows = np.searchsorted(have, wanted, sorter=order)
        for face_id, row in zip(wanted.tolist(), rows.tolist(), strict=True):
            if row >= len(have) or have[order[row]] != face_id:
                raise self._unknown(face_id)
        return np.asarray(order[rows], np.int64)

    def _unknown(self, face_id: int) -> RunFolderError:
        return RunFolderError(f"{self._folder} has no face {face_id}.")

    def _read(self, name: str, rows: I64, out: F32, places: I64) -> None:
        with self._folder.reading(name), h5py.File(self._folder.source(name), "r") as file:
            meshes = MeshFile(file)
            for place, row in zip(places.tolist(), rows.tolist(), strict=True):
                out[place] = meshes.mesh(row)

    def _model_folder(self) -> Path:
        if self._model is not None:
            return Path(self._model)
        return recorded_folder(self.run.model.folder, self.run.model.digest)

    @property
    def bundle(self) -> Bundle:
        """The model the run was made with; raises `BundleError` where it is gone."""
        return load_bundle(self._model_folder())

    def _rebuild(self, params: F32, rois: Any) -> F32:
        loaded = loaded_model(str(self._model_folder()), self.run.model.digest)
        size = loaded.bundle.manifest.input_size
        with one_thread_each():  # as in a worker: a product on more threads differs in the last bits
            return points(PointBasis.of(loaded.morphable), params, rois, size)


def open_run(out: Named | RunFolder, model: str | Path | None = None) -> Results:
    """Open the output folder of a run for reading.

    `model`: the folder of the model bundle, if it no longer lies where the run found it (needed only to rebuild
    dense meshes). Raises `RunFolderError` if `out` holds no run.
    """
    return Results(out, model)
