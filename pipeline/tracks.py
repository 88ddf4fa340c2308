"""What a run's videos come to, once all shards are done: tracks joined over seams, smoothed, and told of in tables.

A shard knows its own stretch of a track only. Here the stretches that are one face get one `track_id`, which goes into
the faces tables of the shards; then `tracks/` and `videos/` are written. Doing it again writes the same, so a run that
was cut short in between, or of which a shard was done anew, ends the same.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.receipts import receipts
from ddfa_batch.pipeline.run_tables import model_metadata
from ddfa_batch.pipeline.staging import StagedFile, StagedShard, replace_shard
from ddfa_batch.pipeline.track_seams import ShardTracks, read_tracks, seams_name
from ddfa_batch.pipeline.track_smoothing import NEEDED, Smoother
from ddfa_batch.pipeline.video_tables import PlannedVideo, planned_videos, videos_table
from ddfa_batch.schemas import tables
from ddfa_batch.schemas.arrays import F64, I64
from ddfa_batch.schemas.config import NO_SMOOTHING
from ddfa_batch.schemas.faces import NO_TRACK
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.files import atomic, store
from ddfa_batch.tasks.files.arrow_columns import table_of
from ddfa_batch.tasks.inference.track_joining import SegmentTracks, TrackSummary, join_tracks, summarise_tracks

#: The run's tables of tracks and videos, and what they were made from.
TRACKS_FILE = f"{store.TRACKS}/{store.shard_name(0)}.parquet"
VIDEOS_FILE = f"{store.VIDEOS}/{store.shard_name(0)}.parquet"
_MADE_FROM = f"{store.VIDEOS}/{store.shard_name(0)}.json"


@dataclass(frozen=True)
class FollowedFaces:
    """All faces of a run that were followed, in the order of its shards, with what tracks are summarised from."""

    #: (N,) of the shard, and of the row in its faces table.
    shard: I64
    row: I64
    #: (N,) of the video, of the frame there, and the tracks, `NO_TRACK` before they are joined.
    video: I64
    frame: I64
    track: I64
    #: (N,) seconds, confidence, pixels.
    time_s: F64
    score: F64
    size: F64
    #: (N, 3) yaw, pitch, roll, degrees.
    angles: F64

    @staticmethod
    def none() -> FollowedFaces:
        """No faces."""
        n, x = np.zeros(0, np.int64), np.zeros(0)
        return FollowedFaces(n, n, n, n, n, x, x, x, np.zeros((0, len(tables.ANGLES))))

    def take(self, rows: I64) -> FollowedFaces:
        """The faces of `rows`."""
        return FollowedFaces(*(getattr(self, name)[rows] for name in FollowedFaces.__annotations__))


def join_videos(run: Run) -> None:
    """Join the tracks of a complete run and write its tables of tracks and videos, unless that is done already."""
    videos = planned_videos(run)
    if not videos or joined(run):
        return
    followed = [receipt for receipt in receipts(run) if seams_name(receipt.shard) in receipt.files]
    shards = {receipt.shard: read_tracks(run.folder, receipt.shard) for receipt in followed}
    faces = numbered(_followed_faces(run, shards), shards)
    smoother = None if run.options.get("smooth", NO_SMOOTHING) == NO_SMOOTHING else Smoother.of(run)
    for receipt, columns in _new_columns(run, followed, videos, faces, smoother):
        _replace_columns(run, receipt, columns)
    put_joined(run, videos, faces, functools.partial(videos_table, run, videos))


def put_joined(
    run: Run, videos: Sequence[PlannedVideo], faces: FollowedFaces, videos_of: Callable[[dict[int, int]], pa.Table]
) -> None:
    """Write the tables of tracks and videos; `videos_of` gives the latter, told the number of tracks by video."""
    summary = {video.video: _summary(video, faces) for video in videos}
    _write_table(run, TRACKS_FILE, _tracks_table(run, videos, summary))
    _write_table(run, VIDEOS_FILE, videos_of({video: len(tracks) for video, tracks in summary.items()}))
    run.folder.put(_MADE_FROM, atomic.as_json({"from": _digest(run), "files": _checksums(run)}))


def _write_table(run: Run, name: str, table: pa.Table) -> None:
    with run.folder.writing(name) as work:
        store.put_table(work, table)


def joined(run: Run) -> bool:
    """Whether the tables of tracks and videos are there, whole, and of the shards as they are now."""
    try:
        made = json.loads(run.folder.read(_MADE_FROM))
        return bool(made == {"from": _digest(run), "files": _checksums(run)})
    except (OSError, ValueError):
        return False


def _checksums(run: Run) -> dict[str, str]:
    return {name: run.folder.checksum(name) for name in (TRACKS_FILE, VIDEOS_FILE)}


def _digest(run: Run) -> str:
    """Tells the shards as they are now from what they were, by their receipts."""
    digest = hashlib.sha256()
    for receipt in receipts(run):
        digest.update(f"{receipt.shard} {sorted(receipt.checksums.items())}\n".encode())
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------ who is who


def _followed_faces(run: Run, shards: dict[int, ShardTracks]) -> FollowedFaces:
    parts = [_of_shard(run, shard, tracks) for shard, tracks in shards.items()]
    parts = parts or [FollowedFaces.none()]
    columns = {name: [getattr(part, name) for part in parts] for name in FollowedFaces.__annotations__}
    return FollowedFaces(**{name: np.concatenate(column) for name, column in columns.items()})


def _of_shard(run: Run, shard: int, tracks: ShardTracks) -> FollowedFaces:
    columns = ["video", "frame", "time_s", "score", "face_size"]
    table = _faces(run, shard, [*columns, *tables.ANGLES])
    rows = np.flatnonzero(tracks.track != NO_TRACK)
    video, frame, time_s, score, size = (table[name].to_numpy()[rows] for name in columns)
    return FollowedFaces(
        shard=np.full(len(rows), shard, np.int64),
        row=rows,
        video=video.astype(np.int64),
        frame=frame.astype(np.int64),
        track=tracks.track[rows],
        time_s=time_s.astype(np.float64),
        score=score.astype(np.float64),
        size=size.astype(np.float64),
        angles=angles_of(table)[rows],
    )


def angles_of(faces: pa.Table) -> F64:
    """Yaw, pitch, roll (N, 3) of rows of a faces table, degrees."""
    return np.stack([faces[name].to_numpy() for name in tables.ANGLES], axis=1).astype(np.float64)


def numbered(faces: FollowedFaces, shards: dict[int, ShardTracks]) -> FollowedFaces:
    """The faces with the run's own track ids: in order of videos, then of first frames."""
    segments: dict[int, list[tuple[int, SegmentTracks]]] = {}
    for shard, tracks in shards.items():
        for segment in tracks.segments:
            segments.setdefault(segment.video, []).append((shard, segment.tracks))
    track, given = np.full(len(faces.track), NO_TRACK, np.int64), 0
    for video, parts in segments.items():
        of_video = np.flatnonzero(faces.video == video)
        whole = np.full(len(of_video), NO_TRACK, np.int64)
        for (shard, _), ids in zip(parts, join_tracks([tracks for _, tracks in parts]), strict=True):
            here = faces.shard[of_video] == shard
            whole[here] = ids[faces.track[of_video[here]]]
        track[of_video] = given + _by_first_frame(whole, faces.frame[of_video])
        given += len(np.unique(whole))
    return replace(faces, track=track)


