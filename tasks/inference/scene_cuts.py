"""Where a film is cut: one frame against the frame before, by small grey pictures of both."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, U8, check_shape

#: Width and height of the grey pictures that are compared.
_WIDTH, _HEIGHT = 32, 24
#: Pixels are skipped before averaging, so that no more than this many a side are looked at.
_LOOKED_AT = 256
#: Mean change of grey, in levels of 255, above which it may be a cut: pans and gestures stay below.
_CHANGE = 12.0
#: Correlation of the two pictures below which it is one: a flash brightens, but what is there stays there.
_CORRELATION = 0.75


def scene_thumbnail(image: U8) -> F32:
    """A small grey picture (24, 32) of a frame (H, W, 3)."""
    height, width = image.shape[:2]
    fewer = (min(width, _LOOKED_AT), min(height, _LOOKED_AT))
    picture = image if fewer == (width, height) else cv2.resize(image, fewer, interpolation=cv2.INTER_NEAREST)
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA), np.float32)


def is_cut(before: F32, now: F32) -> bool:
    """Whether a cut lies between two frames, of their thumbnails."""
    check_shape("now", now, *before.shape)
    return float(np.abs(now - before).mean()) > _CHANGE and correlation(before, now) < _CORRELATION


def correlation(a: F32, b: F32) -> float:
    """Pearson's r of the grey levels of two pictures of one size; 1 where neither has any contrast."""
    x, y = (part.astype(np.float64).ravel() - float(part.mean()) for part in (a, b))
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / length if length > 1e-6 else float(np.allclose(x, y))
