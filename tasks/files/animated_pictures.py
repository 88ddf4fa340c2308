"""Animated WebP, which FFmpeg does not animate: its timeline and its pictures, by Pillow."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from ddfa_batch.schemas.arrays import F64, U8
from ddfa_batch.schemas.errors import ImageError

#: Milliseconds for which a picture is shown that names no time, as browsers do.
_UNTIMED_MS = 100


@dataclass(frozen=True)
class Timeline:
    """When the pictures of an animation are shown."""

    width: int
    height: int
    #: Seconds (N,) from the first picture to each.
    times: F64
    #: Why the rest could not be read, if so.
    fault: str | None


def timeline(path: Path, max_pixels: int) -> Timeline:
    """The pictures that decode, and when they are shown; raises `ImageError` where not even the first does."""
    times: list[float] = []
    now, fault = 0.0, None
    try:
        with _opened(path) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise ImageError(
                    "too_large", f"The animation has {width} × {height} pixels; the limit is {max_pixels:,}."
                )
            for frame in ImageSequence.Iterator(picture):
                frame.load()
                times.append(now)
                now += (frame.info.get("duration") or _UNTIMED_MS) / 1000
    except ImageError:
        raise
    except Exception as error:  # parsers raise whatever they trip over
        fault = str(error) or type(error).__name__
    if not times:
        raise ImageError("undecodable", f"The animation cannot be decoded: {fault}.")
    return Timeline(width, height, np.array(times), fault)


def pictures(path: Path) -> Iterator[U8]:
    """The pictures (H, W, 3) BGR, one after the other, up to the first that does not decode."""
    try:
        with _opened(path) as picture:
            for frame in ImageSequence.Iterator(picture):
                yield np.ascontiguousarray(np.asarray(frame.convert("RGB"))[:, :, ::-1])
    except Exception:  # `timeline` told of it
        return


def _opened(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(path, formats=("WEBP",))
