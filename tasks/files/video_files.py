"""Videos to frames: each numbered and timed before any is decoded, read in segments, however the file ends.

An index is made first, from the file's packets alone: it knows how many frames there are, when each is shown and where
decoding can begin. Frames are numbered by it, so that a segment gives the same pictures under the same numbers as the
whole video does, and each number that was asked for gets either a picture or the reason why there is none.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ddfa_batch.schemas.arrays import F64, I64, U8
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.files import animated_pictures
from ddfa_batch.tasks.files.video_containers import WEBP, Container, container_of, missing_bytes
from ddfa_batch.tasks.files.video_decoder import (
    Packets,
    check_size,
    decoded_pictures,
    faults,
    open_video,
    quarter_turns,
    read_packets,
    video_stream,
)

#: Seconds by which rounding may move a time.
_SAME_INSTANT = 1e-6
#: Frames of a segment: half a minute of work for one core, and few enough seams.
SEGMENT_FRAMES = 300


@dataclass(frozen=True)
class VideoIndex:
    """What is known of a video before its frames are decoded."""

    path: Path
    container: Container
    #: The decoder's name.
    codec: str
    #: Pixels of the first frame as it is shown, rotation applied; later frames may differ.
    width: int
    height: int
    #: Degrees, counter-clockwise, by which frames are turned for display: 0, 90, 180 or 270.
    rotation: int
    #: Seconds (N,) from the first frame's presentation to each frame's, increasing.
    times: F64
    #: Presentation time stamps (N,) of the frames in the stream's own unit, increasing.
    stamps: I64
    #: Numbers (K,) of the frames at which decoding can begin, increasing; the first is 0.
    keyframes: I64
    #: How the file ends, if not as it should: one sentence.
    ended_early: str | None

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def fps(self) -> float:
        """Frames a second, on average; 0 for a single frame."""
        return float((len(self) - 1) / self.times[-1]) if len(self) > 1 and self.times[-1] > 0 else 0.0


@dataclass(frozen=True)
class VideoFrame:
    """One frame that was asked for: its picture, or why there is none."""

    #: Position in the video, from 0.
    number: int
    #: Seconds since the first frame's presentation.
    time_s: float
    #: Pixels (H, W, 3) BGR uint8, rotation applied.
    image: U8 | None
    fault: ImageError | None = None

    @property
    def missing(self) -> ImageError:
        """Why there is no picture."""
        return self.fault or ImageError("undecodable", "The decoder gave no picture for this frame.")


@dataclass(frozen=True)
class Segment:
    """Consecutive frames first ≤ number < stop of a video."""

    first: int
    stop: int


def segments(n_frames: int, length: int = SEGMENT_FRAMES) -> list[Segment]:
    """Cut so many frames into segments of about `length`, none much shorter than the others."""
    n = max(-(-n_frames // length), 1)
    edges = [round(i * n_frames / n) for i in range(n + 1)]
    return [Segment(first, stop) for first, stop in pairwise(edges) if stop > first]


def every_nth(n_frames: int, every: int) -> I64:
    """Numbers of each `every`-th frame, the first included."""
    return np.arange(0, n_frames, every, dtype=np.int64)


def at_rate(times: F64, fps: float) -> I64:
    """Numbers of the frames shown at 0, 1/fps, 2/fps … seconds; none twice where the video has fewer."""
    # A tick that falls on a frame but for rounding is that frame's.
    ticks = np.arange(0.0, times[-1] + _SAME_INSTANT, 1 / fps) + _SAME_INSTANT
    return np.unique(np.searchsorted(times, ticks, side="right") - 1).astype(np.int64)


# ------------------------------------------------------------------------------------------------- the index


def index_video(path: Path, max_pixels: int) -> VideoIndex:
    """The frames of a video, from its packets; nothing but the first frame is decoded.

    Raises `ImageError`: missing, unreadable, empty, not_a_video, truncated (before its first frame), no_frames,
    too_large or undecodable.
    """
    container = _known_container(path)
    lacks = missing_bytes(path, container)
    if container is WEBP:
        return _index_pictures(path, max_pixels, lacks)
    try:
        with open_video(path, container) as source:
            stream = video_stream(source)
            check_size(stream.codec_context.width, stream.codec_context.height, max_pixels)
            packets = read_packets(source, stream)
            stamps, keyframes = _in_order(packets)
            codec, unit = str(stream.codec_context.name), float(stream.time_base)
        if not len(stamps):
            raise ImageError("no_frames", "The video has no frames.")
        with open_video(path, container) as source:
            width, height, rotation = _first_shown(source, max_pixels)
    except faults() as fault:
        raise _unusable(container, lacks, fault) from None
    except ImageError as fault:
        raise (_unusable(container, lacks, fault) if lacks and fault.kind == "no_frames" else fault) from None
    times = (stamps - stamps[0]) * unit
    damaged = packets.fault or (f"it lacks {lacks:,} bytes" if lacks else None)
    ended = f"The {container.title} file ends early, after {len(stamps):,} frames: {damaged}." if damaged else None
    return VideoIndex(path, container, codec, width, height, rotation, times, stamps, keyframes, ended)


def _known_container(path: Path) -> Container:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would block for ever, a device never end
            raise ImageError("unreadable", "Not a regular file.")
        if not found.st_size:
            raise ImageError("empty", "The file is empty (0 bytes).")
        container = container_of(path)
    except FileNotFoundError:
        raise ImageError("missing", "There is no such file.") from None
    except OSError as fault:
        raise ImageError("unreadable", f"The file cannot be read: {fault.strerror}.") from None
    if container is None:
        raise ImageError("not_a_video", "Not a video of a known format (MP4, MOV, MKV, WebM, AVI, GIF, WebP).")
    return container


def _unusable(container: Container, lacks: int, fault: Exception) -> ImageError:
    if lacks:
        lacking = f"it lacks {lacks:,} bytes"
        return ImageError("truncated", f"The {container.title} file ends before its first frame ({lacking}).")
    if isinstance(fault, EOFError):
        return ImageError("no_frames", f"The {container.title} file ends without a frame.")
    reason = str(getattr(fault, "strerror", None) or fault or type(fault).__name__)
    return ImageError("undecodable", f"The {container.title} file cannot be understood: {reason}.")


def _in_order(packets: Packets) -> tuple[I64, I64]:
    """Stamps in order of presentation, and the numbers of the keyframes among them."""
    stamps = np.unique(packets.stamps)  # two packets of one time are one frame, or one field each
    numbers = np.searchsorted(stamps, packets.stamps[packets.keyframes])
    return stamps, np.unique(np.concatenate([[0], numbers])).astype(np.int64)


def _first_shown(source: Any, max_pixels: int) -> tuple[int, int, int]:
    """Width, height and rotation of the first frame that decodes."""
    for frame in decoded_pictures(source, video_stream(source), max_pixels, []):
        rotation = quarter_turns(frame)
        width, height = (frame.width, frame.height) if rotation % 2 == 0 else (frame.height, frame.width)
        return width, height, 90 * rotation
    raise ImageError("undecodable", "No frame of the video can be decoded.")


def _index_pictures(path: Path, max_pixels: int, lacks: int) -> VideoIndex:
    timed = animated_pictures.timeline(path, max_pixels)
    reason = f"it lacks {lacks:,} bytes" if lacks else timed.fault
    ended = f"The {WEBP.title} file ends early, after {len(timed.times):,} frames: {reason}." if reason else None
    stamps = np.rint(timed.times * 1000).astype(np.int64)
    start = np.zeros(1, np.int64)
    return VideoIndex(path, WEBP, "webp", timed.width, timed.height, 0, timed.times, stamps, start, ended)


# ------------------------------------------------------------------------------------------------ the frames


def read_frames(index: VideoIndex, numbers: I64, max_pixels: int) -> Iterator[VideoFrame]:
    """The frames of increasing `numbers`, one each and in order, decoded from the keyframe before the first.

    A frame whose picture does not decode, or has more than `max_pixels`, comes with its fault. Frames between are
    decoded, for the others depend on them, but not converted.
    """
    complaints: list[str] = []
    waiting = [int(number) for number in numbers][::-1]
    for number, picture in _numbered(index, waiting[-1] if waiting else 0, max_pixels, complaints):
        while waiting and waiting[-1] < number:
            yield _without_picture(index, waiting.pop(), complaints)
        if waiting and waiting[-1] == number:
            yield _shown(index, waiting.pop(), picture, max_pixels)
        if not waiting:
            return
    while waiting:
        yield _without_picture(index, waiting.pop(), complaints)


def _without_picture(index: VideoIndex, number: int, complaints: list[str]) -> VideoFrame:
    kind, reason = "undecodable", f"The decoder gave no picture for this frame{_last(complaints)}."
    if index.ended_early and number >= len(index) - 1:
        kind, reason = "truncated", "The file ends before this frame does."
    return VideoFrame(number, float(index.times[number]), None, ImageError(kind, reason))


def _last(complaints: list[str]) -> str:
    return f": {complaints[-1][:160]}" if complaints else ""


def _shown(index: VideoIndex, number: int, picture: Any, max_pixels: int) -> VideoFrame:
    time_s = float(index.times[number])
    try:
        if isinstance(picture, np.ndarray):
            return VideoFrame(number, time_s, picture)
        check_size(picture.width, picture.height, max_pixels)
        if picture.is_corrupt:
            raise ImageError("undecodable", "The frame's data are damaged.")
        pixels: U8 = picture.to_ndarray(format="bgr24", threads=1)
    except ImageError as fault:
        return VideoFrame(number, time_s, None, fault)
    return VideoFrame(number, time_s, np.ascontiguousarray(np.rot90(pixels, quarter_turns(picture))))


def _numbered(index: VideoIndex, first: int, max_pixels: int, complaints: list[str]) -> Iterator[tuple[int, Any]]:
    """Pictures with their numbers, from at or before frame `first` on; as far back as is needed for that."""
    if index.container is WEBP:
        yield from enumerate(animated_pictures.pictures(index.path))
        return
    starts = [int(k) for k in index.keyframes[index.keyframes <= first][::-1]] if index.container.seekable else [0]
    for start in starts:
        numbered = _from_keyframe(index, start, max_pixels, complaints)
        begun = next(numbered, None)
        if begun is not None and (begun[0] <= first or not start):
            yield begun
            yield from numbered
            return
        numbered.close()


def _from_keyframe(index: VideoIndex, start: int, max_pixels: int, complaints: list[str]) -> Any:
    try:
        with open_video(index.path, index.container) as source:
            stream = video_stream(source)
            counted = not index.container.presentation_times and stream.codec_context.has_b_frames
            if start and not counted:
                source.seek(int(index.stamps[start]), stream=stream)
            for count, picture in enumerate(decoded_pictures(source, stream, max_pixels, complaints)):
                # Where times are those of decoding, pictures that come out in another order are counted.
                number = count if counted else _number_of(index, picture)
                if number is not None:
                    yield number, picture
    except faults() as fault:
        complaints.append(str(fault))


def _number_of(index: VideoIndex, picture: Any) -> int | None:
    stamp = picture.dts if picture.pts is None else picture.pts
    row = int(np.searchsorted(index.stamps, stamp)) if stamp is not None else len(index)
    return row if row < len(index) and index.stamps[row] == stamp else None
