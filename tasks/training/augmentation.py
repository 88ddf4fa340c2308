"""Augmentation: which frames a sequence takes, how they move in the plane, and how they look.

All geometry of a frame (mirror, rotation, scale, shift) is one similarity, applied to pixels, pose and landmarks alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F64, I64, U8
from ddfa_batch.tasks.geometry.similarity import similarity
from ddfa_batch.tasks.rendering.degradation import motion_blur
from ddfa_batch.tasks.training.options import Augmentation, Sampling


def frames_of_clip(length: int, sampling: Sampling, rng: np.random.Generator) -> I64:
    """Which frames of a clip of `length` a sequence takes: adjacent ones, either way round; or any, at random."""
    n, turned, back = sampling.frames, rng.random() < sampling.turned, rng.random() < 0.5
    start, anywhere = int(rng.integers(max(length - n, 0) + 1)), rng.integers(length, size=n)
    if not turned or length == 1:
        return np.zeros(n, np.int64)
    if sampling.motion == "random":
        return anywhere
    found = np.minimum(start + np.arange(n), length - 1)
    return found[::-1] if back else found


def maps_to_crops(roi: F64, sampling: Sampling, a: Augmentation, rng: np.random.Generator) -> F64:
    """Maps (frames, 2, 3) from image pixels to the crop's: the first frame at random, the others from it.

    Smooth: a frame differs from the one before by eq. 8's perturbation, whose direction persists. Random: every
    frame is drawn for itself.
    """
    n = sampling.frames
    draws = rng.normal(size=(n if sampling.motion == "random" else 1, 4))
    states = draws * [a.rotation, a.scale, a.shift, a.shift]
    if sampling.motion == "smooth" and n > 1:
        direction = rng.normal(size=4)
        wander = rng.normal(size=(n - 1, 4))
        steps = (direction + 0.3 * wander) * [a.step_rotation, a.step_scale, a.step_shift, a.step_shift]
        states = np.concatenate([states, states + np.cumsum(steps, axis=0)])
    return np.stack([similarity(roi, turn, scale, right, down, sampling.size) for turn, scale, right, down in states])


#: What is left of the light in the dark: a factor, the exponent by which it falls, and the noise, grey levels.
_DARK_GAIN, _DARK_GAMMA, _DARK_NOISE = (0.2, 0.7), (1.0, 1.8), (2.0, 10.0)
#: JPEG's quality, from the worst.
_QUALITY = (15, 80)


@dataclass(frozen=True)
class Occluder:
    """An ellipse or a rectangle of one colour, or of another part of the picture."""

    #: Its middle, pixels of the crop.
    centre: tuple[int, int]
    #: Width and height, pixels of the crop.
    sides: tuple[int, int]
    #: An ellipse, not a rectangle.
    round: bool
    #: BGR.
    colour: tuple[float, ...]
    #: Right and down, pixels: it shows what lies so far away, as a hand before a face would; None for the colour.
    shows: tuple[int, int] | None = None

    def paint(self, image: U8) -> None:
        """Draw it on `image`, which is changed."""
        if self.shows is None:
            self._fill(image, self.colour)
            return
        mask = np.zeros(image.shape[:2], np.uint8)
        self._fill(mask, (1.0,))
        right, down = self.shows
        np.copyto(image, np.roll(image, (down, right), (0, 1)), where=mask[..., None] > 0)

    def _fill(self, image: U8, colour: tuple[float, ...]) -> None:
        (x, y), (w, h) = self.centre, self.sides
        if self.round:
            cv2.ellipse(image, (x, y), (w // 2, h // 2), 0, 0, 360, colour, -1)
        else:
            cv2.rectangle(image, (x - w // 2, y - h // 2), (x + w // 2, y + h // 2), colour, -1)


@dataclass(frozen=True)
class Appearance:
    """What happens to a clip's pixels: light, blur, an occluder, compression; the noise is each frame's own."""

    #: (1, 256, 3): every grey level under this light, by channel.
    light: U8
    #: Standard deviation of the blur, pixels; 0 for none.
    blur: float
    #: What stands before the face.
    occluder: Occluder | None
    #: Standard deviation of the noise, grey levels.
    noise: float
    #: Share of a frame's time for which the shutter is open.
    exposure: float
    #: JPEG's quality; None where it was not compressed.
    quality: int | None = None

    @staticmethod
    def draw(a: Augmentation, size: int, rng: np.random.Generator) -> Appearance:
        """Draw everything, always in the same order and number."""
        levels = np.arange(256)[:, None] * np.exp(rng.normal(size=3) * a.gain) + rng.normal() * a.offset
        blurred, occluded, noise, exposure, dark, compressed, textured = rng.random(7)
        gain, gamma, dark_noise = (rng.uniform(*limits) for limits in (_DARK_GAIN, _DARK_GAMMA, _DARK_NOISE))
        quality, shows = int(rng.integers(*_QUALITY)), rng.integers(size // 4, size - size // 4, 2)
        if dark < a.dark:
            levels = gain * 255 * (np.clip(levels, 0, 255) / 255) ** gamma
        sigma = rng.uniform(0.3, 1.0) * a.blur_sigma
        x, y, w, h = rng.random(4)
        occluder = Occluder(
            centre=(int(x * size), int(y * size)),
            sides=(max(2, int(w * a.occluder_side * size)), max(2, int(h * a.occluder_side * size))),
            round=bool(rng.random() < 0.5),
            colour=tuple(float(c) for c in rng.uniform(0, 255, 3)),
            shows=(int(shows[0]), int(shows[1])) if textured < 0.5 else None,
        )
        return Appearance(
            light=np.clip(np.rint(levels), 0, 255).astype(np.uint8)[None],
            blur=sigma if blurred < a.blur else 0.0,
            occluder=occluder if occluded < a.occluder else None,
            noise=dark_noise if dark < a.dark else noise * a.noise,
            exposure=exposure * a.exposure,
            quality=quality if compressed < a.compressed else None,
        )

    def __call__(self, image: U8, moved: F64, rng: np.random.Generator) -> U8:
        """`image` (size, size, 3) as it looks while moving by `moved` (2,) pixels; the argument is not changed."""
        image = np.asarray(cv2.LUT(image, self.light))
        if self.occluder is not None:
            self.occluder.paint(image)
        if self.blur > 0:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), self.blur))
        if self.noise > 0:
            grain = rng.standard_normal(image.shape, np.float32) * np.float32(self.noise)
            image = np.asarray(cv2.add(image, grain, dtype=cv2.CV_8U))
        image = motion_blur(image, moved)
        if self.quality is not None:
            _, written = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            image = np.asarray(cv2.imdecode(written, cv2.IMREAD_COLOR), np.uint8)
        return image
