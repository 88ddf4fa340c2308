"""Single frames of video files, by their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.files.guarded_videos import read_frames
from ddfa_batch.tasks.files.video_files import VideoFrame
from ddfa_batch.tasks.files.video_inputs import known_index


class VideoFrames:
    """Reads frames by number, counted as they are shown, from 0; cheap where one of a file follows the other."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._frames: Iterator[VideoFrame] = iter(())
        self._next = 0

    def frame(self, path: Path, number: int) -> U8 | None:
        """Frame `number` (H, W, 3) BGR; None where the file has none, or is no video that can be read."""
        try:
            index = known_index(path, DEFAULT_MAX_PIXELS)
        except ImageError:
            return None
        if number >= len(index):
            return None
        if path != self._path or number != self._next:
            self._path, self._next = path, number
            self._frames = read_frames(index, np.arange(number, len(index)), DEFAULT_MAX_PIXELS)
        self._next += 1
        found = next(self._frames, None)
        return None if found is None else found.image
