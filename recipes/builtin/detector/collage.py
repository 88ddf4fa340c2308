"""Training pictures of the detector: faces pasted at every size onto backgrounds, whole scenes, and pictures of none.

A face is 68 points, so that its box is exact however it was turned: the least and greatest x and y of the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, I64, U8, Bools, Floats, check_shape
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.geometry.crop import landmark_boxes

#: Share of a face's box inside the picture: a face from `_FACE` up, to be ignored from `_PART` up, else nothing.
_FACE, _PART = 0.6, 0.2
#: Faces smaller than this (√(width·height), pixels) are ignored: they are not asked for.
_LEAST_SIZE = 15.0
#: Sizes of pasted faces: from this many pixels to this share of the picture's side, evenly by their logarithm.
_SMALLEST, _LARGEST = 15.0, 1.1
#: What a pasted face may hide of the others: share of a box.
_MAY_HIDE = 0.12
_TRIES = 8
#: How often a face lies on its side, or nearly; how often a crop is given a portrait's head and shoulders.
_LYING, _WORN = 0.08, 0.35
#: How far along the line from ear to ear, from its middle, the nose tip of a profile lies; how often one is drawn.
_SIDE, _PROFILES = 0.35, 0.42
#: How often what is pasted stands against the light, and how little of its own that may leave.
_BACKLIT, _DARKEST = 0.2, 0.25


@dataclass(frozen=True)
class Pictures:
    """Pictures of one source with their faces.

    pixels: the BGR bytes of all pictures, one after the other, uint8; sizes (N, 2) height and width; start (N + 1,) of
    each in `pixels`. points (F, 68, 2) pixels of all faces; ignored (F,) marks those that are neither to be found nor
    left out; first (N + 1,) of each picture's faces.
    """

    pixels: U8
    sizes: I64
    start: I64
    points: F32
    ignored: Bools
    first: I64

    def __post_init__(self) -> None:
        check_shape("sizes", self.sizes, None, 2)
        check_shape("points", self.points, None, N_LANDMARKS, 2)
        check_shape("ignored", self.ignored, len(self.points))
        check_shape("start", self.start, len(self.sizes) + 1)
        check_shape("first", self.first, len(self.sizes) + 1)

    def __len__(self) -> int:
        return len(self.sizes)

    def picture(self, i: int) -> Layer:
        """Picture `i` and its faces."""
        pixels = self.pixels[self.start[i] : self.start[i + 1]].reshape(*self.sizes[i], 3)
        chosen = slice(self.first[i], self.first[i + 1])
        return Layer(pixels, self.points[chosen], self.ignored[chosen])

    def chosen(self, which: Sequence[int] | I64) -> Pictures:
        """Those of the given indices, in that order."""
        return Pictures.of([self.picture(int(i)) for i in which])

    @staticmethod
    def of(layers: Sequence[Layer]) -> Pictures:
        """Those of a list."""
        sizes = np.array([layer.image.shape[:2] for layer in layers], np.int64).reshape(-1, 2)
        return Pictures(
            np.concatenate([layer.image.ravel() for layer in layers]),
            sizes,
            np.concatenate([[0], np.cumsum(sizes.prod(axis=1) * 3)]),
            np.concatenate([layer.points for layer in layers]).astype(np.float32),
            np.concatenate([layer.ignored for layer in layers]),
            np.concatenate([[0], np.cumsum([len(layer.points) for layer in layers])]).astype(np.int64),
        )

    def save(self, path: Path) -> None:
        """Write them to a file of plain arrays."""
        np.savez(path, **vars(self))

    @staticmethod
    def load(path: Path) -> Pictures:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return Pictures(**{name: arrays[name] for name in arrays.files})


@dataclass(frozen=True)
class Layer:
    """A picture (H, W, 3) BGR, its faces' points (K, 68, 2) in pixels, and which of them are ignored (K,)."""

    image: U8
    points: F32
    ignored: Bools


