"""Pictures as cameras store them that note an orientation."""

from __future__ import annotations

import numpy as np
from PIL import Image


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What has to be stored for a picture (H, W, …) to be seen upright under EXIF's number of an orientation."""
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: upright.swapaxes(0, 1)[::-1],
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: upright.swapaxes(0, 1)[:, ::-1],
    }[orientation]


def exif(orientation: int) -> Image.Exif:
    """EXIF that tells an orientation alone."""
    told = Image.Exif()
    told[0x0112] = orientation
    return told


def xmp(orientation: int) -> bytes:
    """XMP that tells an orientation alone."""
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
