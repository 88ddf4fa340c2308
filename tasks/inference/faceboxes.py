"""FaceBoxes (Zhang et al., IJCB 2017), the official release's detector, as that runs it."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import cv2
import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks.inference.detector_io import InputPlanes, best_boxes, scaled_to_fit
from ddfa_batch.tasks.inference.network_answers import answers

#: Mean BGR that FaceBoxes was trained with, and its variances of centre and size (FaceBoxes.PyTorch).
_MEAN = tuple(np.array([mean, 0.0, 0.0, 0.0]) for mean in (104.0, 117.0, 123.0))
_VARIANCE = (0.1, 0.2)
#: (stride, [(anchor side, offsets within a cell)]) of each of FaceBoxes' three heads.
_HEADS: tuple[tuple[int, tuple[tuple[int, tuple[float, ...]], ...]], ...] = (
    (32, ((32, (0.0, 0.25, 0.5, 0.75)), (64, (0.0, 0.5)), (128, (0.5,)))),
    (64, ((256, (0.5,)),)),
    (128, ((512, (0.5,)),)),
)


@lru_cache(maxsize=64)
def faceboxes_priors(height: int, width: int) -> F32:
    """Anchors (N, 4) of FaceBoxes for an input of height × width: centre x, y and size, relative to it."""
    rows: list[F32] = []
    for stride, anchors in _HEADS:
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

    def __init__(self, session: ort.InferenceSession, score_threshold: float, fit: tuple[int, int]) -> None:
        self._session, self._score_threshold, self._fit = session, score_threshold, fit
        self._planes = InputPlanes()

    def __call__(self, image: U8, pass_scale: float = 1.0) -> Detections:
        """Return the faces of `image`."""
        small, scale = scaled_to_fit(image, self._fit, pass_scale)
        height, width = small.shape[:2]
        planes = self._planes.of(height, width)
        for plane, channel, mean in zip(planes[0], self._planes.channels(small), _MEAN, strict=True):
            cv2.subtract(channel, mean, plane, dtype=cv2.CV_32F)
        offsets, all_scores = answers(self._session, ["boxes", "scores"], {"input": planes})
        # Upstream suppresses all candidates above 0.05 and drops the weak ones after; a weaker box never
        # suppresses a stronger one, so dropping them before gives the same faces.
        chosen = np.flatnonzero(all_scores[0] > self._score_threshold)
        priors, offset = faceboxes_priors(height, width)[chosen], offsets[0, chosen]
        centre = priors[:, :2] + offset[:, :2] * np.float32(_VARIANCE[0]) * priors[:, 2:]
        half = priors[:, 2:] * np.exp(offset[:, 2:] * np.float32(_VARIANCE[1])) / 2
        size = np.array([width, height, width, height], np.float32)
        boxes = np.concatenate([centre - half, centre + half], axis=1) * size / np.float32(scale)
        return best_boxes(boxes, all_scores[0, chosen], self._score_threshold, plus_one=1.0)
