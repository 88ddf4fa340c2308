"""Face boxes of an image: the project's own detector, FaceBoxes, the YuNet family, or boxes the user brings."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Protocol

import cv2
import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.arrays import F32, I64, U8
from ddfa_batch.schemas.bundle import DetectorSpec
from ddfa_batch.schemas.faces import Detections

#: Mean BGR that FaceBoxes was trained with, and its variances of centre and size (FaceBoxes.PyTorch).
_FACEBOXES_MEAN = tuple(np.array([mean, 0.0, 0.0, 0.0]) for mean in (104.0, 117.0, 123.0))
_VARIANCE = (0.1, 0.2)
#: (stride, [(anchor side, offsets within a cell)]) of each of FaceBoxes' three heads.
_FACEBOXES_HEADS: tuple[tuple[int, tuple[tuple[int, tuple[float, ...]], ...]], ...] = (
    (32, ((32, (0.0, 0.25, 0.5, 0.75)), (64, (0.0, 0.5)), (128, (0.5,)))),
    (64, ((256, (0.5,)),)),
    (128, ((512, (0.5,)),)),
)
#: Upstream keeps this many candidates before, and faces after, non-maximum suppression.
_TOP_K, _KEEP_K = 5000, 750
_NMS_IOU = 0.3
_YUNET_STRIDES = (8, 16, 32)
#: Strides of the heads of the project's own detector, and what its pictures' sides must be multiples of.
FCOS_STRIDES = (8, 16, 32, 64)
_FCOS_MULTIPLE = 32
#: Largest log distance that is believed, in strides: e⁵ strides are 1,187 pixels at the finest.
MAX_EXPONENT = 5.0
#: Logits beyond are scores of 0 or 1 as far as float32 can tell.
_MAX_LOGIT = 60.0


class Detector(Protocol):
    """Finds the faces of one image (H, W, 3) BGR; boxes in its pixels, best first, at least `min_score`."""

    def __call__(self, image: U8, shrink: float = 1.0) -> Detections:
        """Return the faces; the image is looked at `shrink` times as large as it is, or as fits."""
        ...


def make_detector(
    spec: DetectorSpec, session: ort.InferenceSession, min_score: float, longest_side: int | None
) -> Detector:
    """The detector of a bundle. `longest_side` replaces the size its spec scales pictures down to."""
    fit = (longest_side, longest_side) if longest_side else spec.fit
    kinds: Mapping[str, type[FaceBoxes | YuNet | Fcos]] = {"faceboxes": FaceBoxes, "yunet": YuNet, "fcos": Fcos}
    return kinds[spec.kind](session, min_score, fit)


def scaled_to_fit(image: U8, fit: tuple[int, int], shrink: float = 1.0) -> tuple[U8, float]:
    """A copy no higher than fit[0] and no wider than fit[1], and its scale; the image itself if it fits.

    With `shrink` it is so many times as large still. Without, it is exactly upstream's arithmetic (FaceBoxes.py), so
    that boxes agree to the last digit.
    """
    h, w = image.shape[:2]
    scale = 1.0
    if h > fit[0]:
        scale = fit[0] / h
    if w * scale > fit[1]:
        scale *= fit[1] / (w * scale)
    scale *= shrink
    if scale == 1.0:
        return image, scale
    size = (max(int(scale * w), 1), max(int(scale * h), 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)), scale


class InputPlanes(threading.local):
    """The network's input of the picture before, (1, 3, H, W), kept for the next one of its size: one for each thread.

    A worker's detector serves all of its threads, and sessions may run at once; what they read must not be shared.
    """

    def __init__(self) -> None:
        self._planes = np.empty((1, 3, 0, 0), np.float32)

    def of(self, height: int, width: int) -> F32:
        """Planes (1, 3, height, width) to write to; they hold what they held before."""
        if self._planes.shape[2:] != (height, width):
            self._planes = np.empty((1, 3, height, width), np.float32)
        return self._planes


def non_maximum_suppression(boxes: F32, scores: F32, iou: float, plus_one: float = 0.0) -> I64:
    """Indices of the boxes (N, 4) that survive greedy suppression, best first.

    A box falls if its intersection over union with a better one that stands is at least `iou`. One
    vectorised pass per surviving box. `plus_one` = 1 counts pixels as upstream does (x1 − x0 + 1).
    """
    order = np.argsort(-scores, kind="stable")[:_TOP_K]
    x0, y0, x1, y1 = (boxes[order, i] for i in range(4))
    area = (x1 - x0 + plus_one) * (y1 - y0 + plus_one)
    left = np.arange(len(order))
    kept: list[int] = []
    while left.size and len(kept) < _KEEP_K:
        best, rest = left[0], left[1:]
        kept.append(int(order[best]))
        width = np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest]) + plus_one
        height = np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest]) + plus_one
        shared = np.clip(width, 0, None) * np.clip(height, 0, None)
        left = rest[shared < iou * np.maximum(area[best] + area[rest] - shared, 1e-9)]
    return np.array(kept, np.int64)


@lru_cache(maxsize=64)
def faceboxes_priors(height: int, width: int) -> F32:
    """Anchors (N, 4) of FaceBoxes for an input of height × width: centre x, y and size, relative to it."""
    rows: list[F32] = []
    for stride, anchors in _FACEBOXES_HEADS:
        cells_y, cells_x = -(-height // stride), -(-width // stride)
        cell = [
            (dx * stride / width, dy * stride / height, side / width, side / height)
            for side, offsets in anchors
            for dy, dx in product(offsets, offsets)
        ]
        grid = np.empty((cells_y, cells_x, len(cell), 4))
        grid[:] = cell
        grid[..., 0] += (np.arange(cells_x) * stride / width)[None, :, None]
        grid[..., 1] += (np.arange(cells_y) * stride / height)[:, None, None]
        rows.append(grid.reshape(-1, 4).astype(np.float32))
    return np.concatenate(rows)


class FaceBoxes:
    """FaceBoxes (IJCB 2017) with upstream's anchors, decoding and suppression, without torch."""

    def __init__(self, session: ort.InferenceSession, min_score: float, fit: tuple[int, int]) -> None:
        self._session, self._min_score, self._fit = session, min_score, fit
        self._planes = InputPlanes()

    def __call__(self, image: U8, shrink: float = 1.0) -> Detections:
        """Return the faces of `image`."""
        small, scale = scaled_to_fit(image, self._fit, shrink)
        height, width = small.shape[:2]
        planes = self._planes.of(height, width)
        for plane, channel, mean in zip(planes[0], cv2.split(small), _FACEBOXES_MEAN, strict=True):
            cv2.subtract(channel, mean, plane, dtype=cv2.CV_32F)
        offsets, all_scores = self._session.run(["boxes", "scores"], {"input": planes})
        # Upstream suppresses all candidates above 0.05 and drops the weak ones after; a weaker box never
        # suppresses a stronger one, so dropping them before gives the same faces.
        chosen = np.flatnonzero(all_scores[0] > self._min_score)
        priors, offset = faceboxes_priors(height, width)[chosen], offsets[0, chosen]
        centre = priors[:, :2] + offset[:, :2] * np.float32(_VARIANCE[0]) * priors[:, 2:]
        half = priors[:, 2:] * np.exp(offset[:, 2:] * np.float32(_VARIANCE[1])) / 2
        size = np.array([width, height, width, height], np.float32)
        boxes = np.concatenate([centre - half, centre + half], axis=1) * size / np.float32(scale)
        return _select(boxes, all_scores[0, chosen], self._min_score, plus_one=1.0)


