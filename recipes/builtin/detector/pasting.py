"""Faces, and what is none, pasted over a picture."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.schemas.morphable import N_LANDMARKS
from recipes.builtin.detector.light import recoloured
from recipes.builtin.detector.pictures import (
    SMALLEST,
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
    soft_edged,
)
from recipes.builtin.detector.wearing import worn

#: What a pasted face may hide of the others: share of a box.
_MAY_HIDE = 0.12
_TRIES = 8
#: How often a face lies on its side, or nearly.
_LYING = 0.14
#: How often a crop is given a portrait's head and shoulders.
_TRANSPLANTED = 0.35
#: √(width·height) of the largest faces that are pasted, share of the picture's side.
_LARGEST = 1.1


def paste_faces(sources: Sources, base: Layer, rng: np.random.Generator) -> Layer:
    """`base` with some faces, and some pieces of pictures without faces, pasted over it."""
    side = base.image.shape[0]
    image, points, ignored = base.image.copy(), [*base.points], [*base.ignored]
    n = int(rng.integers(0, 4 + side // 40))
    for size in np.sort(np.exp(rng.uniform(np.log(SMALLEST), np.log(_LARGEST * side), n)))[::-1]:
        kind = rng.choice(3, p=(0.65, 0.15, 0.2))
        if kind == 0:
            patch = transplanted(worn(sources.crop(rng), rng), sources, rng)
        elif kind == 1:
            patch = worn(sources.portrait(rng), rng)
        else:
            patch = _decoy(sources, rng)
        image = _paste(image, points, ignored, recoloured(patch, rng), float(size), rng)
    return Layer(image, np.array(points, np.float32).reshape(-1, N_LANDMARKS, 2), np.array(ignored, bool))


def _decoy(sources: Sources, rng: np.random.Generator) -> Layer:
    """A piece of a picture without a face, or of a portrait below its face: its box is that of a face that is not."""
    if rng.random() < 0.35:
        source = sources.portrait(rng)
        h, w = source.image.shape[:2]
        top = int(boxes_of(source.points)[:, 3].max() * 1.02) + 1
        if h - top > 24 and w > 24:
            return Layer(source.image[top:], no_faces(), np.zeros(0, bool))
    source = sources.nothing(rng)
    side = min(int(np.exp(rng.uniform(np.log(60), np.log(400)))), *source.image.shape[:2])
    y, x = (int(rng.integers(0, n - side + 1)) for n in source.image.shape[:2])
    return Layer(source.image[y : y + side, x : x + side], no_faces(), np.zeros(0, bool))


def _paste(
    image: U8, points: list[F32], ignored: list[bool], patch: Layer, size: float, rng: np.random.Generator
) -> U8:
    """Paste `patch` so that its first face gets the size `size`, where it hides little of what is there.

    Appends its faces to `points` and `ignored`; gives the picture back unchanged where there is no room.
    """
    side = image.shape[0]
    h, w = patch.image.shape[:2]
    box = boxes_of(patch.points[:1])[0] if len(patch.points) else np.array([0.15 * w, 0.15 * h, 0.85 * w, 0.85 * h])
    scale = size / float(sizes_of(box[None])[0])
    angle = rng.uniform(-45, 45) if rng.random() < 0.2 else random_roll(rng)
    if len(patch.points) and size > 0.35 * side and rng.random() < 0.4:
        patch, box = with_margin(patch, box)
    others = boxes_of(np.array(points, np.float32).reshape(-1, N_LANDMARKS, 2))
    for _ in range(_TRIES):
        place = rng.uniform(-0.1 * size, side + 0.1 * size, 2) if size < 0.5 * side else rng.uniform(0.3, 0.7, 2) * side
        matrix = similarity_about(scale, angle, box.reshape(2, 2).mean(axis=0), place)
        mask = paste_mask(patch, box, rng)
        frame = bounds_of(w, h, matrix)
        if (inside(others, frame) > _MAY_HIDE).any():
            continue
        image = blend(image, patch.image, mask, matrix, frame)
        points += list(moved_points(patch.points, matrix))
        ignored += list(patch.ignored)
        return image
    return image


def with_margin(patch: Layer, box: F32) -> tuple[Layer, F32]:
    """The patch with a margin of its own blurred reflection, as if the photograph went on."""
    h, w = patch.image.shape[:2]
    margin = max(h, w) // 2
    wide = cv2.copyMakeBorder(patch.image, margin, margin, margin, margin, cv2.BORDER_REFLECT_101)
    blurred = cv2.resize(cv2.GaussianBlur(cv2.resize(wide, None, fx=0.25, fy=0.25), (0, 0), 4), wide.shape[1::-1])
    blurred[margin : margin + h, margin : margin + w] = patch.image
    shift = np.array([margin, margin], np.float32)
    return Layer(np.asarray(blurred), patch.points + shift, patch.ignored), box + np.tile(shift, 2)


def transplanted(crop: Layer, sources: Sources, rng: np.random.Generator) -> Layer:
    """Now and then, a crop's face in the place of a portrait's: seen from any side, before real hair and rooms.

    As it is, if it would not cover that other face.
    """
    if rng.random() >= _TRANSPLANTED:
        return crop
    portrait = sources.portrait(rng)
    if len(portrait.points) != 1 or len(crop.points) != 1:
        return crop
    (old,), (box,) = boxes_of(portrait.points), boxes_of(crop.points)
    scale = rng.uniform(1.05, 1.35) * float(sizes_of(old[None])[0] / sizes_of(box[None])[0])
    matrix = similarity_about(scale, rng.normal(0, 4), box.reshape(2, 2).mean(axis=0), old.reshape(2, 2).mean(axis=0))
    h, w = crop.image.shape[:2]
    if inside(old[None], bounds_of(w, h, matrix))[0] < 1:
        return crop
    image = blend(portrait.image.copy(), crop.image, soft_edged(h, w, 0.1), matrix, bounds_of(w, h, matrix))
    return Layer(image, moved_points(crop.points, matrix), crop.ignored)


def random_roll(rng: np.random.Generator) -> float:
    """Degrees: most people hold their heads up, some lie."""
    return float(rng.uniform(-110, 110) if rng.random() < _LYING else rng.normal(0, 8))
