"""Single frames of video files, by their numbers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import U8


class VideoFrames:
    """Reads frames by number; cheap where the numbers of one file grow. Frames are counted from 0, as they decode."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._capture = cv2.VideoCapture()
        self._next = 0

    def frame(self, path: Path, number: int) -> U8 | None:
        """Frame `number` (H, W, 3) BGR; None where the file has none, or is no video that can be read.

        A seek by number is not exact with every codec, so frames between are passed over one by one.
        """
        if path != self._path or number < self._next:
            self._capture.release()
            self._capture = cv2.VideoCapture(str(path))
            self._path, self._next = path, 0
        while self._next < number:
            if not self._capture.grab():
                return None
            self._next += 1
        fine, picture = self._capture.read()
        self._next += 1
        return np.asarray(picture, np.uint8) if fine else None
