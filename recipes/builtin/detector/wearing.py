"""Faces behind a mask or sunglasses, and heads that are covered whole, drawn over faces whose points are known."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, U8, Bools
from recipes.builtin.detector.pictures import Layer, boxes_of, sizes_of

#: How often a face wears something, and of these what: a mask, sunglasses, both.
_WORN, _WHAT = 0.1, (0.45, 0.45, 0.1)
#: The jaw's points from ear to ear that a mask hangs on, and the points of the nose it may begin at.
_JAW, _NOSE = np.arange(1, 16), (27, 28, 29, 30)
#: The points of each eye.
_EYES = (np.arange(36, 42), np.arange(42, 48))
#: Colours of masks, BGR: surgical blue, white, black, green; others are drawn.
_MASKS = ((215, 190, 150), (240, 240, 240), (30, 30, 30), (170, 200, 150))
#: Half axes of a head around the middle of the landmarks' box, in sides of that; its middle lies higher by `_CROWN`.
_HEAD, _CROWN = (0.75, 0.95), 0.2


def worn(layer: Layer, rng: np.random.Generator) -> Layer:
    """The layer; now and then with a mask, sunglasses or both on its first face."""
    if not len(layer.points) or rng.random() >= _WORN:
        return layer
    what, image, face = rng.choice(3, p=_WHAT), layer.image.copy(), layer.points[0]
    if what != 1:
        image = masked(image, face, rng)
    if what != 0:
        image = shaded(image, face, rng)
    return Layer(image, layer.points, layer.ignored)


def masked(image: U8, face: F32, rng: np.random.Generator) -> U8:
    """A cloth over mouth and nose of the face (68, 2), lit as the photograph is there."""
    outline = np.concatenate([face[_JAW], face[[int(rng.choice(_NOSE))]]])
    middle = outline.mean(axis=0)
    outline = middle + (outline - middle) * rng.uniform(1, 1.12)
    colour = _MASKS[rng.integers(len(_MASKS))] if rng.random() < 0.7 else tuple(rng.integers(0, 256, 3))
    inside = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.round(outline).astype(np.int32)], 255)
    return _painted(image, inside > 0, np.array(colour, np.float32))


def shaded(image: U8, face: F32, rng: np.random.Generator) -> U8:
    """Dark glasses before the eyes of the face (68, 2)."""
    left, right = (face[eye].mean(axis=0) for eye in _EYES)
    apart = max(float(np.hypot(*(right - left))), 0.2 * float(sizes_of(boxes_of(face[None]))[0]))
    angle = float(np.degrees(np.arctan2(*(right - left)[::-1])))
    half = (int(apart * rng.uniform(0.32, 0.46)), int(apart * rng.uniform(0.22, 0.4)))
    glass = np.zeros(image.shape[:2], np.uint8)
    for eye in (left, right):
        cv2.ellipse(glass, (round(float(eye[0])), round(float(eye[1]))), half, angle, 0, 360, 255, -1)
    ends = [(round(float(x)), round(float(y))) for x, y in (left, right)]
    cv2.line(glass, ends[0], ends[1], 255, max(1, int(apart * 0.06)))
    return _painted(image, glass > 0, rng.uniform(0, 70, 3).astype(np.float32))


def _painted(image: U8, where: Bools, colour: F32) -> U8:
    """The picture in this colour `where` (H, W) says, and a fifth of its own light and shade left."""
    light = image[where].mean(axis=1, keepdims=True) if where.any() else np.zeros((0, 1))
    out = image.copy()
    shade = 0.2 * (light - light.mean()) if len(light) else light
    out[where] = np.clip(colour * (0.5 + 0.5 * min(1.0, image.mean() / 110)) + shade, 0, 255).astype(np.uint8)
    return out


def headless(portrait: Layer, cover: U8, rng: np.random.Generator) -> Layer:
    """The portrait with a piece of another picture, or a colour, over all of each head: shoulders, but no face."""
    h, w = portrait.image.shape[:2]
    hidden = np.zeros((h, w), np.uint8)
    for box in boxes_of(portrait.points):
        size = float(sizes_of(box[None])[0])
        x, y = (box[:2] + box[2:]) / 2 - np.array([0, _CROWN * size])
        half = (int(_HEAD[0] * size * rng.uniform(1, 1.3)), int(_HEAD[1] * size * rng.uniform(1, 1.3)))
        cv2.ellipse(hidden, (round(float(x)), round(float(y))), half, 0, 0, 360, 255, -1)
    over = np.asarray(cv2.resize(cover, (w, h)), np.uint8)
    if rng.random() < 0.3:
        over = np.full_like(over, rng.integers(0, 256, 3))
    soft = cv2.GaussianBlur(hidden, (0, 0), rng.uniform(0.5, 4))[..., None] / np.float32(255)
    image = (portrait.image * (1 - soft) + over * soft).astype(np.uint8)
    return Layer(image, portrait.points[:0], portrait.ignored[:0])
