"""The YuNet family of detectors (Wu, Peng and Yu, 2023)."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.detectors import YUNET_STRIDES
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks.inference.detector_io import best_boxes, scaled_to_fit
from ddfa_batch.tasks.inference.network_answers import answers

#: Sides of the network's pictures are multiples of this.
_MULTIPLE = 32


class YuNet:
    """The YuNet family (Wu, Peng and Yu, 2023): anchor-free heads at strides 8, 16 and 32."""

    def __init__(self, session: ort.InferenceSession, score_threshold: float, fit: tuple[int, int]) -> None:
        self._session, self._score_threshold, self._fit = session, score_threshold, fit
        self._outputs = [f"{part}_{stride}" for part in ("cls", "obj", "bbox") for stride in YUNET_STRIDES]
        self._input = session.get_inputs()[0].name

    def __call__(self, image: U8, pass_scale: float = 1.0) -> Detections:
        """Return the faces of `image`."""
        small, scale = scaled_to_fit(image, self._fit, pass_scale)
        height, width = (-(-side // _MULTIPLE) * _MULTIPLE for side in small.shape[:2])
        planes = np.zeros((1, 3, height, width), np.float32)
        for plane, channel in zip(planes[0], cv2.split(small), strict=True):
            plane[: small.shape[0], : small.shape[1]] = channel
        found = dict(zip(self._outputs, answers(self._session, self._outputs, {self._input: planes}), strict=True))
        boxes, scores = [], []
        for stride in YUNET_STRIDES:
            confidence = np.clip(found[f"cls_{stride}"], 0, 1) * np.clip(found[f"obj_{stride}"], 0, 1)
            score = np.sqrt(confidence.reshape(-1))
            chosen = np.flatnonzero(score >= self._score_threshold)
            box = found[f"bbox_{stride}"].reshape(-1, 4)[chosen]
            cell = np.stack([chosen % (width // stride), chosen // (width // stride)], axis=1)
            centre, half = (cell + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride / 2
            boxes.append(np.concatenate([centre - half, centre + half], axis=1))
            scores.append(score[chosen])
        all_boxes = (np.concatenate(boxes) / scale).astype(np.float32)
        return best_boxes(all_boxes, np.concatenate(scores).astype(np.float32), self._score_threshold)
