"""The videos of a run: what the plan says of them, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.receipts import receipts
from ddfa_batch.schemas import tables
from ddfa_batch.schemas.arrays import F64, I64
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.inputs import Input, resolve_path
from ddfa_batch.tasks.files.video_inputs import known_index, video_key


@dataclass(frozen=True)
class PlannedVideo:
    """A video as the plan holds it."""

    #: The image_id of its first frame, or of its one row where it has none.
    video: int
    #: Its own key.
    key: str
    #: Where it lies, relative to the run's root.
    path: bytes | None
    #: (N,) numbers of the frames that are taken, and their times in seconds; none for a video without frames.
    numbers: I64
    times: F64


def planned_videos(run: Run) -> list[PlannedVideo]:
    """The videos of a run's plan, in order."""
    with run.folder.reading(store.PLAN), pq.ParquetFile(run.folder.source(store.PLAN)) as plan:
        if "video" not in plan.schema_arrow.names:
            return []
        video = plan.read(columns=["video"])["video"]
        if video.null_count == len(video):
            return []
        rows = plan.read(columns=["key", "path", "video", "frame", "time_s"]).filter(pc.is_valid(video))
    ids = rows["video"].to_numpy()
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    return [_planned(rows.slice(a, b - a)) for a, b in zip(starts, [*starts[1:], len(ids)], strict=True)]


def _planned(rows: pa.Table) -> PlannedVideo:
    video, key, path, frame = (rows[name][0].as_py() for name in ("video", "key", "path", "frame"))
    taken = rows if frame is not None else rows.slice(0, 0)
    numbers, times = taken["frame"].to_numpy().astype(np.int64), taken["time_s"].to_numpy().astype(np.float64)
    return PlannedVideo(video, video_key(key, frame), path, numbers, times)


def videos_table(run: Run, videos: Sequence[PlannedVideo], n_tracks: dict[int, int]) -> pa.Table:
    """The rows of `videos/`, of a complete run; n_tracks: by video."""
    return counted_videos(run, videos, [_in_file(run, video) for video in videos], n_tracks)


def counted_videos(
    run: Run, videos: Sequence[PlannedVideo], in_files: Sequence[dict[str, Any]], n_tracks: dict[int, int]
) -> pa.Table:
    """The rows of `videos/`: what files say of themselves, one each, and what the run has of them."""
    errors, faces = count_by(run, store.IMAGES, "video", "error"), count_by(run, store.FACES, "video")
    rows = [
        {
            **in_file,
            "video": video.video,
            "key": video.key,
            "n_taken": len(video.numbers),
            "n_errors": errors.get(video.video, 0) if len(video.numbers) else 0,
            "n_faces": faces.get(video.video, 0),
            "n_tracks": n_tracks.get(video.video, 0),
        }
        for video, in_file in zip(videos, in_files, strict=True)
    ]
    return pa.Table.from_pylist(rows, tables.videos_schema())


def _in_file(run: Run, video: PlannedVideo) -> dict[str, Any]:
    """What the file says of itself."""
    try:
        index = known_index(resolve_path(Path(run.root), Input(video.key, video.path)), run.options["max_pixels"])
    except ImageError as fault:
        return {"status": "error", "error_kind": fault.kind, "message": fault.message, "n_frames": len(video.numbers)}
    return {
        "status": "ended_early" if index.ended_early else "ok",
        "message": index.ended_early,
        "container": index.container.title,
        "codec": index.codec,
        "width": index.width,
        "height": index.height,
        "rotation": index.rotation,
        "fps": index.fps,
        "duration_s": float(index.times[-1]),
        "n_frames": len(index),
    }


def count_by(run: Run, table: str, column: str, status: str | None = None) -> dict[int, int]:
    """Rows of a table by the values of a column that are there, of a status or of any."""
    counts: dict[int, int] = {}
    for receipt in receipts(run):
        name = store.table_name(table, receipt.shard)
        with run.folder.reading(name), pq.ParquetFile(run.folder.source(name)) as file:
            if column not in file.schema_arrow.names:  # written before there were videos
                continue
            rows = file.read(columns=[column, *(["status"] if status else [])])
        rows = rows.filter(pc.is_valid(rows[column]))
        if status:
            rows = rows.filter(pc.equal(rows["status"], status))
        for value, n in zip(*(a.tolist() for a in np.unique(rows[column].to_numpy(), return_counts=True)), strict=True):
            counts[value] = counts.get(value, 0) + n
    return counts