class YuNet:
    """The YuNet family (Wu, Peng and Yu, 2023): anchor-free heads at strides 8, 16 and 32."""

    def __init__(self, session: ort.InferenceSession, min_score: float, fit: tuple[int, int]) -> None:
        self._session, self._min_score, self._fit = session, min_score, fit
        self._outputs = [f"{part}_{stride}" for part in ("cls", "obj", "bbox") for stride in _YUNET_STRIDES]
        self._input = session.get_inputs()[0].name

    def __call__(self, image: U8, shrink: float = 1.0) -> Detections:
        """Return the faces of `image`."""
        small, scale = scaled_to_fit(image, self._fit, shrink)
        height, width = (-(-side // 32) * 32 for side in small.shape[:2])
        planes = np.zeros((1, 3, height, width), np.float32)
        for plane, channel in zip(planes[0], cv2.split(small), strict=True):
            plane[: small.shape[0], : small.shape[1]] = channel
        found = dict(zip(self._outputs, self._session.run(self._outputs, {self._input: planes}), strict=True))
        boxes, scores = [], []
        for stride in _YUNET_STRIDES:
            confidence = np.clip(found[f"cls_{stride}"], 0, 1) * np.clip(found[f"obj_{stride}"], 0, 1)
            score = np.sqrt(confidence.reshape(-1))
            chosen = np.flatnonzero(score >= self._min_score)
            box = found[f"bbox_{stride}"].reshape(-1, 4)[chosen]
            cell = np.stack([chosen % (width // stride), chosen // (width // stride)], axis=1)
            centre, half = (cell + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride / 2
            boxes.append(np.concatenate([centre - half, centre + half], axis=1))
            scores.append(score[chosen])
        all_boxes = (np.concatenate(boxes) / scale).astype(np.float32)
        return _select(all_boxes, np.concatenate(scores).astype(np.float32), self._min_score)


@lru_cache(maxsize=256)
def cell_centres(height: int, width: int, stride: int) -> F32:
    """Centres (height·width, 2) in pixels, x and y, of a grid of cells of `stride` pixels, row by row."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return ((np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) * stride).astype(np.float32)


class Fcos:
    """The project's own detector (`networks.fcos`): heads at four strides, each cell a score and four distances."""

    def __init__(self, session: ort.InferenceSession, min_score: float, fit: tuple[int, int]) -> None:
        self._session, self._min_score, self._fit = session, min_score, fit
        self._outputs = [f"level_{stride}" for stride in FCOS_STRIDES]
        self._planes = InputPlanes()

    def __call__(self, image: U8, shrink: float = 1.0) -> Detections:
        """Return the faces of `image`."""
        small, scale = scaled_to_fit(image, self._fit, shrink)
        height, width = small.shape[:2]
        padded = [-(-side // _FCOS_MULTIPLE) * _FCOS_MULTIPLE for side in (height, width)]
        planes = self._planes.of(*padded)
        planes[:, :, height:], planes[:, :, :, width:] = 0, 0
        for plane, channel in zip(planes[0], cv2.split(small), strict=True):
            plane[:height, :width] = channel
        boxes, scores = decode_fcos(self._session.run(self._outputs, {"input": planes}), self._min_score)
        return _select(boxes / np.float32(scale), scores, self._min_score)


def decode_fcos(levels: Sequence[F32], min_score: float) -> tuple[F32, F32]:
    """Boxes (N, 4) in pixels and scores (N,) of all cells that score at least `min_score`, unsuppressed.

    `levels` are the outputs (1, 5, h, w) at `FCOS_STRIDES`: score logit, then log distances to left, top, right and
    bottom in strides.
    """
    boxes, scores = [], []
    for stride, level in zip(FCOS_STRIDES, levels, strict=True):
        rows = level.reshape(5, -1)
        score = 1 / (1 + np.exp(-np.clip(rows[0], -_MAX_LOGIT, _MAX_LOGIT)))
        chosen = np.flatnonzero(score >= min_score)
        centre = cell_centres(*level.shape[2:], stride)[chosen]
        distance = np.exp(np.minimum(rows[1:, chosen].T, MAX_EXPONENT)) * np.float32(stride)
        boxes.append(np.concatenate([centre - distance[:, :2], centre + distance[:, 2:]], axis=1))
        scores.append(score[chosen])
    return np.concatenate(boxes).astype(np.float32), np.concatenate(scores).astype(np.float32)


def _select(boxes: F32, scores: F32, min_score: float, plus_one: float = 0.0) -> Detections:
    """Suppress overlaps, then keep what is strictly better than `min_score` and a real box."""
    sound = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes, scores = boxes[sound], scores[sound]
    kept = non_maximum_suppression(boxes, scores, _NMS_IOU, plus_one)
    kept = kept[scores[kept] > min_score]
    return Detections(np.ascontiguousarray(boxes[kept], np.float32), np.asarray(scores[kept], np.float32))
