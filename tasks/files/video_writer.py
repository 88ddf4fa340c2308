"""Pictures to an mp4 that every player shows, each at its own time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.errors import DdfaError

#: Ticks a second of the times that are written.
_TICKS = 90_000
#: H.264 where this PyAV was built with it, else MPEG-4 part 2; how good, and what players want to know first.
_CODECS = ("libx264", "mpeg4")
_OPTIONS = {"libx264": {"crf": "18", "preset": "veryfast"}, "mpeg4": {"qscale": "3"}}


class VideoWriter:
    """Writes pictures (H, W, 3) BGR to an mp4; the first one's size is the video's, its sides made even."""

    def __init__(self, path: Path) -> None:
        self._container: Any = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream: Any = None
        self._last = -1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        if fault is None and self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()

    def add(self, picture: U8, time_s: float) -> None:
        """Write a picture that is shown from `time_s` on, later than those before it."""
        if self._stream is None:
            self._stream = self._opened(picture)
        height, width = picture.shape[:2]
        if (width, height) != (self._stream.width, self._stream.height):
            right, below = self._stream.width - width, self._stream.height - height
            if right in (0, 1) and below in (0, 1):
                picture = np.asarray(cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE))
            else:  # frames of a video may change their size
                picture = np.asarray(cv2.resize(picture, (self._stream.width, self._stream.height)))
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
        self._last = max(round(time_s * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def _opened(self, picture: U8) -> Any:
        codec = next((name for name in _CODECS if name in av.codecs_available), None)
        if codec is None:
            raise DdfaError("This PyAV can write neither H.264 nor MPEG-4; install av from PyPI.")
        stream: Any = self._container.add_stream(codec, options=_OPTIONS[codec])
        height, width = picture.shape[:2]
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, _TICKS)
        stream.codec_context.thread_count = 1
        return stream
