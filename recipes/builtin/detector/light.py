"""The same picture under another light, worse developed, or none at all."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import U8
from recipes.builtin.detector.pictures import (
    Layer,
)

#: How often what is pasted stands against the light, and how little of its own that may leave.
_BACKLIT, _DARKEST = 0.2, 0.25


def recoloured(patch: Layer, rng: np.random.Generator) -> Layer:
    """The patch under another light: contrast, brightness and tint; now and then against the light."""
    gain = rng.normal(1, 0.12) * (1 + rng.normal(0, 0.05, 3))
    if rng.random() < _BACKLIT:
        gain *= rng.uniform(_DARKEST, 1)
    offset = rng.normal(0, 12)
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
    return Layer(np.asarray(cv2.LUT(patch.image, table[None])), patch.points, patch.ignored)


def photometric_jitter(image: U8, rng: np.random.Generator) -> U8:
    """The whole picture under another light, now and then grey, blurred, sharpened, grainy, or badly compressed."""
    if rng.random() < 0.6:
        gamma = float(np.exp(rng.normal(0, 0.45)))
        gain = rng.uniform(0.4, 1.3) * (1 + rng.normal(0, 0.06, 3))
        table = np.clip((np.arange(256)[:, None] / 255) ** gamma * 255 * gain, 0, 255).astype(np.uint8)
        image = np.asarray(cv2.LUT(image, table[None]))
    if rng.random() < 0.12:
        image = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR))
    kind = rng.random()
    if kind < 0.12:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6)))
    elif kind < 0.3:
        soft = cv2.GaussianBlur(image, (0, 0), 1.2)
        image = np.asarray(cv2.addWeighted(image, 1 + 1.2, soft, -1.2, 0))
    if rng.random() < 0.25:
        grain = rng.normal(0, rng.uniform(2, 14), (image.shape[0] // 2, image.shape[1], 1)).astype(np.int16)
        grain = np.concatenate([grain, grain[::-1]], axis=0)
        image = np.clip(image[: grain.shape[0]] + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        image = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))
    return image


def pattern(height: int, width: int, rng: np.random.Generator) -> U8:
    """Noise of any grain, gradients, and sometimes writing."""
    cells = 2 ** int(rng.integers(1, 8))
    coarse = rng.integers(0, 256, (min(cells, height), min(cells, width), 3)).astype(np.uint8)
    if rng.random() < 0.5:
        spread = rng.uniform(0, 0.5)
        coarse = (rng.integers(0, 256, 3) * (1 - spread) + coarse * spread).astype(np.uint8)
    how = int(rng.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
    image = cv2.resize(coarse, (width, height), interpolation=how)
    for _ in range(int(rng.integers(0, 12)) if rng.random() < 0.4 else 0):
        text = "".join(chr(c) for c in rng.integers(33, 126, int(rng.integers(1, 12))))
        where = tuple(int(v) for v in (rng.uniform(-20, width), rng.uniform(0, height + 20)))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        thick = int(rng.integers(1, 8))
        cv2.putText(image, text, where, int(rng.integers(0, 8)), float(np.exp(rng.uniform(-1, 1.5))), colour, thick)
    return np.asarray(image)
