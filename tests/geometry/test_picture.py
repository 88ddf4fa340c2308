"""Pixels are decoded as large as they are needed, and a crop of reduced ones shows what a crop of all shows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.geometry.picture import Picture


def smooth(height: int, width: int) -> U8:
    """A picture without detail, in which every place differs from the others."""
    seed = np.random.default_rng(4).integers(0, 255, (height // 30, width // 30, 3), np.uint8)
    return np.asarray(cv2.resize(seed, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def averaged(pixels: U8, reduction: int) -> U8:
    """The slow twin of a decoder: each pixel is the mean of a block, of what there is of it at the edges."""
    if reduction == 1:
        return pixels
    height, width = (-(-side // reduction) for side in pixels.shape[:2])
    out = np.empty((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            block = pixels[y * reduction : (y + 1) * reduction, x * reduction : (x + 1) * reduction]
            out[y, x] = np.round(block.reshape(-1, 3).mean(axis=0))
    return out


class Decoder:
    """Gives pixels at any reduction, and notes which were asked for."""

    def __init__(self, pixels: U8) -> None:
        self.asked: list[int] = []
        self._pixels = pixels

    def __call__(self, reduction: int) -> U8:
        self.asked.append(reduction)
        return averaged(self._pixels, reduction)


PIXELS = smooth(301, 403)


@pytest.mark.parametrize(("scale", "reduction"), [(3, 1), (0.51, 1), (0.5, 2), (0.26, 2), (0.25, 4), (0.01, 8)])
def test_pixels_are_as_small_as_is_enough(scale: float, reduction: int) -> None:
    pixels, told = Picture(301, 403, Decoder(PIXELS)).at_least(scale)
    assert told == reduction
    assert pixels.shape == (-(-301 // reduction), -(-403 // reduction), 3)


def test_what_is_decoded_is_given_again_where_it_is_enough() -> None:
    decoder = Decoder(PIXELS)
    picture = Picture(301, 403, decoder)
    for scale in (0.1, 0.25, 0.1, 1.0, 0.25):
        picture.at_least(scale)
    assert decoder.asked == [8, 4, 1]


def test_as_decoded_it_is_never_decoded_finer() -> None:
    decoder = Decoder(PIXELS)
    picture = Picture(301, 403, decoder)
    picture.at_least(0.25)
    assert picture.as_decoded().at_least(1.0)[1] == 4
    assert decoder.asked == [4]


def test_pixels_in_memory_are_a_picture() -> None:
    picture = Picture.of(PIXELS)
    assert picture.at_least(0.1)[0] is PIXELS
    assert (picture.height, picture.width, picture.reduction) == (301, 403, 1)
    assert Picture.of(picture) is picture


@pytest.mark.parametrize("reduction", [2, 4])
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_a_crop_of_reduced_pixels_is_that_of_all_pixels(reduction: int, angle: float) -> None:
    rois = np.array([[51.3, 37.9, 271.3, 257.9]])
    angles = np.array([angle])
    decoder = Decoder(PIXELS)
    reduced = crop.crops(Picture(301, 403, decoder, (1, reduction)), rois, 50, angles).astype(int)
    assert decoder.asked == [reduction]
    apart = np.abs(reduced - crop.crops(PIXELS, rois, 50, angles)).mean()
    half_a_pixel_beside = np.abs(reduced - crop.crops(PIXELS, rois + reduction / 2, 50, angles)).mean()
    assert apart < 2.5
    assert apart < half_a_pixel_beside / 2


def test_a_small_roi_is_cropped_from_all_pixels() -> None:
    rois = np.array([[50.0, 40, 145, 135], [20, 20, 280, 280]])
    decoder = Decoder(PIXELS)
    assert np.array_equal(crop.crops(Picture(301, 403, decoder), rois, 100), crop.crops(PIXELS, rois, 100))
    assert decoder.asked == [1]
