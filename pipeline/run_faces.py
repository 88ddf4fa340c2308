"""The rows of a run by their inputs, as arrays, one shard of it in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline.plan import Run
from ddfa_batch.schemas import tables
from ddfa_batch.schemas.arrays import F32, F64, I64, Bools
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.geometry.pose import rotation_matrix

_FACES = ("face_id", "image_id", "face_index", "roi", "params", "rotation", "landmarks68", "landmarks68_visible")
_SMOOTH = ("params_smooth", "landmarks68_smooth", "yaw_smooth", "pitch_smooth", "roll_smooth")


@dataclass(frozen=True)
class FaceRows:
    """Faces of a run, as drawing and exporting need them; smoothed along their tracks where the run did that."""

    #: (N,)
    face_id: I64
    #: (N,)
    image_id: I64
    #: (N,)
    face_index: I64
    #: (N, 4)
    roi: F64
    #: (N, P)
    params: F32
    #: (N, 3, 3)
    rotation: F64
    #: (N, 68, 3)
    landmarks: F32
    #: (N, 68)
    visible: Bools
    #: (N,) −1 for faces that are of none.
    track: I64

    def __len__(self) -> int:
        return len(self.face_id)

    def take(self, rows: I64) -> FaceRows:
        """The faces of `rows`."""
        return FaceRows(*(getattr(self, name)[rows] for name in FaceRows.__annotations__))

    @staticmethod
    def concatenate(parts: Sequence[FaceRows]) -> FaceRows:
        """All parts, of which there is at least one, as one."""
        return FaceRows(*(np.concatenate([getattr(p, name) for p in parts]) for name in FaceRows.__annotations__))

    def of_image(self, image_id: int, indices: Iterable[int] | None = None) -> FaceRows:
        """The faces of an input: all, or those of some places in it."""
        first, last = np.searchsorted(self.image_id, [image_id, image_id + 1])
        rows = np.arange(first, last)
        if indices is not None:
            rows = rows[np.isin(self.face_index[rows], list(indices))]
        return self.take(rows)


class RunRows:
    """Reads faces and images rows of a run; neighbours in the run cost one read."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._shard: dict[str, tuple[int, Any]] = {}

    def faces(self, image_id: int) -> FaceRows:
        """The faces of the shard that an input is of; raises `RunFolderError`."""
        return self._of(store.FACES, image_id, _faces)

    def image(self, image_id: int) -> dict[str, Any]:
        """The images row of an input; raises `RunFolderError`."""
        row: dict[str, Any] = self._of(store.IMAGES, image_id, _images)[image_id]
        return row

    def images(self, first: int, n: int) -> Iterator[dict[str, Any]]:
        """The images rows of n inputs that follow each other."""
        return (self.image(first + i) for i in range(n))

    def _of(self, table: str, image_id: int, read: Any) -> Any:
        shard = int(self._run.shards_of(np.array([image_id]))[0])
        if self._shard.get(table, (-1, None))[0] != shard:
            name = store.table_name(table, shard)
            with self._run.folder.reading(name), pq.ParquetFile(self._run.folder.source(name)) as file:
                self._shard[table] = (shard, read(file))
        return self._shard[table][1]


def _images(file: pq.ParquetFile) -> dict[int, dict[str, Any]]:
    return {row["image_id"]: row for row in file.read().to_pylist()}


def _faces(file: pq.ParquetFile) -> FaceRows:
    have = file.schema_arrow.names
    smooth = [name for name in _SMOOTH if name in have]
    tracks = ["track_id"] if "track_id" in have else []
    table = file.read(columns=[*_FACES, *smooth, *tracks]).sort_by([("image_id", "ascending")])
    n = len(table)
    rotation = tables.matrix(table["rotation"]).reshape(n, 3, 3).astype(np.float64)
    params, points = tables.matrix(table["params"]), tables.matrix(table["landmarks68"])
    if smooth:
        followed = table["yaw_smooth"].is_valid().to_numpy()
        rotation[followed] = rotation_matrix(
            *(table[name].to_numpy()[followed].astype(np.float64) for name in _SMOOTH[2:])
        )
        followed_rows = table.filter(pa.array(followed))
        params, points = params.copy(), points.copy()
        params[followed] = tables.matrix(followed_rows["params_smooth"])
        points[followed] = tables.matrix(followed_rows["landmarks68_smooth"])
    return FaceRows(
        face_id=table["face_id"].to_numpy(),
        image_id=table["image_id"].to_numpy(),
        face_index=table["face_index"].to_numpy().astype(np.int64),
        roi=tables.matrix(table["roi"]).reshape(n, 4),
        params=params.astype(np.float32),
        rotation=rotation,
        landmarks=points.reshape(n, N_LANDMARKS, 3).astype(np.float32),
        visible=tables.matrix(table["landmarks68_visible"]).reshape(n, N_LANDMARKS).astype(np.bool_),
        track=table["track_id"].fill_null(-1).to_numpy() if tracks else np.full(n, -1, np.int64),
    )