def _by_first_frame(tracks: I64, frames: I64) -> I64:
    """Track ids (N,) from 0 without gaps, in order of the frames in which they begin."""
    ids, place = np.unique(tracks, return_inverse=True)
    first = np.full(len(ids), np.iinfo(np.int64).max)
    np.minimum.at(first, place, frames)
    rank = np.empty(len(ids), np.int64)
    rank[np.lexsort((ids, first))] = np.arange(len(ids))
    return rank[place]


# ------------------------------------------------------------------------------------------------- the tables


def _summary(video: PlannedVideo, faces: FollowedFaces) -> TrackSummary:
    own = faces.take(np.flatnonzero(faces.video == video.video))
    return summarise_tracks(own.track, own.frame, own.score, own.size, own.angles, video.numbers)


def _tracks_table(run: Run, videos: Sequence[PlannedVideo], summaries: dict[int, TrackSummary]) -> pa.Table:
    parts = [_tracks_of(video, summaries[video.video]) for video in videos]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["key"] = columns["key"].tolist()
    return table_of(columns, tables.tracks_schema(model_metadata(run.model)))


def _tracks_of(video: PlannedVideo, tracks: TrackSummary) -> dict[str, Any]:
    n = len(tracks)
    return {
        **{name: getattr(tracks, name) for name in TrackSummary.__annotations__ if not name.endswith("_angles")},
        **{
            f"{angle}_{which}": getattr(tracks, f"{which}_angles")[:, i]
            for i, angle in enumerate(tables.ANGLES)
            for which in ("median", "low", "high")
        },
        "video": np.full(n, video.video, np.int64),
        "key": np.full(n, video.key, object),
        "first_time_s": video.times[np.searchsorted(video.numbers, tracks.first_frame)],
        "last_time_s": video.times[np.searchsorted(video.numbers, tracks.last_frame)],
    }


