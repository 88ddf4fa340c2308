"""Whether what a run's tables say of videos, frames and tracks adds up, and what there is to tell of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.receipts import receipts
from ddfa_batch.pipeline.tracks import TRACKS_FILE, VIDEOS_FILE, joined
from ddfa_batch.pipeline.video_tables import PlannedVideo, count_by, planned_videos
from ddfa_batch.schemas.arrays import I64
from ddfa_batch.tasks.files import store

#: Videos that end early or have no frames which are named; the others are counted.
_NAMED = 5


@dataclass(frozen=True)
class VideoAccount:
    """What there is to tell of a run's videos."""

    #: What they are, in sentences; empty for a run without videos.
    lines: list[str]
    #: What does not add up, in sentences.
    faults: list[str]


def video_account(run: Run, complete: bool) -> VideoAccount:
    """Tell of the videos of a run, and prove their counts where all shards are done."""
    videos = planned_videos(run) if run.kind == "process" else []
    if not videos:
        return VideoAccount([], [])
    planned = f"{len(videos):,} planned, with {sum(len(video.numbers) for video in videos):,} frames taken"
    if not complete:
        return VideoAccount([planned], [])
    if not joined(run):
        return VideoAccount([f"{planned}; their tracks are not joined yet: the same command does it"], [])
    try:
        table, tracks = (pq.read_table(run.folder.source(name)) for name in (VIDEOS_FILE, TRACKS_FILE))
        faults = [*_wrong_frames(run, videos, table), *_wrong_tracks(run, tracks)]
    except (OSError, pa.ArrowException) as fault:
        return VideoAccount([planned], [f"the tables of videos and tracks cannot be read ({fault})"])
    return VideoAccount(_lines(table, tracks), faults)


def _lines(videos: pa.Table, tracks: pa.Table) -> list[str]:
    amiss = videos.filter(pc.not_equal(videos["status"], "ok")).to_pylist()
    told = [f"{row['key']}: {row['message']}" for row in amiss[:_NAMED]]
    more = [f"and {len(amiss) - _NAMED:,} more that end early or have no frames"] if len(amiss) > _NAMED else []
    taken, errors = (pc.sum(videos[name]).as_py() for name in ("n_taken", "n_errors"))
    counts = f"{len(videos):,} with {taken:,} frames, {errors:,} of them errors; tracks: {len(tracks):,}"
    return [counts, *told, *more]


def _wrong_frames(run: Run, videos: list[PlannedVideo], table: pa.Table) -> list[str]:
    """Videos without exactly one row, or whose frames have not exactly one row each."""
    found = []
    if table["video"].to_pylist() != [video.video for video in videos]:
        found.append(f"{VIDEOS_FILE} has {len(table)} rows for {len(videos)} videos, or those of others")
    rows = count_by(run, store.IMAGES, "video")
    for video in videos:
        planned = max(len(video.numbers), 1)
        if (there := rows.pop(video.video, 0)) != planned:
            found.append(f"{video.key} has {there:,} rows in {store.IMAGES}/ for {planned:,} frames")
    if rows:
        found.append(f"{store.IMAGES}/ has frames of {len(rows)} videos that were not planned")
    return found


def _wrong_tracks(run: Run, tracks: pa.Table) -> list[str]:
    """Tracks whose faces are not those that their rows say, and faces of one track in one frame."""
    ids, images, frames = (np.concatenate(column) for column in zip(*_tracked(run), strict=True))
    found = []
    order = np.lexsort((frames, ids))
    present, starts, counts = np.unique(ids[order], return_index=True, return_counts=True)
    said = [tracks[name].to_numpy() for name in ("track_id", "n_frames", "first_frame", "last_frame")]
    there = [present, counts, frames[order][starts], frames[order][starts + counts - 1]]
    if not all(np.array_equal(a, b) for a, b in zip(said, there, strict=True)):
        found.append(f"{TRACKS_FILE} ({len(said[0])} tracks) does not agree with faces/ ({len(present)} tracks)")
    if len(np.unique(np.stack([ids, images]), axis=1).T) != len(ids):
        found.append("a track has two faces in one frame")
    return found


def _tracked(run: Run) -> list[tuple[I64, ...]]:
    """Track, image and frame of all faces that have a track, by shard."""
    none = np.zeros(0, np.int64)
    found: list[tuple[I64, ...]] = [(none, none, none)]
    for receipt in receipts(run):
        with pq.ParquetFile(run.folder.source(store.table_name(store.FACES, receipt.shard))) as file:
            if "track_id" not in file.schema_arrow.names:
                continue
            rows = file.read(columns=["track_id", "image_id", "frame"])
        rows = rows.filter(pc.is_valid(rows["track_id"]))
        found.append(tuple(rows[name].to_numpy() for name in ("track_id", "image_id", "frame")))
    return found
