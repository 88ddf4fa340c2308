"""What faces are pasted on: photographs without faces, of people, of one person, or patterns."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import Floats
from recipes.builtin.detector.light import pattern
from recipes.builtin.detector.pictures import (
    FACE_SHARE,
    PART_SHARE,
    SMALLEST,
    Layer,
    Sources,
    boxes_of,
    inside,
    no_faces,
    sizes_of,
)
from recipes.builtin.detector.warping import (
    moved_points,
    similarity_about,
    warp,
)


def draw_mosaic(sources: Sources, side: int, rng: np.random.Generator) -> Layer:
    """Four grounds around a random point."""
    x, y = (int(v) for v in rng.integers(side // 4, 3 * side // 4, 2))
    image = np.empty((side, side, 3), np.uint8)
    points, ignored = [], []
    for top, bottom in ((0, y), (y, side)):
        for left, right in ((0, x), (x, side)):
            part = draw_ground(sources, bottom - top, right - left, rng)
            image[top:bottom, left:right] = part.image
            share = inside(boxes_of(part.points), (0, 0, right - left, bottom - top))
            points.append(part.points[share >= PART_SHARE] + np.array([left, top], np.float32))
            ignored.append((part.ignored | (share < FACE_SHARE))[share >= PART_SHARE])
    return Layer(image, np.concatenate(points), np.concatenate(ignored))


def draw_ground(sources: Sources, height: int, width: int, rng: np.random.Generator) -> Layer:
    """A photograph without a face, of people, or of one person; or no photograph at all."""
    kind = rng.choice(4, p=(0.25, 0.35, 0.33, 0.07))
    if kind == 0:
        source = sources.empty.picture(int(rng.integers(len(sources.empty))))
        scale = max(height / source.image.shape[0], width / source.image.shape[1]) * np.exp(rng.uniform(-0.2, 1.2))
        return window_of(source, height, width, float(np.clip(scale, 0.15, 3)), None, rng)
    if kind == 1:
        return _scene(sources.scenes.picture(int(rng.integers(len(sources.scenes)))), height, width, rng)
    if kind == 2:
        source = sources.portrait(rng)
        scale = max(height / source.image.shape[0], width / source.image.shape[1]) * np.exp(rng.uniform(-0.3, 0.7))
        centre = boxes_of(source.points[:1]).reshape(2, 2).mean(axis=0)
        return window_of(source, height, width, float(scale), centre, rng)
    return Layer(pattern(height, width, rng), no_faces(), np.zeros(0, bool))


def _scene(source: Layer, height: int, width: int, rng: np.random.Generator) -> Layer:
    """A part of a photograph of people, at a scale that gives one of its faces a size drawn as for pasted ones."""
    if not len(source.points) or rng.random() < 0.2:
        scale = max(height / source.image.shape[0], width / source.image.shape[1]) * np.exp(rng.uniform(-0.1, 1))
        return window_of(source, height, width, float(scale), None, rng)
    box = boxes_of(source.points[[rng.integers(len(source.points))]])[0]
    size = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(0.6 * min(height, width) + SMALLEST))))
    scale = float(np.clip(size / sizes_of(box[None])[0], 0.2, 2.5))
    return window_of(source, height, width, scale, box.reshape(2, 2).mean(axis=0), rng)


def window_of(
    source: Layer, height: int, width: int, scale: float, centre: Floats | None, rng: np.random.Generator
) -> Layer:
    """A part of `source` at `scale`, slightly turned, that shows `centre` somewhere; beyond its edges, something."""
    h, w = source.image.shape[:2]
    if centre is None:
        centre = np.array([w, h]) * rng.uniform(0.2, 0.8, 2)
        place = np.array([width, height]) / 2
    else:
        place = np.array([width, height]) * rng.uniform(0.15, 0.85, 2)
    angle = rng.normal(0, 6) if rng.random() < 0.5 else 0.0
    matrix = similarity_about(scale, angle, centre, place)
    border = int(rng.choice([cv2.BORDER_CONSTANT, cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE]))
    colour = [int(v) for v in rng.integers(0, 256, 3)] if rng.random() < 0.5 else [0, 0, 0]
    image = warp(source.image, matrix, width, height, border, colour)
    return Layer(image, moved_points(source.points, matrix), source.ignored)
