"""Face boxes of an image: what a detector is, and the one that a bundle describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import onnxruntime as ort

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks.inference.faceboxes import FaceBoxes
from ddfa_batch.tasks.inference.fcos import Fcos
from ddfa_batch.tasks.inference.yunet import YuNet


class Detector(Protocol):
    """Finds the faces of one image (H, W, 3) BGR; boxes in its pixels, best first, above a score threshold."""

    def __call__(self, image: U8, pass_scale: float = 1.0) -> Detections:
        """Return the faces; the image is looked at `pass_scale` times as large as it is, or as fits."""
        ...


#: The class of each of `DETECTOR_KINDS`.
_KINDS: Mapping[str, type[FaceBoxes | YuNet | Fcos]] = {"faceboxes": FaceBoxes, "yunet": YuNet, "fcos": Fcos}


def make_detector(
    spec: DetectorSpec, session: ort.InferenceSession, score_threshold: float, longest_side: int | None
) -> Detector:
    """The detector of a bundle. `longest_side` replaces the size its spec scales pictures down to."""
    fit = (longest_side, longest_side) if longest_side else spec.fit
    return _KINDS[spec.kind](session, score_threshold, fit)