@dataclass(frozen=True)
class Sources:
    """Where training pictures come from.

    crops: one face each, filling the picture; profiles: those of them that are seen from the side, which are drawn more
    often; portraits: one face in its surroundings, as photographed or turned; scenes: photographs of people; empty:
    pictures without a face.
    """

    crops: Pictures
    profiles: Pictures
    portraits: Pictures
    scenes: Pictures
    empty: Pictures

    def crop(self, rng: np.random.Generator) -> Layer:
        """One of the crops."""
        source = self.profiles if len(self.profiles) and rng.random() < _PROFILES else self.crops
        return source.picture(int(rng.integers(len(source))))

    def portrait(self, rng: np.random.Generator) -> Layer:
        """One of the portraits."""
        return self.portraits.picture(int(rng.integers(len(self.portraits))))


def seen_from_the_side(points: F32) -> Bools:
    """Which faces (K,) of points (K, 68, 2) have their nose tip near or beyond an end of the line from ear to ear."""
    line = points[:, 16] - points[:, 0]
    along = ((points[:, 30] - points[:, 0]) * line).sum(axis=1) / np.maximum((line**2).sum(axis=1), 1e-6)
    return np.asarray(np.abs(along - 0.5) > _SIDE)


def no_faces() -> F32:
    """The points of no face (0, 68, 2)."""
    return np.empty((0, N_LANDMARKS, 2), np.float32)


def boxes_of(points: F32) -> F32:
    """Boxes (K, 4) x0, y0, x1, y1 of faces' points (K, 68, 2)."""
    return landmark_boxes(points).astype(np.float32)


def points_in_box(boxes: F32) -> F32:
    """Points (K, 68, 2) on the ellipse in each box (K, 4), which they touch at all four sides."""
    angle = np.arange(N_LANDMARKS) * 2 * np.pi / N_LANDMARKS
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return (centre[:, None] + circle * half[:, None]).astype(np.float32)


def sizes_of(boxes: F32) -> F32:
    """√(width·height) (K,) of boxes (K, 4)."""
    return np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))


def inside(boxes: Floats, window: Sequence[float] | Floats) -> F32:
    """Share (K,) of the area of each of boxes (K, 4) that lies in `window` x0, y0, x1, y1."""
    low, high = np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6), axis=1)
    return np.asarray(np.prod(np.clip(high - low, 0, None), axis=1) / area, np.float32)


def collage(sources: Sources, side: int, rng: np.random.Generator) -> tuple[U8, F32, Bools]:
    """A training picture (side, side, 3), its boxes (K, 4) in pixels, and which of them are ignored (K,)."""
    kind = rng.random()
    if kind < 0.2:
        patch = sources.crop(rng) if rng.random() < 0.6 else sources.portrait(rng)
        pasted = framed(_recoloured(patch, rng), sources, side, rng)
    elif kind < 0.28:
        pasted = without_faces(sources, side, rng)
    else:
        base = _mosaic(sources, side, rng) if kind < 0.45 else _ground(sources, side, side, rng)
        pasted = _pasted(sources, base, rng)
    image = photometric_jitter(_occluded(pasted, sources, rng), rng)
    boxes = boxes_of(pasted.points)
    share = inside(boxes, (0, 0, side, side))
    kept = share >= _PART
    ignored = pasted.ignored | (share < _FACE) | (sizes_of(boxes) < _LEAST_SIZE)
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
        boxes = np.stack([side - 1 - boxes[:, 2], boxes[:, 1], side - 1 - boxes[:, 0], boxes[:, 3]], axis=1)
    return image, boxes[kept].astype(np.float32), ignored[kept]


