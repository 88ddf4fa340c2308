"""Tracks of a video's segments made those of the video, and what there is to say of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, Bools, Floats, check_shape
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.inference.track_matching import match_faces
from ddfa_batch.tasks.inference.track_state import Track, TrackerState

#: A face of the frame that two segments share is the same in both if it is this near, in units of its size; one that
#: the earlier segment had lost may have gone on a little.
_SAME, _LOST = 0.4, 0.8


@dataclass(frozen=True)
class Seam:
    """A segment's tracks in the first frame of the later of two segments, which both have followed."""

    #: (N,) the segment's own track ids, and (N, 68, 3) landmarks, of faces seen in the frame.
    live: I64
    live_landmarks: F32
    #: The same of faces lost not long before it, or, on the later side, first seen not long after it.
    near: I64
    near_landmarks: F32

    def __post_init__(self) -> None:
        check_shape("live_landmarks", self.live_landmarks, len(self.live), None, 3)
        check_shape("near_landmarks", self.near_landmarks, len(self.near), None, 3)

    @staticmethod
    def at_end(state: TrackerState) -> Seam:
        """The earlier side: what a tracker knows after the frame that both share."""
        return Seam(*_columns(state.live), *_columns(state.lost))

    @staticmethod
    def at_start(track_ids: I64, frames: I64, landmarks: F32, patience: int) -> Seam:
        """The later side, of all rows (N,) of a segment, whose first frame is 0: tracks that begin within
        `patience` frames."""
        order = np.lexsort((frames, track_ids))
        ids, firsts = np.unique(track_ids[order], return_index=True)
        begins, begun = frames[order][firsts], landmarks[order][firsts]
        now, soon = begins == 0, (begins > 0) & (begins <= patience)
        return Seam(ids[now], begun[now], ids[soon], begun[soon])


def _columns(tracks: tuple[Track, ...]) -> tuple[I64, F32]:
    ids = np.array([track.track_id for track in tracks], np.int64)
    landmarks = [track.landmarks for track in tracks]
    return ids, np.stack(landmarks) if landmarks else np.zeros((0, N_LANDMARKS, 3), np.float32)


@dataclass(frozen=True)
class SegmentTracks:
    """A segment as its neighbours see it."""

    #: Track ids run from 0 to before this one.
    n_tracks: int
    #: At its start and at its end; the video's first and last segments have no use for one of them.
    start: Seam
    end: Seam


def join_tracks(segments: list[SegmentTracks]) -> list[I64]:
    """The video's track id of every track (n_tracks,) of every segment: those that go on over a seam have one.

    Ids are given in the order of segments, then of tracks.
    """
    joined: list[I64] = []
    given = 0
    for place, segment in enumerate(segments):
        ids = np.full(segment.n_tracks, -1, np.int64)
        if place:
            before, after = _pairs(segments[place - 1].end, segment.start)
            ids[after] = joined[-1][before]
        new = np.flatnonzero(ids < 0)
        ids[new] = given + np.arange(len(new))
        given += len(new)
        joined.append(ids)
    return joined


def _pairs(end: Seam, start: Seam) -> tuple[I64, I64]:
    """Track ids before the seam and after it that are of one face: seen on both sides, on one of them, or near it."""
    before: list[I64] = []
    after: list[I64] = []
    sides = (
        (end.live, end.live_landmarks, start.live, start.live_landmarks, _SAME),
        (end.near, end.near_landmarks, start.live, start.live_landmarks, _LOST),
        (end.live, end.live_landmarks, start.near, start.near_landmarks, _LOST),
        (end.near, end.near_landmarks, start.near, start.near_landmarks, _LOST),
    )
    for ids, landmarks, other_ids, other_landmarks, most in sides:
        mine = np.flatnonzero(~np.isin(ids, np.concatenate([*before, np.zeros(0, np.int64)])))
        theirs = np.flatnonzero(~np.isin(other_ids, np.concatenate([*after, np.zeros(0, np.int64)])))
        rows, columns = match_faces(landmarks[mine], other_landmarks[theirs], most)
        before.append(ids[mine[rows]])
        after.append(other_ids[theirs[columns]])
    return np.concatenate(before), np.concatenate(after)


@dataclass(frozen=True)
class TrackSummary:
    """What `tracks/` says, one row a track."""

    track_id: I64
    #: Numbers of the first and the last frame with the face.
    first_frame: I64
    last_frame: I64
    #: Frames with the face.
    n_frames: I64
    #: Times that it was away between the two, and frames in all that it was.
    n_gaps: I64
    frames_missing: I64
    mean_score: F64
    #: Pixels, √(width · height) of the landmarks' box.
    mean_size: F64

    def __len__(self) -> int:
        return len(self.track_id)


def summarise_tracks(track_ids: I64, frames: I64, scores: Floats, sizes: Floats, taken: I64) -> TrackSummary:
    """Summaries of rows (N,) of faces; `taken` are the numbers of all frames that were looked at, increasing.

    Where only some of a video's frames are taken, those between are no gaps.
    """
    for name, column in (("frames", frames), ("scores", scores), ("sizes", sizes)):
        check_shape(name, column, len(track_ids))
    order = np.lexsort((frames, track_ids))
    ids, starts = np.unique(track_ids[order], return_index=True)
    places = np.searchsorted(taken, frames)[order]
    n = np.diff([*starts, len(order)])
    last = starts + n - 1
    jumps = np.diff(places, prepend=places[:1]) - 1
    jumps[starts] = 0

    def total(values: Floats | I64 | Bools) -> F64:
        return np.add.reduceat(np.asarray(values, np.float64), starts) if len(starts) else np.zeros(0)

    return TrackSummary(
        track_id=ids,
        first_frame=frames[order][starts],
        last_frame=frames[order][last],
        n_frames=n.astype(np.int64),
        n_gaps=total(jumps > 0).astype(np.int64),
        frames_missing=total(jumps).astype(np.int64),
        mean_score=total(scores[order]) / n,
        mean_size=total(sizes[order]) / n,
    )
