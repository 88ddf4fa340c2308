"""Training pictures of the detector: faces pasted at every size onto backgrounds, scenes, and pictures of none."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, U8, Bools
from recipes.builtin.detector.grounds import draw_ground, draw_mosaic, window_of
from recipes.builtin.detector.light import pattern, photometric_jitter, recoloured
from recipes.builtin.detector.pasting import paste_faces, random_roll, transplanted, with_margin
from recipes.builtin.detector.pictures import (
    FACE_SHARE,
    PART_SHARE,
    Layer,
    Sources,
    boxes_of,
    inside,
    no_faces,
    sizes_of,
)
from recipes.builtin.detector.warping import (
    blend,
    bounds_of,
    moved_points,
    paste_mask,
    similarity_about,
)
from recipes.builtin.detector.wearing import headless, worn

#: Faces smaller than this (√(width·height), pixels) are ignored: they are not asked for.
_LEAST_SIZE = 12.0
#: How often a picture without a face is a portrait whose head is covered.
_HEADLESS = 0.25


def collage(sources: Sources, side: int, rng: np.random.Generator) -> tuple[U8, F32, Bools]:
    """A training picture (side, side, 3), its boxes (K, 4) in pixels, and which of them are ignored (K,)."""
    kind = rng.random()
    if kind < 0.2:
        patch = sources.crop(rng) if rng.random() < 0.6 else sources.portrait(rng)
        pasted = framed(recoloured(patch, rng), sources, side, rng)
    elif kind < 0.28:
        pasted = without_faces(sources, side, rng)
    else:
        base = draw_mosaic(sources, side, rng) if kind < 0.45 else draw_ground(sources, side, side, rng)
        pasted = paste_faces(sources, base, rng)
    image = photometric_jitter(_occluded(pasted, sources, rng), rng)
    boxes = boxes_of(pasted.points)
    share = inside(boxes, (0, 0, side, side))
    kept = share >= PART_SHARE
    ignored = pasted.ignored | (share < FACE_SHARE) | (sizes_of(boxes) < _LEAST_SIZE)
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
        boxes = np.stack([side - 1 - boxes[:, 2], boxes[:, 1], side - 1 - boxes[:, 0], boxes[:, 3]], axis=1)
    return image, boxes[kept].astype(np.float32), ignored[kept]


def framed(source: Layer, sources: Sources, side: int, rng: np.random.Generator, roll: float | None = None) -> Layer:
    """One face with √(width·height) of 25–65 % of the side, about the middle of a picture (side, side, 3).

    It stands before a picture without faces where its own does not fill the frame, and leans by `roll` degrees or as
    chance has it.
    """
    source = transplanted(worn(source, rng), sources, rng)
    box = boxes_of(source.points[:1])[0]
    if rng.random() < 0.5:
        source, box = with_margin(source, box)
    empty = sources.empty.picture(int(rng.integers(len(sources.empty)))).image
    image: U8 = np.asarray(cv2.resize(empty, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)
    scale = rng.uniform(0.25, 0.65) * side / float(sizes_of(box[None])[0])
    place = rng.uniform(0.4, 0.6, 2) * side
    angle = random_roll(rng) if roll is None else roll
    matrix = similarity_about(scale, angle, box.reshape(2, 2).mean(axis=0), place)
    h, w = source.image.shape[:2]
    frame = bounds_of(w, h, matrix)
    image = blend(image, source.image, paste_mask(source, box, rng), matrix, frame)
    return Layer(image, moved_points(source.points, matrix), source.ignored)


def without_faces(sources: Sources, side: int, rng: np.random.Generator) -> Layer:
    """A picture (side, side, 3) in which no face is to be found."""
    if rng.random() < 0.2:
        return Layer(pattern(side, side, rng), no_faces(), np.zeros(0, bool))
    if rng.random() < _HEADLESS:
        source = headless(sources.portrait(rng), sources.nothing(rng).image, rng)
        scale = max(side / source.image.shape[0], side / source.image.shape[1]) * np.exp(rng.uniform(-0.2, 0.4))
        return window_of(source, side, side, float(scale), None, rng)
    source = sources.nothing(rng)
    if rng.random() < 0.5:
        source = replace(source, image=np.ascontiguousarray(np.rot90(source.image, int(rng.integers(1, 4)))))
    scale = max(side / source.image.shape[0], side / source.image.shape[1]) * np.exp(rng.uniform(-0.2, 1))
    return window_of(source, side, side, float(scale), None, rng)


def _occluded(layer: Layer, sources: Sources, rng: np.random.Generator) -> U8:
    """The picture with something in front of a few of its faces: never more than about a third of one."""
    image = layer.image
    for box in boxes_of(layer.points):
        if rng.random() > 0.12:
            continue
        width, height = (box[2:] - box[:2]) * rng.uniform(0.2, 0.6, 2)
        x, y = rng.uniform(box[:2] - 0.2 * (box[2:] - box[:2]), box[2:] - 0.5 * np.array([width, height]))
        x0, y0, x1, y1 = (int(v) for v in np.clip([x, y, x + width, y + height], 0, image.shape[0]))
        if x1 - x0 < 3 or y1 - y0 < 3:
            continue
        if rng.random() < 0.5:
            image[y0:y1, x0:x1] = rng.integers(0, 256, 3)
        else:
            other = sources.empty.picture(int(rng.integers(len(sources.empty)))).image
            a, b = (int(rng.integers(0, n - 24)) for n in other.shape[:2])
            piece = other[a : a + 2 * (y1 - y0), b : b + 2 * (x1 - x0)]
            image[y0:y1, x0:x1] = cv2.resize(piece, (x1 - x0, y1 - y0))
    return image
