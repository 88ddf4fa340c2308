"""The frames of one video that a shard has: read one after the other, and their faces followed or found anew in each.

A shard's frames of a video are a segment: it begins with a search of the whole frame. Where the next shard goes on with
the same video its first frame is looked at here too, so that both know the same faces there; that frame's rows are the
next shard's (`pipeline.tracks` joins what is one face).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from ddfa_batch.pipeline import freed_memory
from ddfa_batch.pipeline.context import RunContext
from ddfa_batch.pipeline.plan import PlanRow
from ddfa_batch.pipeline.track_seams import FollowedSegment
from ddfa_batch.schemas.arrays import F32, I64, U8
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.schemas.faces import Faces, ImageRecord
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.files.guarded_videos import read_frames
from ddfa_batch.tasks.files.inputs import resolve_path
from ddfa_batch.tasks.files.video_files import VideoFrame, VideoIndex
from ddfa_batch.tasks.files.video_inputs import Sampling, known_index
from ddfa_batch.tasks.geometry import crop, quality
from ddfa_batch.tasks.inference.face_observer import NetworkObserver
from ddfa_batch.tasks.inference.heads import head_pictures
from ddfa_batch.tasks.inference.track_joining import Seam, SegmentTracks
from ddfa_batch.tasks.inference.track_state import TrackedFaces, TrackerOptions, TrackerState
from ddfa_batch.tasks.inference.tracker import advance

#: Seconds that the tracker's options stand for at the 25 frames a second that they were chosen at: from one search to
#: the next, and until a lost face is given up.
_SEARCH_SECONDS, _PATIENCE_SECONDS = 0.4, 0.5
#: Frames of a segment after which freed memory is given back: seldom enough to cost less than 1 % of the time.
_GIVE_BACK_FRAMES = 100
#: Seconds by which a frame's time may differ from the planned one: none but for the rounding of a division.
_SAME_TIME = 1e-6


class FrameReader:
    """Reads the frames of a segment in order, each once; those in between are passed over."""

    def __init__(self, context: RunContext, rows: Sequence[PlanRow]) -> None:
        self._path = resolve_path(Path(context.run.root), rows[0].item)
        self._max_pixels = context.options.max_pixels
        self._left = [row.frame for row in rows if row.frame is not None]
        self._frames: Iterator[VideoFrame] | None = None
        self._resume = 0
        self._n_read = 0

    def index(self) -> VideoIndex:
        """What is known of the video; raises `ImageError`."""
        return known_index(self._path, self._max_pixels)

    def picture(self, row: PlanRow) -> U8:
        """The picture (H, W, 3) BGR of a frame; raises `ImageError` where it has none.

        A frame that was passed over killed workers: what cannot be decoded without it is left out too, up to the next
        keyframe.
        """
        number = row.frame
        passed_over = self._taken(number)
        index = self.index()
        if number is None:
            raise ImageError("failed", "The file changed since the run was planned: it has frames now.")
        if number >= len(index) or abs(index.times[number] - (row.time_s or 0.0)) > _SAME_TIME:
            raise ImageError("failed", "The file changed since the run was planned: it has other frames now.")
        if passed_over is not None:
            later = index.keyframes[index.keyframes > passed_over]
            self._resume = int(later[0]) if index.container.seekable and len(later) else len(index)
            self._frames = None
        if number < self._resume:
            raise ImageError("crashed", "It cannot be decoded without an earlier frame, on which workers died.")
        if self._frames is None:
            self._frames = read_frames(index, np.array([number, *self._left], np.int64), self._max_pixels)
        self._n_read += 1
        if self._n_read % _GIVE_BACK_FRAMES == 0:
            freed_memory.give_back()
        frame = next(self._frames, VideoFrame(number, row.time_s or 0.0, None))
        if not self._left:
            next(self._frames, None)  # at its end it lets the decoder go to the next video
        if frame.image is None:
            raise frame.missing
        return frame.image

    def _taken(self, number: int | None) -> int | None:
        """Take a frame off those that are left; the last one before it that was never asked for, if there is one."""
        if number not in self._left:
            return None
        at = self._left.index(number)
        passed_over = self._left[at - 1] if at else None
        self._left = self._left[at + 1 :]
        return passed_over


class Follower:
    """Follows the faces of one segment, frame by frame."""

    def __init__(self, context: RunContext, find: NetworkObserver, rows: Sequence[PlanRow]) -> None:
        self._context, self._see, self._rows = context, find, rows
        self._reader = FrameReader(context, rows)
        self._state = TrackerState()
        self._advanced: list[int] = []
        self._options: TrackerOptions | None = None
        self._seen: list[tuple[I64, I64, F32]] = []
        self._heads: dict[int, U8] = {}

    def look(self, row: PlanRow) -> tuple[ImageRecord, Faces]:
        """Follow the faces into one more frame: its record, and faces of it and of frames before."""
        clock = [time.perf_counter()]
        image = self._reader.picture(row)
        clock.append(time.perf_counter())
        search = row.image_id == self._rows[-1].image_id
        self._state, found = advance(self._state, image, self._see, self._tracking(), search)
        self._advanced.append(row.image_id)
        self._seen.append((found.track_id, found.frame, found.faces.landmarks))
        self._remember_heads(found, image)
        faces = self._faces(found, image)
        n = int((faces.image_id == row.image_id).sum())
        times = ((clock[1] - clock[0]) * 1e3, None, (time.perf_counter() - clock[1]) * 1e3)
        return frame_record(row, image.shape[:2], n, times), faces

    def _tracking(self) -> TrackerOptions:
        """The tracker's options at the rate at which frames are taken of this video."""
        if self._options is None:
            options = self._context.options
            rate = Sampling(options.every, options.fps).rate(self._reader.index())
            self._options = tracker_options(self._context.regressor.tells_faces, rate)
        return self._options

    def _faces(self, found: TrackedFaces, image: U8) -> Faces:
        height, width = image.shape[:2]
        faces, n = found.faces, len(found)
        return Faces(
            image_id=np.array(self._advanced, np.int64)[found.frame],
            index=np.zeros(n, np.int32),
            box=faces.boxes,
            score=faces.scores,
            roi=faces.rois,
            params=faces.params,
            sharpness=np.array([quality.sharpness(c) for c in faces.crops], np.float32),
            roi_outside=crop.outside_share(faces.rois, width, height),
            track=found.track_id,
        )

    def _remember_heads(self, found: TrackedFaces, image: U8) -> None:
        """Keep the looks of faces that are new at the segment's start, by which its neighbour may know them."""
        now, options = len(self._advanced) - 1, self._tracking()
        if now > options.patience + options.detect_every:
            return
        new = [row for row, track in enumerate(found.track_id.tolist()) if track not in self._heads]
        rows = np.array([row for row in new if found.frame[row] == now], np.int64)
        faces = found.faces.take(rows)
        heads = head_pictures(image, faces.landmarks, self._see.angles(faces))
        self._heads.update(zip(found.track_id[rows].tolist(), heads, strict=True))

    def segment(self) -> FollowedSegment:
        """What is known at its end."""
        nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, N_LANDMARKS, 3), np.float32))
        ids, frames, landmarks = zip(nothing, *self._seen, strict=True)
        patience = TrackerOptions().patience if self._options is None else self._options.patience
        rows = (np.concatenate(ids), np.concatenate(frames), np.concatenate(landmarks))
        start = Seam.at_start(*rows, self._heads, patience)
        tracks = SegmentTracks(self._state.next_id, start, Seam.at_end(self._state))
        return FollowedSegment(self._rows[0].video or 0, tracks)


