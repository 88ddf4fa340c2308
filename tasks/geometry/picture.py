"""A picture whose pixels are decoded as large as what looks at them needs, and no larger."""

from __future__ import annotations

import time
from collections.abc import Callable

from ddfa_batch.schemas.arrays import U8

#: By what a picture's sides may be divided where it is decoded smaller: what JPEG's transform allows.
REDUCTIONS = (1, 2, 4, 8)


class Picture:
    """A picture (height, width, 3) BGR uint8, its pixels decoded at a whole reduction of it when they are asked for.

    At reduction k a pixel is the mean of k × k pixels of the picture, so places between pixels (corners of boxes and
    rois) are k times what they are in the reduced pixels. The finest pixels decoded so far are kept, and given again
    to whatever needs no finer ones. An instance belongs to one thread.
    """

    def __init__(
        self, height: int, width: int, decode: Callable[[int], U8], reductions: tuple[int, ...] = REDUCTIONS
    ) -> None:
        """decode: pixels (⌈height/k⌉, ⌈width/k⌉, 3) at a reduction k, one of `reductions`."""
        self.height, self.width = height, width
        #: Seconds that decoding took so far.
        self.decode_seconds = 0.0
        self._decode, self._reductions = decode, reductions
        self._pixels: U8 | None = None
        self._reduction = 0

    @staticmethod
    def of(pixels: U8 | Picture) -> Picture:
        """A picture (H, W, 3) that is decoded already; a `Picture` itself."""
        if isinstance(pixels, Picture):
            return pixels
        picture = Picture(pixels.shape[0], pixels.shape[1], lambda _: pixels, (1,))
        picture._pixels, picture._reduction = pixels, 1
        return picture

    @property
    def reduction(self) -> int:
        """The least reduction that was decoded; 0 where none was yet."""
        return self._reduction

    def at_least(self, scale: float) -> tuple[U8, int]:
        """Pixels (h, w, 3) at least `scale` times as large as the picture, or all there are, and their reduction."""
        coarsest = max((k for k in self._reductions if k * scale <= 1), default=self._reductions[0])
        if self._pixels is None or self._reduction > coarsest:
            began = time.perf_counter()
            self._pixels, self._reduction = self._decode(coarsest), coarsest
            self.decode_seconds += time.perf_counter() - began
        return self._pixels, self._reduction

    def as_decoded(self) -> Picture:
        """The picture as far as it is decoded: it is never decoded finer."""
        pixels, reduction = self._pixels, self._reduction
        if pixels is None:
            return self
        seen = Picture(self.height, self.width, lambda _: pixels, (reduction,))
        seen._pixels, seen._reduction = pixels, reduction
        return seen
