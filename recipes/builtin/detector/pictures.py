"""Pictures with the points of their faces, and where the training pictures of the detector come from.

A face is 68 points, so that its box is exact however it was turned: the least and greatest x and y of the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, I64, U8, Bools, Floats, check_shape
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.geometry.boxes import landmark_boxes

#: How far along the line from ear to ear, from its middle, the nose tip of a profile lies.
_PROFILE_NOSE = 0.35
#: Share of a face's box inside the picture: a face from `FACE_SHARE` up, to be ignored from `PART_SHARE` up.
FACE_SHARE, PART_SHARE = 0.6, 0.2
#: √(width·height) of the smallest faces that are pasted, pixels: one cell of the finest stride and a half.
SMALLEST = 12.0
#: How often a profile is drawn where a crop is asked for.
_PROFILES = 0.42
#: How often what was mistaken for a face is drawn where a picture without one is asked for.
_MISTAKEN = 0.4


def read_picture(path: Path, flags: int = cv2.IMREAD_COLOR) -> U8:
    """A picture file (H, W, channels) as OpenCV decodes it; raises `InputError` for what is none."""
    image = cv2.imread(str(path), flags)
    if image is None:
        raise InputError(f"{path} is not a picture that can be read; make it again, or take it out of its folder.")
    return np.asarray(image, np.uint8)


def scaled(image: U8, scale: float, how: int = cv2.INTER_LINEAR) -> U8:
    """The picture with its sides times `scale`."""
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=how), np.uint8)


@dataclass(frozen=True)
class Pictures:
    """N pictures of one source with their F faces."""

    #: (bytes,), BGR of all pictures, one after the other.
    pixels: U8
    #: (N, 2), height and width.
    sizes: I64
    #: (N + 1,), where each begins in `pixels`.
    start: I64
    #: (F, 68, 2), of all faces, pixels of their picture.
    points: F32
    #: (F,), which are neither to be found nor left out.
    ignored: Bools
    #: (N + 1,), where the faces of each begin in `points`.
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
            pixels=np.concatenate([np.zeros(0, np.uint8), *(layer.image.ravel() for layer in layers)]),
            sizes=sizes,
            start=np.concatenate([[0], np.cumsum(sizes.prod(axis=1) * 3)]).astype(np.int64),
            points=np.concatenate([no_faces(), *(layer.points for layer in layers)]).astype(np.float32),
            ignored=np.concatenate([np.zeros(0, bool), *(layer.ignored for layer in layers)]),
            first=np.concatenate([[0], np.cumsum([len(layer.points) for layer in layers])]).astype(np.int64),
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
    """A picture and its K faces."""

    #: (H, W, 3), BGR.
    image: U8
    #: (K, 68, 2), pixels.
    points: F32
    #: (K,), which are neither to be found nor left out.
    ignored: Bools


@dataclass(frozen=True)
class Sources:
    """Where training pictures come from."""

    #: One face each, filling the picture.
    crops: Pictures
    #: Those of them that are seen from the side, which are drawn more often.
    profiles: Pictures
    #: One face in its surroundings, as photographed or turned.
    portraits: Pictures
    #: Photographs of people.
    scenes: Pictures
    #: Pictures without a face.
    empty: Pictures
    #: Pieces of pictures about what a detector took for a face, and is none.
    mistaken: Pictures = field(default_factory=lambda: Pictures.of([]))

    def crop(self, rng: np.random.Generator) -> Layer:
        """One of the crops."""
        source = self.profiles if len(self.profiles) and rng.random() < _PROFILES else self.crops
        return source.picture(int(rng.integers(len(source))))

    def portrait(self, rng: np.random.Generator) -> Layer:
        """One of the portraits."""
        return self.portraits.picture(int(rng.integers(len(self.portraits))))

    def nothing(self, rng: np.random.Generator) -> Layer:
        """A picture without a face, or a piece of one."""
        source = self.mistaken if len(self.mistaken) and rng.random() < _MISTAKEN else self.empty
        return source.picture(int(rng.integers(len(source))))


def seen_from_the_side(points: F32) -> Bools:
    """Which faces (K,) of points (K, 68, 2) have their nose tip near or beyond an end of the line from ear to ear."""
    line = points[:, 16] - points[:, 0]
    along = ((points[:, 30] - points[:, 0]) * line).sum(axis=1) / np.maximum((line**2).sum(axis=1), 1e-6)
    return np.asarray(np.abs(along - 0.5) > _PROFILE_NOSE)


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
    return np.asarray(np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)))


def inside(boxes: Floats, window: Sequence[float] | Floats) -> F32:
    """Share (K,) of the area of each of boxes (K, 4) that lies in `window` x0, y0, x1, y1."""
    low, high = np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6), axis=1)
    return np.asarray(np.prod(np.clip(high - low, 0, None), axis=1) / area, np.float32)