def framed(source: Layer, sources: Sources, side: int, rng: np.random.Generator) -> Layer:
    """One face with √(width·height) of 25–65 % of the side, about the middle of a picture (side, side, 3).

    It stands before a picture without faces where its own does not fill the frame.
    """
    source = _worn(source, sources, rng) if rng.random() < _WORN else source
    box = boxes_of(source.points[:1])[0]
    if rng.random() < 0.5:
        source, box = _surrounded(source, box)
    empty = sources.empty.picture(int(rng.integers(len(sources.empty)))).image
    image: U8 = np.asarray(cv2.resize(empty, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)
    scale = rng.uniform(0.25, 0.65) * side / float(sizes_of(box[None])[0])
    place = rng.uniform(0.4, 0.6, 2) * side
    matrix = _similarity(scale, _turn(rng), box.reshape(2, 2).mean(axis=0), place)
    h, w = source.image.shape[:2]
    frame = _frame(w, h, matrix)
    image = _blended(image, source.image, _mask(source, box, rng), matrix, frame)
    return Layer(image, _moved(source.points, matrix), source.ignored)


def without_faces(sources: Sources, side: int, rng: np.random.Generator) -> Layer:
    """A picture (side, side, 3) in which no face is to be found."""
    if rng.random() < 0.2:
        return Layer(_plain(side, side, rng), no_faces(), np.zeros(0, bool))
    source = sources.empty.picture(int(rng.integers(len(sources.empty))))
    if rng.random() < 0.5:
        source = replace(source, image=np.ascontiguousarray(np.rot90(source.image, int(rng.integers(1, 4)))))
    scale = max(side / source.image.shape[0], side / source.image.shape[1]) * np.exp(rng.uniform(-0.2, 1))
    return _window(source, side, side, float(scale), None, rng)


# ------------------------------------------------------------------------------------------------ what lies below


def _mosaic(sources: Sources, side: int, rng: np.random.Generator) -> Layer:
    """Four grounds around a random point."""
    x, y = (int(v) for v in rng.integers(side // 4, 3 * side // 4, 2))
    image = np.empty((side, side, 3), np.uint8)
    points, ignored = [], []
    for top, bottom in ((0, y), (y, side)):
        for left, right in ((0, x), (x, side)):
            part = _ground(sources, bottom - top, right - left, rng)
            image[top:bottom, left:right] = part.image
            share = inside(boxes_of(part.points), (0, 0, right - left, bottom - top))
            points.append(part.points[share >= _PART] + np.array([left, top], np.float32))
            ignored.append((part.ignored | (share < _FACE))[share >= _PART])
    return Layer(image, np.concatenate(points), np.concatenate(ignored))


def _ground(sources: Sources, height: int, width: int, rng: np.random.Generator) -> Layer:
    """A photograph without a face, of people, or of one person; or no photograph at all."""
    kind = rng.choice(4, p=(0.25, 0.35, 0.33, 0.07))
    if kind == 0:
        source = sources.empty.picture(int(rng.integers(len(sources.empty))))
        scale = max(height / source.image.shape[0], width / source.image.shape[1]) * np.exp(rng.uniform(-0.2, 1.2))
        return _window(source, height, width, float(np.clip(scale, 0.15, 3)), None, rng)
    if kind == 1:
        return _scene(sources.scenes.picture(int(rng.integers(len(sources.scenes)))), height, width, rng)
    if kind == 2:
        source = sources.portrait(rng)
        scale = max(height / source.image.shape[0], width / source.image.shape[1]) * np.exp(rng.uniform(-0.3, 0.7))
        centre = boxes_of(source.points[:1]).reshape(2, 2).mean(axis=0)
        return _window(source, height, width, float(scale), centre, rng)
    return Layer(_plain(height, width, rng), no_faces(), np.zeros(0, bool))


def _scene(source: Layer, height: int, width: int, rng: np.random.Generator) -> Layer:
    """A part of a photograph of people, at a scale that gives one of its faces a size drawn as for pasted ones."""
    if not len(source.points) or rng.random() < 0.2:
        scale = max(height / source.image.shape[0], width / source.image.shape[1]) * np.exp(rng.uniform(-0.1, 1))
        return _window(source, height, width, float(scale), None, rng)
    box = boxes_of(source.points[[rng.integers(len(source.points))]])[0]
    size = float(np.exp(rng.uniform(np.log(_SMALLEST), np.log(0.6 * min(height, width) + _SMALLEST))))
    scale = float(np.clip(size / sizes_of(box[None])[0], 0.2, 2.5))
    return _window(source, height, width, scale, box.reshape(2, 2).mean(axis=0), rng)


def _window(
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
    matrix = _similarity(scale, angle, centre, place)
    border = int(rng.choice([cv2.BORDER_CONSTANT, cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE]))
    colour = [int(v) for v in rng.integers(0, 256, 3)] if rng.random() < 0.5 else [0, 0, 0]
    image = _warped(source.image, matrix, width, height, border, colour)
    return Layer(image, _moved(source.points, matrix), source.ignored)


def _plain(height: int, width: int, rng: np.random.Generator) -> U8:
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


# --------------------------------------------------------------------------------------------- what is pasted on it


def _pasted(sources: Sources, base: Layer, rng: np.random.Generator) -> Layer:
    """`base` with some faces, and some pieces of pictures without faces, pasted over it."""
    side = base.image.shape[0]
    image, points, ignored = base.image.copy(), [*base.points], [*base.ignored]
    n = int(rng.integers(0, 4 + side // 40))
    for size in np.sort(np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST * side), n)))[::-1]:
        kind = rng.choice(3, p=(0.65, 0.15, 0.2))
        if kind == 0:
            patch = sources.crop(rng)
            patch = _worn(patch, sources, rng) if rng.random() < _WORN else patch
        elif kind == 1:
            patch = sources.portrait(rng)
        else:
            patch = _decoy(sources, rng)
        image = _paste(image, points, ignored, _recoloured(patch, rng), float(size), rng)
    return Layer(image, np.array(points, np.float32).reshape(-1, N_LANDMARKS, 2), np.array(ignored, bool))


def _decoy(sources: Sources, rng: np.random.Generator) -> Layer:
    """A piece of a picture without a face, or of a portrait below its face: its box is that of a face that is not."""
    if rng.random() < 0.35:
        source = sources.portrait(rng)
        h, w = source.image.shape[:2]
        top = int(boxes_of(source.points)[:, 3].max() * 1.02) + 1
        if h - top > 24 and w > 24:
            return Layer(source.image[top:], no_faces(), np.zeros(0, bool))
    source = sources.empty.picture(int(rng.integers(len(sources.empty))))
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
    angle = rng.uniform(-45, 45) if rng.random() < 0.2 else _turn(rng)
    if len(patch.points) and size > 0.35 * side and rng.random() < 0.4:
        patch, box = _surrounded(patch, box)
    others = boxes_of(np.array(points, np.float32).reshape(-1, N_LANDMARKS, 2))
    for _ in range(_TRIES):
        place = rng.uniform(-0.1 * size, side + 0.1 * size, 2) if size < 0.5 * side else rng.uniform(0.3, 0.7, 2) * side
        matrix = _similarity(scale, angle, box.reshape(2, 2).mean(axis=0), place)
        mask = _mask(patch, box, rng)
        frame = _frame(w, h, matrix)
        if (inside(others, frame) > _MAY_HIDE).any():
            continue
        image = _blended(image, patch.image, mask, matrix, frame)
        points += list(_moved(patch.points, matrix))
        ignored += list(patch.ignored)
        return image
    return image


def _surrounded(patch: Layer, box: F32) -> tuple[Layer, F32]:
    """The patch with a margin of its own blurred reflection, as if the photograph went on."""
    h, w = patch.image.shape[:2]
    margin = max(h, w) // 2
    wide = cv2.copyMakeBorder(patch.image, margin, margin, margin, margin, cv2.BORDER_REFLECT_101)
    blurred = cv2.resize(cv2.GaussianBlur(cv2.resize(wide, None, fx=0.25, fy=0.25), (0, 0), 4), wide.shape[1::-1])
    blurred[margin : margin + h, margin : margin + w] = patch.image
    shift = np.array([margin, margin], np.float32)
    return Layer(np.asarray(blurred), patch.points + shift, patch.ignored), box + np.tile(shift, 2)


def _worn(crop: Layer, sources: Sources, rng: np.random.Generator) -> Layer:
    """A crop's face in the place of a portrait's: seen from any side, before real hair, shoulders and rooms.

    As it is, if it would not cover that other face.
    """
    portrait = sources.portrait(rng)
    if len(portrait.points) != 1 or len(crop.points) != 1:
        return crop
    (old,), (box,) = boxes_of(portrait.points), boxes_of(crop.points)
    scale = rng.uniform(1.05, 1.35) * float(sizes_of(old[None])[0] / sizes_of(box[None])[0])
    matrix = _similarity(scale, rng.normal(0, 4), box.reshape(2, 2).mean(axis=0), old.reshape(2, 2).mean(axis=0))
    h, w = crop.image.shape[:2]
    if inside(old[None], _frame(w, h, matrix))[0] < 1:
        return crop
    image = _blended(portrait.image.copy(), crop.image, _soft_edged(h, w, 0.1), matrix, _frame(w, h, matrix))
    return Layer(image, _moved(crop.points, matrix), crop.ignored)


def _turn(rng: np.random.Generator) -> float:
    """Degrees: most people hold their heads up, some lie."""
    return float(rng.uniform(-110, 110) if rng.random() < _LYING else rng.normal(0, 8))


def _mask(patch: Layer, box: F32, rng: np.random.Generator) -> U8:
    """What of the patch is pasted (h, w), 0..255: all of it, with soft edges, or an oval around the face."""
    h, w = patch.image.shape[:2]
    kind = rng.random()
    if kind < 0.35:
        return np.full((h, w), 255, np.uint8)
    if kind < 0.75:
        return _soft_edged(h, w, rng.uniform(0.03, 0.15))
    y, x = np.mgrid[:h, :w].astype(np.float32)
    cx, cy = (box[:2] + box[2:]) / 2
    rx, ry = (box[2:] - box[:2]) / 2 * rng.uniform(1.15, 1.6)
    radius = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / (ry * 1.1)) ** 2)
    return np.asarray(np.clip((1.15 - radius) / rng.uniform(0.05, 0.3), 0, 1) * 255, np.uint8)


def _soft_edged(height: int, width: int, share: float) -> U8:
    """A mask (height, width), 0..255, that falls off towards the edges over this share of the shorter side."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    edge = np.minimum(np.minimum(x + 1, width - x), np.minimum(y + 1, height - y))
    return np.asarray(np.clip(edge / (share * min(height, width)), 0, 1) * 255, np.uint8)


def _blended(image: U8, patch: U8, mask: U8, matrix: F32, frame: F32) -> U8:
    """`image` with the patch moved by `matrix` laid over it through its mask; `frame` is where it comes to lie."""
    height, width = image.shape[:2]
    x0, y0 = (int(v) for v in np.clip(np.floor(frame[:2]), 0, (width, height)))
    x1, y1 = (int(v) for v in np.clip(np.ceil(frame[2:]) + 1, 0, (width, height)))
    if x1 <= x0 or y1 <= y0:
        return image
    local = matrix - np.array([[0, 0, x0], [0, 0, y0]], np.float32)
    over = _warped(patch, local, x1 - x0, y1 - y0, cv2.BORDER_REPLICATE, [0, 0, 0])
    share = _warped(mask, local, x1 - x0, y1 - y0, cv2.BORDER_CONSTANT, [0, 0, 0]).astype(np.float32)[..., None] / 255
    below = image[y0:y1, x0:x1].astype(np.float32)
    image[y0:y1, x0:x1] = (below + (over - below) * share + 0.5).astype(np.uint8)
    return image


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


# ------------------------------------------------------------------------------------------------ geometry and light


def _similarity(scale: float, angle: float, centre: Floats, place: Floats) -> F32:
    """The matrix (2, 3) that scales and turns (degrees) about `centre`, and moves that to `place`."""
    a = np.deg2rad(angle)
    linear = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    shift = np.asarray(place) - linear @ np.asarray(centre)
    return np.concatenate([linear, shift[:, None]], axis=1).astype(np.float32)


def _moved(points: F32, matrix: F32) -> F32:
    """Points (K, P, 2) under a matrix (2, 3)."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


def _frame(width: int, height: int, matrix: F32) -> F32:
    """The upright box x0, y0, x1, y1 around a picture of width × height under a matrix (2, 3)."""
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float32)
    return boxes_of(_moved(corners, matrix))[0]


def _warped(image: U8, matrix: F32, width: int, height: int, border: int, colour: Sequence[int]) -> U8:
    """`image` under a matrix (2, 3), in a frame of width × height; averaged first where that makes it much smaller."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    while scale < 0.6 and min(image.shape[:2]) >= 4:
        h, w = image.shape[0] // 2, image.shape[1] // 2
        image = np.asarray(cv2.resize(image[: h * 2, : w * 2], (w, h), interpolation=cv2.INTER_AREA))
        # The centre of pixel 0 of the smaller image is at 0.5 of the larger.
        matrix = matrix @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]], np.float32)
        scale *= 2
    return np.asarray(
        cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=colour)
    )


def _recoloured(patch: Layer, rng: np.random.Generator) -> Layer:
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
