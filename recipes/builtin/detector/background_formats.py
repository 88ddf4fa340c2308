"""Pictures in the forms in which packages carry them: GIMP's patterns, Qt's resources, stamps with a clear ground."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import U8, Floats

#: A GIMP pattern: five big-endian words (header's length, version, width, height, bytes a pixel), then this.
_PATTERN_MAGIC = b"GPAT"
#: How large a pattern is made by repetition, pixels: (height, width).
_TILED = (300, 400)
#: Where a WebP, JPEG or PNG file begins.
_BEGINNINGS = re.compile(rb"RIFF....WEBPVP8|\xff\xd8\xff[\xe0\xe1\xdb]|\x89PNG\r\n\x1a\n", re.DOTALL)
#: Sizes in bytes, and shortest side in pixels, of what is a photograph and no icon.
_FEWEST_BYTES, _SHORTEST = 1000, 100


def gimp_pattern(content: bytes) -> U8 | None:
    """A pattern file's picture (H, W, 3), repeated until it is of some size; None for another kind of file."""
    if len(content) < 24 or content[20:24] != _PATTERN_MAGIC:
        return None
    start, _, width, height, depth = (int(v) for v in np.frombuffer(content[:20], ">u4"))
    n = width * height * depth
    if not 0 < n <= len(content) - start:
        return None
    pixels = np.frombuffer(content, np.uint8, n, start).reshape(height, width, depth)
    image = pixels[..., 2::-1] if depth >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    times = [max(1, -(-wanted // side)) for wanted, side in zip(_TILED, (height, width), strict=True)]
    return np.ascontiguousarray(np.tile(image, (*times, 1)))


def embedded_pictures(path: Path) -> Iterator[tuple[str, U8]]:
    """The photographs in a Qt resource file, which holds them whole, each after its length, by name and place.

    Those with a clear ground have four channels.
    """
    content = path.read_bytes()
    for match in _BEGINNINGS.finditer(content):
        start = match.start()
        size = int.from_bytes(content[start - 4 : start], "big")
        if not _FEWEST_BYTES < size <= len(content) - start:
            continue
        image = cv2.imdecode(np.frombuffer(content, np.uint8, size, start), cv2.IMREAD_UNCHANGED)
        if image is not None and image.ndim == 3 and min(image.shape[:2]) >= _SHORTEST:
            yield f"{path.stem}-{start}", np.asarray(image, np.uint8)


def on_plain_ground(image: U8, colour: Sequence[int] | Floats) -> U8:
    """A picture (H, W, 3 or 4) on a ground of one colour, BGR."""
    if image.shape[2] == 3:
        return image
    alpha = image[..., 3:] / np.float32(255)
    return np.asarray(image[..., :3] * alpha + np.asarray(colour) * (1 - alpha), np.uint8)