def tracker_options(tells_faces: bool, rate: float) -> TrackerOptions:
    """How faces are followed through so many frames a second: searches and patience are meant in seconds."""
    options = TrackerOptions.suited(tells_faces)
    if not rate > 0:
        return options
    every = int(np.clip(round(_SEARCH_SECONDS * rate), 1, options.detect_every))
    patience = max(1, round(_PATIENCE_SECONDS * rate))
    return TrackerOptions(every, options.lost_score, patience, options.unconfirmed)


def frame_record(
    row: PlanRow, sides: tuple[int, int], n_faces: int, times: tuple[float | None, float | None, float | None]
) -> ImageRecord:
    """The record of a picture of sides (height, width); times: milliseconds of decoding, detection and regression."""
    height, width = sides
    decode_ms, detect_ms, regress_ms = times
    return ImageRecord(
        row.image_id,
        row.item.key,
        "ok" if n_faces else "no_face",
        width=width,
        height=height,
        n_faces=n_faces,
        decode_ms=decode_ms,
        detect_ms=detect_ms,
        regress_ms=regress_ms,
        video=row.video,
        frame=row.frame,
        time_s=row.time_s,
    )


def segments_of(rows: Sequence[PlanRow]) -> dict[int, list[PlanRow]]:
    """The rows of a shard that are frames, by video; those of a video stand together."""
    by_video = groupby((row for row in rows if row.video is not None), key=lambda row: row.video)
    return {video: list(frames) for video, frames in by_video if video is not None}


def seam_rows(rows: Sequence[PlanRow], after: Sequence[PlanRow]) -> list[PlanRow]:
    """The first row of the next shard's rows `after`, if it goes on with the video that ends the rows of this one."""
    if not rows or not after or rows[-1].video is None or rows[-1].frame is None:
        return []
    return [after[0]] if after[0].video == rows[-1].video else []


def by_frame(records: Sequence[ImageRecord], faces: Faces, most: int) -> tuple[list[ImageRecord], Faces]:
    """Followed faces in the order of their images, at most so many of each, best first.

    They come out of the tracker later than their frame. Those of images that are no records here, or errors, go.
    """
    whole = [record.image_id for record in records if record.status != "error"]
    faces = faces.take(np.flatnonzero(np.isin(faces.image_id, whole)))
    faces = faces.take(np.lexsort((faces.track, -faces.score, faces.image_id)))
    _, starts, counts = np.unique(faces.image_id, return_index=True, return_counts=True)
    index = np.arange(len(faces)) - np.repeat(starts, counts)
    kept = np.flatnonzero(index < most)
    faces = replace(faces.take(kept), index=index[kept].astype(np.int32))
    n_faces = dict(zip(*(a.tolist() for a in np.unique(faces.image_id, return_counts=True)), strict=True))
    return [_counted(record, n_faces.get(record.image_id, 0)) for record in records], faces


def _counted(record: ImageRecord, n_faces: int) -> ImageRecord:
    if record.status == "error":
        return record
    return replace(record, status="ok" if n_faces else "no_face", n_faces=n_faces)
