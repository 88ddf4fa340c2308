"""The project's own detector (`onnx_graphs.fcos`), after FCOS (Tian et al., ICCV 2019): no anchors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.schemas.detectors import FCOS_STRIDES
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks.inference.detector_io import InputPlanes, best_boxes, scaled_to_fit
from ddfa_batch.tasks.inference.network_answers import answers

#: Sides of the network's pictures are multiples of this.
_MULTIPLE = 32
#: Largest log distance that is believed, in strides: e⁵ strides are 1,187 pixels at the finest.
MAX_EXPONENT = 5.0
#: Logits beyond are scores of 0 or 1 as far as float32 can tell.
_MAX_LOGIT = 60.0
#: How far below a threshold's logit a score is still worked out: far more than float32 rounds.
_LOGIT_MARGIN = 0.01


@lru_cache(maxsize=256)
def cell_centres(height: int, width: int, stride: int) -> F32:
    """Centres (height·width, 2) in pixels, x and y, of a grid of cells of `stride` pixels, row by row."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return ((np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) * stride).astype(np.float32)


class Fcos:
    """The project's own detector (`onnx_graphs.fcos`): heads at four strides, each cell a score and four distances."""

    def __init__(self, session: ort.InferenceSession, score_threshold: float, fit: tuple[int, int]) -> None:
        self._session, self._score_threshold, self._fit = session, score_threshold, fit
        self._outputs = [f"level_{stride}" for stride in FCOS_STRIDES]
        self._planes = InputPlanes()

    def __call__(self, image: U8, pass_scale: float = 1.0) -> Detections:
        """Return the faces of `image`."""
        small, scale = scaled_to_fit(image, self._fit, pass_scale)
        height, width = small.shape[:2]
        padded = [-(-side // _MULTIPLE) * _MULTIPLE for side in (height, width)]
        planes = self._planes.of(*padded)
        if padded != [height, width]:
            planes[:, :, height:], planes[:, :, :, width:] = 0, 0
        for plane, channel in zip(planes[0], self._planes.channels(small), strict=True):
            plane[:height, :width] = channel
        boxes, scores = decode_fcos(answers(self._session, self._outputs, {"input": planes}), self._score_threshold)
        return best_boxes(boxes / np.float32(scale), scores, self._score_threshold)


def decode_fcos(levels: Sequence[F32], score_threshold: float) -> tuple[F32, F32]:
    """Boxes (N, 4) in pixels and scores (N,) of all cells that score at least `score_threshold`, unsuppressed.

    `levels` are the outputs (1, 5, h, w) at `FCOS_STRIDES`: score logit, then log distances to left, top, right and
    bottom in strides.
    """
    low = _surely_below(score_threshold)
    said, centres, strides = [np.zeros((5, 0), np.float32)], [np.zeros((0, 2), np.float32)], [np.zeros(0, np.float32)]
    for stride, level in zip(FCOS_STRIDES, levels, strict=True):
        rows = level.reshape(5, -1)
        chosen = np.flatnonzero(rows[0] >= low)
        if len(chosen):
            said.append(rows[:, chosen])
            centres.append(cell_centres(*level.shape[2:], stride)[chosen])
            strides.append(np.full(len(chosen), stride, np.float32))
    answer, centre = np.concatenate(said, axis=1), np.concatenate(centres)
    score = 1 / (1 + np.exp(-np.minimum(np.maximum(answer[0], -_MAX_LOGIT), _MAX_LOGIT)))
    distance = np.exp(np.minimum(answer[1:].T, MAX_EXPONENT)) * np.concatenate(strides)[:, None]
    boxes = np.concatenate([centre - distance[:, :2], centre + distance[:, 2:]], axis=1)
    taken = score >= score_threshold
    return boxes[taken], score[taken]


@lru_cache(maxsize=16)
def _surely_below(score_threshold: float) -> float:
    """A logit that float32's rounding lifts to no score of `score_threshold`: below it none is worked out."""
    if not 0 < score_threshold < 1:
        return -np.inf
    return float(np.log(score_threshold / (1 - score_threshold))) - _LOGIT_MARGIN