def _faces(run: Run, shard: int, columns: Sequence[str]) -> pa.Table:
    name = store.table_name(store.FACES, shard)
    with run.folder.reading(name):
        return pq.read_table(run.folder.source(name), columns=list(columns))


def _new_columns(
    run: Run,
    followed: Sequence[Receipt],
    videos: Sequence[PlannedVideo],
    faces: FollowedFaces,
    smoother: Smoother | None,
) -> Iterator[tuple[Receipt, dict[str, Any]]]:
    """The columns that each shard's faces get, by name: values (n, …) and the rows that have any.

    Smoothed values are held for the shards of one video at a time.
    """
    smoothed: dict[int, list[tuple[I64, dict[str, Any]]]] = {}
    waiting = list(followed)
    for video in videos:
        rows = np.flatnonzero(faces.video == video.video)
        if smoother is not None and len(rows):
            _smooth_video(run, smoother, video, faces.take(rows), smoothed)
        last = int(faces.shard[rows].max()) if len(rows) else -1
        while waiting and waiting[0].shard < last:
            yield waiting[0], _columns_of(waiting[0].shard, faces, smoothed)
            waiting.pop(0)
    for receipt in waiting:
        yield receipt, _columns_of(receipt.shard, faces, smoothed)


def _smooth_video(
    run: Run,
    smoother: Smoother,
    video: PlannedVideo,
    own: FollowedFaces,
    smoothed: dict[int, list[tuple[I64, dict[str, Any]]]],
) -> None:
    """Smooth the tracks of a video, whose faces are `own`, into `smoothed`: rows and their columns, by shard."""
    shards = np.unique(own.shard)
    raw = [_faces(run, int(s), NEEDED) for s in shards]
    held = pa.concat_tables([t.take(own.row[own.shard == s]) for s, t in zip(shards, raw, strict=True)])
    columns = smoother.smoothed(own.track, np.searchsorted(video.numbers, own.frame), own.time_s, held)
    for shard in shards:
        here = np.flatnonzero(own.shard == shard)
        smoothed.setdefault(int(shard), []).append((own.row[here], {n: v[here] for n, v in columns.items()}))


def _columns_of(
    shard: int, faces: FollowedFaces, smoothed: dict[int, list[tuple[I64, dict[str, Any]]]]
) -> dict[str, Any]:
    here = np.flatnonzero(faces.shard == shard)
    columns: dict[str, Any] = {"track_id": (faces.row[here], faces.track[here])}
    parts = smoothed.pop(shard, [])
    for name in parts[0][1] if parts else ():
        rows = np.concatenate([rows for rows, _ in parts])
        columns[name] = rows, np.concatenate([values[name] for _, values in parts])
    return columns


def _replace_columns(run: Run, receipt: Receipt, columns: dict[str, tuple[I64, Any]]) -> None:
    """Give the faces of a shard these columns, null in other rows; its other files stay."""
    faces = store.table_name(store.FACES, receipt.shard)
    with run.folder.reading(faces):
        before = pq.read_table(run.folder.source(faces))
    table = before
    for name, (rows, values) in columns.items():
        place = table.schema.get_field_index(name)
        column = _sparse(len(table), rows, values, table.schema.field(name).type)
        table = table.set_column(place, table.schema.field(name), column)
    if table.equals(before):
        return
    work = run.folder.staged(faces)
    try:
        store.put_table(work, table)
        files = {name: StagedFile(None, size, receipt.checksums[name]) for name, size in receipt.files.items()}
        files[faces] = StagedFile(str(work), store.size_of(work), store.checksum(work))
        staged = StagedShard(files, receipt.rows, receipt.no_face, receipt.errors)
        replace_shard(run.folder.address, receipt.shard, staged)
    finally:
        atomic.discard(work)


def _sparse(n: int, rows: I64, values: Any, kind: pa.DataType) -> pa.Array:
    """A column of n values, those of `rows` given as an array (len(rows), …), the others null."""
    place = np.full(n, -1, np.int64)
    place[rows] = np.arange(len(rows))
    if values.ndim == 2:
        flat = pa.array(np.ascontiguousarray(values).ravel()).cast(kind.value_type)
        given = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    else:
        given = pa.array(values).cast(kind)
    return given.take(pa.array(place, mask=place < 0))
