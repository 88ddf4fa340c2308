"""Videos among the inputs: each becomes its frames, or one input where it has none that could be taken."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ddfa_batch.schemas.arrays import I64
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS, ItemLimits
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.schemas.picture_formats import DEFAULT_FORMATS
from ddfa_batch.tasks.files.guarded_videos import index_video
from ddfa_batch.tasks.files.item_limits import limits_in_force
from ddfa_batch.tasks.files.video_containers import VIDEO_SUFFIXES, WEBP, container_of
from ddfa_batch.tasks.files.video_files import VideoIndex, at_rate, every_nth

#: Endings of pictures that are videos where they have more than one frame.
_ANIMATED = frozenset([".gif", ".webp"])
#: Where the flags of an extended WebP file stand, and the one of an animation (its container specification).
_WEBP_FLAGS, _WEBP_ANIMATION = 20, 0x02
#: Indexes kept in memory; one of an hour has 1.5 MB.
_KEPT = 16
#: Digits of a frame's number in its key, at least.
_DIGITS = 6


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are taken."""

    #: Each so manieth.
    every: int = 1
    #: So many a second, in place of `every`.
    fps: float | None = None
    #: Pixels above which a frame is refused.
    max_pixels: int = DEFAULT_MAX_PIXELS
    #: Formats of pictures that are allowed, GIF and WebP among them or not.
    formats: tuple[str, ...] = DEFAULT_FORMATS

    def numbers(self, index: VideoIndex) -> I64:
        """The numbers of the frames that are taken, increasing."""
        return every_nth(len(index), self.every) if self.fps is None else at_rate(index.times, self.fps)

    def rate(self, index: VideoIndex) -> float:
        """Frames a second that are taken, on average."""
        return index.fps / self.every if self.fps is None else min(self.fps, index.fps)


@dataclass(frozen=True)
class Frame:
    """Which frame of a video an input is."""

    #: Its place among the frames that are taken of the video, from 0.
    position: int
    #: Its number in the video, from 0; None for a video without frames, which is one input itself.
    number: int | None
    #: When it is shown, seconds after the first one.
    time_s: float | None

    def plan_columns(self, image_id: int) -> dict[str, Any]:
        """The plan's columns of the frame, which is the input `image_id`."""
        return {"video": image_id - self.position, "frame": self.number, "time_s": self.time_s}


def frame_key(key: str, number: int) -> str:
    """What frame `number` of a video is called."""
    return f"{key}#{number:0{_DIGITS}d}"


def video_key(key: str, frame: int | None) -> str:
    """What the video is called that a frame, or an input without frames, is of."""
    return key if frame is None else key.rpartition("#")[0]


def known_index(path: Path, max_pixels: int) -> VideoIndex:
    """`index_video`, remembered as long as the file and the limits stay as they are. Raises `ImageError`."""
    try:
        found = path.stat()
    except OSError:
        return index_video(path, max_pixels)
    known = _known_index(path, max_pixels, limits_in_force(), found.st_mtime_ns, found.st_size)
    if isinstance(known, ImageError):
        raise ImageError(known.kind, known.message)
    return known


@lru_cache(maxsize=_KEPT)
def _known_index(path: Path, max_pixels: int, _: ItemLimits, *__: int) -> VideoIndex | ImageError:
    try:
        return index_video(path, max_pixels)
    except ImageError as fault:
        return fault.with_traceback(None)


def taken_frames(path: Path, sampling: Sampling) -> list[Frame] | None:
    """The frames that are taken of the input at `path`; None where it is no video but a still.

    A video none of whose frames can be had is one input, whose row says why.
    """
    suffix = path.suffix.lower()
    if suffix in _ANIMATED:
        return _animation(path, sampling)
    if suffix not in VIDEO_SUFFIXES:
        return None
    try:
        return _frames(known_index(path, sampling.max_pixels), sampling)
    except ImageError:
        return [Frame(0, None, None)]


def _animation(path: Path, sampling: Sampling) -> list[Frame] | None:
    """The frames of a GIF or WebP with more than one; a damaged one stays a still, whose row says what is wrong."""
    try:
        if not _may_move(path, sampling.formats):
            return None
        index = known_index(path, sampling.max_pixels)
    except (OSError, ValueError, ImageError):
        return None
    return _frames(index, sampling) if len(index) > 1 else None


def _may_move(path: Path, formats: tuple[str, ...]) -> bool:
    """Whether a GIF or WebP, where that is allowed, may have more than one frame, by its first bytes."""
    if not path.is_file() or (container := container_of(path)) is None or container.title.lower() not in formats:
        return False
    if container is not WEBP:
        return container.title == "GIF"
    with path.open("rb") as file:
        head = file.read(_WEBP_FLAGS + 1)
    return head[12:16] == b"VP8X" and bool(head[_WEBP_FLAGS] & _WEBP_ANIMATION)


def _frames(index: VideoIndex, sampling: Sampling) -> list[Frame]:
    numbers = sampling.numbers(index)
    times = np.asarray(index.times)[numbers]
    rows = zip(numbers.tolist(), times.tolist(), strict=True)
    return [Frame(position, number, time_s) for position, (number, time_s) in enumerate(rows)]
