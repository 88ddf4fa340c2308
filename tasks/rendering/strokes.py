"""Lines and dots of any width, anti-aliased: every pixel is covered by as much of the stroke as lies over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, U8, Floats, check_shape
from ddfa_batch.tasks.rendering.compiled import compiled


@dataclass(frozen=True)
class Strokes:
    """Lines with round ends, drawn in this order; one that ends where it begins is a dot."""

    #: (n, 4): x and y of one end, then of the other; pixels. One with a NaN is left out.
    ends: F32
    #: (n,) half the width, pixels; below half a pixel lines fade and do not get thinner.
    radius: F32
    #: (n, 3) BGR, 0 to 255.
    colour: F32
    #: (n,) 0 to 1.
    opacity: F32

    def __post_init__(self) -> None:
        n = self.ends.shape[0]
        check_shape("ends", self.ends, n, 4)
        check_shape("radius", self.radius, n)
        check_shape("colour", self.colour, n, 3)
        check_shape("opacity", self.opacity, n)

    def draw(self, picture: U8) -> None:
        """Draw them into a picture (H, W, 3)."""
        _draw(picture, self.ends, self.radius, self.colour, self.opacity)


def lines(first: Floats, last: Floats, radius: float, colour: Floats, opacity: float = 1.0) -> Strokes:
    """Lines from `first` (n, 2) to `last` (n, 2) of one width, in one colour (3,) or one each (n, 3)."""
    n = len(first)
    return Strokes(
        np.concatenate([first, last], axis=1).astype(np.float32).reshape(n, 4),
        np.full(n, radius, np.float32),
        np.broadcast_to(np.asarray(colour, np.float32), (n, 3)).copy(),
        np.full(n, opacity, np.float32),
    )


def dots(points: Floats, radius: float, colour: Floats, opacity: float = 1.0) -> Strokes:
    """Dots at points (n, 2) of one size, in one colour (3,) or one each (n, 3)."""
    return lines(points, points, radius, colour, opacity)


# --------------------------------------------------------------------------------------------- the kernel


@compiled()
def _draw(picture, ends, radius, colour, opacity):  # type: ignore[no-untyped-def]
    height, width = picture.shape[0], picture.shape[1]
    for i in range(ends.shape[0]):
        ax, ay, bx, by = ends[i, 0], ends[i, 1], ends[i, 2], ends[i, 3]
        r = max(radius[i], np.float32(0.5))
        strength = opacity[i] * min(radius[i] / r, np.float32(1.0))
        low_x, high_x = min(ax, bx) - r - 1, max(ax, bx) + r + 1
        low_y, high_y = min(ay, by) - r - 1, max(ay, by) + r + 1
        if not (high_x >= 0 and low_x <= width - 1 and high_y >= 0 and low_y <= height - 1):
            continue
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        for y in range(int(max(low_y, 0.0)), int(min(high_y, height - 1.0)) + 1):
            for x in range(int(max(low_x, 0.0)), int(min(high_x, width - 1.0)) + 1):
                t = ((x - ax) * dx + (y - ay) * dy) / length if length > 0.0 else 0.0
                t = min(max(t, 0.0), 1.0)
                away = np.sqrt((x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2)
                cover = strength * min(max(r + 0.5 - away, 0.0), 1.0)
                if cover > 0.0:
                    for ch in range(3):
                        value = picture[y, x, ch] + cover * (colour[i, ch] - picture[y, x, ch])
                        picture[y, x, ch] = np.uint8(min(max(value + 0.5, 0.0), 255.0))
