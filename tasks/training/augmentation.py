"""Augmentation: which frames a sequence takes, how they move in the plane, and how they look.

All geometry of a frame (mirror, rotation, scale, shift) is one similarity, applied to pixels, pose and landmarks alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F64, I64, U8, Bools
from ddfa_batch.tasks.geometry.similarity import similarities
from ddfa_batch.tasks.rendering.degradation import motion_blur
from ddfa_batch.tasks.training.options import Augmentation, Sampling


def frames_of_clips(n_clips: int, length: int, sampling: Sampling, rng: np.random.Generator) -> I64:
    """Which frames (n_clips, frames) sequences take of clips of `length`: adjacent ones, either way round; or any."""
    n = sampling.frames
    turned, back = rng.random((2, n_clips, 1))
    start = rng.integers(max(length - n, 0) + 1, size=(n_clips, 1))
    anywhere = rng.integers(length, size=(n_clips, n))
    adjacent = np.minimum(start + np.arange(n), length - 1)
    adjacent = np.where(back < 0.5, adjacent[:, ::-1], adjacent)
    moving = anywhere if sampling.motion == "random" else adjacent
    return np.where(turned < sampling.turned, moving, 0)


def maps_to_crops(rois: F64, sampling: Sampling, a: Augmentation, rng: np.random.Generator) -> F64:
    """Maps (M, frames, 2, 3) from pixels of M images to their crops': the first frame at random, the others from it.

    Smooth: a frame differs from the one before by eq. 8's perturbation, whose direction persists. Random: every
    frame is drawn for itself. rois: (M, 4).
    """
    m, n = len(rois), sampling.frames
    draws = rng.normal(size=(m, n if sampling.motion == "random" else 1, 4))
    states = draws * [a.rotation, a.scale, a.shift, a.shift]
    if sampling.motion == "smooth" and n > 1:
        direction = rng.normal(size=(m, 1, 4))
        wander = rng.normal(size=(m, n - 1, 4))
        steps = (direction + 0.3 * wander) * [a.step_rotation, a.step_scale, a.step_shift, a.step_shift]
        states = np.concatenate([states, states + np.cumsum(steps, axis=1)], axis=1)
    return similarities(np.repeat(rois, n, axis=0), states.reshape(-1, 4), sampling.size).reshape(m, n, 2, 3)


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

    #: (256, 3): every grey level under this light, by channel.
    light: U8
    #: Standard deviation of the blur, pixels; 0 for none.
    blur: float
    #: What stands before the face.
    occluder: Occluder | None
    #: Standard deviation of the noise, grey levels.
    noise: float
    #: JPEG's quality; None where it was not compressed.
    quality: int | None = None

    def __call__(self, image: U8, moved: F64, rng: np.random.Generator) -> U8:
        """`image` (size, size, 3) as it looks while moving by `moved` (2,) pixels; the argument is not changed."""
        image = np.asarray(cv2.LUT(image, self.light[None]))
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


@dataclass(frozen=True)
class Appearances:
    """What happens to the pixels of M clips, see `Appearance`."""

    #: (M, 256, 3): every grey level under each clip's light, by channel.
    light: U8
    #: (M,), standard deviation of the blur, pixels; 0 for none.
    blur: F64
    #: (M,), whether something stands before the face.
    occluded: Bools
    #: (M, 2), the occluder's middle, x and y, pixels of the crop.
    centres: I64
    #: (M, 2), its width and height, pixels of the crop.
    sides: I64
    #: (M,), whether it is an ellipse, not a rectangle.
    round: Bools
    #: (M, 3), its colour, BGR.
    colours: F64
    #: (M,), whether it shows another part of the picture instead.
    textured: Bools
    #: (M, 2), right and down, pixels: how far that part lies away.
    shows: I64
    #: (M,), standard deviation of the noise, grey levels.
    noise: F64
    #: (M,), share of a frame's time for which the shutter is open.
    exposure: F64
    #: (M,), JPEG's quality; 0 where a picture was not compressed.
    quality: I64

    @staticmethod
    def draw(a: Augmentation, size: int, n_clips: int, rng: np.random.Generator) -> Appearances:
        """Draw everything for clips of crops of `size`, always in the same order and number."""
        gains, offsets = rng.normal(size=(n_clips, 1, 3)) * a.gain, rng.normal(size=(n_clips, 1, 1)) * a.offset
        levels = np.arange(256)[:, None] * np.exp(gains) + offsets
        blurred, occluded, noise, exposure, dark, compressed, textured, ellipse = rng.random((8, n_clips))
        limits = np.array([_DARK_GAIN, _DARK_GAMMA, _DARK_NOISE])
        gain, gamma, dark_noise = (limits[:, :1] + rng.random((3, n_clips)) * np.diff(limits, axis=1))[..., None, None]
        darker = gain * 255 * (np.clip(levels, 0, 255) / 255) ** gamma
        levels = np.where((dark < a.dark)[:, None, None], darker, levels)
        sigma = rng.uniform(0.3, 1.0, n_clips) * a.blur_sigma
        x, y, w, h = rng.random((4, n_clips))
        sides = np.stack([w, h], axis=1) * a.occluder_side * size
        quality = rng.integers(*_QUALITY, n_clips)
        return Appearances(
            light=np.clip(np.rint(levels), 0, 255).astype(np.uint8),
            blur=np.where(blurred < a.blur, sigma, 0.0),
            occluded=occluded < a.occluder,
            centres=(np.stack([x, y], axis=1) * size).astype(np.int64),
            sides=np.maximum(sides, 2).astype(np.int64),
            round=ellipse < 0.5,
            colours=rng.uniform(0, 255, (n_clips, 3)),
            textured=textured < 0.5,
            shows=rng.integers(size // 4, size - size // 4, (n_clips, 2)),
            noise=np.where(dark < a.dark, dark_noise[:, 0, 0], noise * a.noise),
            exposure=exposure * a.exposure,
            quality=np.where(compressed < a.compressed, quality, 0),
        )

    def __getitem__(self, clip: int) -> Appearance:
        """That of one clip."""
        occluder = Occluder(
            centre=(int(self.centres[clip, 0]), int(self.centres[clip, 1])),
            sides=(int(self.sides[clip, 0]), int(self.sides[clip, 1])),
            round=bool(self.round[clip]),
            colour=tuple(float(c) for c in self.colours[clip]),
            shows=(int(self.shows[clip, 0]), int(self.shows[clip, 1])) if self.textured[clip] else None,
        )
        return Appearance(
            light=self.light[clip],
            blur=float(self.blur[clip]),
            occluder=occluder if self.occluded[clip] else None,
            noise=float(self.noise[clip]),
            quality=int(self.quality[clip]) or None,
        )
