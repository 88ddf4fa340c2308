"""Tracks of a video's segments made those of the video, and what there is to say of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, U8, Bools, Floats, check_shape
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.inference.heads import HEAD_SIZE, head_pictures, may_be_again
from ddfa_batch.tasks.inference.track_matching import assign, landmark_distance, match_faces
from ddfa_batch.tasks.inference.track_state import Track, TrackerState

#: A face of the frame that two segments share is the same in both if it is this near, in units of its size; one that
#: the earlier segment had lost may have gone on a little.
_SAME, _LOST = 0.4, 0.8


@dataclass(frozen=True)
class SeamFaces:
    """Faces of a segment that its neighbour may know too."""

    #: (N,) the segment's own track ids.
    track: I64
    #: (N, 68, 3), pixels.
    landmarks: F32
    #: (N, 24, 24) pictures of the heads, grey; zeros where they are not known.
    heads: U8

    def __post_init__(self) -> None:
        check_shape("landmarks", self.landmarks, len(self.track), None, 3)
        check_shape("heads", self.heads, len(self.track), HEAD_SIZE, HEAD_SIZE)

    def without(self, tracks: I64) -> SeamFaces:
        """The faces of other tracks."""
        rows = np.flatnonzero(~np.isin(self.track, tracks))
        return SeamFaces(self.track[rows], self.landmarks[rows], self.heads[rows])


@dataclass(frozen=True)
class Seam:
    """A segment's tracks in the first frame of the later of two segments, which both have followed."""

    #: Faces seen in the frame.
    live: SeamFaces
    #: Faces lost not long before it, or, on the later side, first seen not long after it.
    near: SeamFaces

    @staticmethod
    def at_end(state: TrackerState) -> Seam:
        """The earlier side: what a tracker knows after the frame that both share; a cut ends what it cut off."""
        angles = np.array([track.angle for track in state.live], np.float64)
        landmarks = _landmarks(state.live)
        heads = head_pictures(state.past[-1].image, landmarks, angles) if state.live else _no_heads(0)
        lost = tuple(track for track in state.lost if not track.cut_off)
        lost_heads = _no_heads(len(lost))
        for place, track in enumerate(lost):
            lost_heads[place] = 0 if track.head is None else track.head
        return Seam(SeamFaces(_ids(state.live), landmarks, heads), SeamFaces(_ids(lost), _landmarks(lost), lost_heads))

    @staticmethod
    def at_start(track_ids: I64, frames: I64, landmarks: F32, heads: Mapping[int, U8], patience: int) -> Seam:
        """The later side, of all rows (N,) of a segment, whose first frame is 0: tracks that begin within
        `patience` frames, with their heads (24, 24), by track."""
        order = np.lexsort((frames, track_ids))
        ids, firsts = np.unique(track_ids[order], return_index=True)
        begins, begun = frames[order][firsts], landmarks[order][firsts]
        known = _no_heads(len(ids))
        for place, track in enumerate(ids.tolist()):
            known[place] = heads.get(track, 0)
        now, soon = begins == 0, (begins > 0) & (begins <= patience)
        return Seam(*(SeamFaces(ids[rows], begun[rows], known[rows]) for rows in (now, soon)))


def _ids(tracks: tuple[Track, ...]) -> I64:
    return np.array([track.track_id for track in tracks], np.int64)


def _landmarks(tracks: tuple[Track, ...]) -> F32:
    landmarks = [track.landmarks for track in tracks]
    return np.stack(landmarks) if landmarks else np.zeros((0, N_LANDMARKS, 3), np.float32)


def _no_heads(n: int) -> U8:
    return np.zeros((n, HEAD_SIZE, HEAD_SIZE), np.uint8)


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
    """Track ids before the seam and after it that are of one face: seen on both sides, on one of them, or near it.

    In the frame that both have seen the place tells; where time has passed a face must look the same, too.
    """
    before, after = _same_place(end.live, start.live)
    for known, found in ((end.near, start.live), (end.live, start.near), (end.near, start.near)):
        mine, theirs = _seen_again(known.without(before), found.without(after))
        before, after = np.concatenate([before, mine]), np.concatenate([after, theirs])
    return before, after


def _same_place(known: SeamFaces, found: SeamFaces) -> tuple[I64, I64]:
    rows, columns = match_faces(known.landmarks, found.landmarks, _SAME)
    return known.track[rows], found.track[columns]


def _seen_again(known: SeamFaces, found: SeamFaces) -> tuple[I64, I64]:
    away = landmark_distance(known.landmarks, found.landmarks)
    possible = may_be_again(known.landmarks, known.heads, found.landmarks, found.heads)
    rows, columns = assign(np.where(possible, away, np.inf), _LOST)
    return known.track[rows], found.track[columns]


#: Percentiles of the angles that a track is told of by.
_LOW_MIDDLE_HIGH = (5, 50, 95)


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
    #: Yaw, pitch, roll (n, 3), degrees: the median, and the 5th and the 95th percentile, which no single frame moves.
    median_angles: F64
    low_angles: F64
    high_angles: F64

    def __len__(self) -> int:
        return len(self.track_id)


def summarise_tracks(
    track_ids: I64, frames: I64, scores: Floats, sizes: Floats, angles: Floats, taken: I64
) -> TrackSummary:
    """Summaries of rows (N,) of faces with their yaw, pitch and roll (N, 3), degrees.

    `taken` are the numbers of all frames that were looked at, increasing: where only some of a video's are taken,
    those between are no gaps.
    """
    for name, column in (("frames", frames), ("scores", scores), ("sizes", sizes)):
        check_shape(name, column, len(track_ids))
    check_shape("angles", angles, len(track_ids), 3)
    order = np.lexsort((frames, track_ids))
    ids, starts = np.unique(track_ids[order], return_index=True)
    places = np.searchsorted(taken, frames)[order]
    n = np.diff([*starts, len(order)])
    last = starts + n - 1
    jumps = np.diff(places, prepend=places[:1]) - 1
    jumps[starts] = 0

    def total(values: Floats | I64 | Bools) -> F64:
        return np.add.reduceat(np.asarray(values, np.float64), starts) if len(starts) else np.zeros(0)

    parts = np.split(np.asarray(angles, np.float64)[order], starts[1:]) if len(starts) else []
    spread = [np.percentile(part, _LOW_MIDDLE_HIGH, axis=0) for part in parts]
    low, middle, high = np.array(spread).reshape(-1, 3, 3).transpose(1, 0, 2)
    return TrackSummary(
        track_id=ids,
        first_frame=frames[order][starts],
        last_frame=frames[order][last],
        n_frames=n.astype(np.int64),
        n_gaps=total(jumps > 0).astype(np.int64),
        frames_missing=total(jumps).astype(np.int64),
        mean_score=total(scores[order]) / n,
        mean_size=total(sizes[order]) / n,
        median_angles=middle,
        low_angles=low,
        high_angles=high,
    )
