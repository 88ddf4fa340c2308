"""Well-known detectors, which label what nobody has labelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.tasks.bundles import onnx_graphs
from ddfa_batch.tasks.bundles.checkpoints import read_arrays
from ddfa_batch.tasks.geometry.boxes import non_maximum_suppression, overlap
from ddfa_batch.tasks.inference.detectors import Detector, make_detector
from recipes.builtin.detector.pictures import (
    Layer,
    boxes_of,
    scaled,
)

Boxes = np.ndarray
#: Boxes (N, 4) and scores (N,) of a picture.
Teacher = Callable[[U8], tuple[Boxes, np.ndarray]]
#: Black pixels around a crop, so that a face that fills it can be found.
_BORDER = 40
#: RetinaFace's strides, pixels, and the sides of the anchors at each.
_RETINAFACE_ANCHORS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))


def session(content: bytes) -> ort.InferenceSession:
    """A network of one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def teachers(shared: Path) -> dict[str, Teacher]:
    """Detectors that label what nobody has labelled: boxes (N, 4) and scores (N,) of a picture, each."""
    upstream = shared / "upstream"
    weights = read_arrays(upstream / "3DDFA_V2/FaceBoxes/weights/FaceBoxesProd.pth")
    nets = {
        "faceboxes": (onnx_graphs.faceboxes(weights), "faceboxes"),
        "yunet_s": ((upstream / "yunet/yunet_s_dynamic.onnx").read_bytes(), "yunet"),
    }
    found: dict[str, Teacher] = {}
    for name, (content, kind) in nets.items():
        detector = make_detector(DetectorSpec(kind, "", 0.3, (4000, 4000)), session(content), 0.3, None)

        found[name] = partial(_boxes_and_scores, detector)
    net = session((upstream / "retinaface/retinaface_mbnet0.25.onnx").read_bytes())
    found["retinaface"] = lambda image: retinaface(net, image, 0.3)
    return found


def _boxes_and_scores(detector: Detector, image: U8) -> tuple[Boxes, np.ndarray]:
    faces = detector(image)
    return faces.boxes, faces.scores


def retinaface(net: ort.InferenceSession, image: U8, min_score: float) -> tuple[Boxes, np.ndarray]:
    """RetinaFace (Deng et al., 2019) with MobileNet ×0.25: its anchors and decoding."""
    h, w = image.shape[:2]
    planes = (image.astype(np.float32) - (104, 117, 123)).transpose(2, 0, 1)[None].astype(np.float32)
    loc, conf, _ = net.run(None, {"input": planes})
    anchors = [
        ((j + 0.5) * step / w, (i + 0.5) * step / h, side / w, side / h)
        for step, sides in _RETINAFACE_ANCHORS
        for i, j in product(range(ceil(h / step)), range(ceil(w / step)))
        for side in sides
    ]
    priors = np.array(anchors)
    chosen = conf[0, :, 1] > min_score
    p, d, scores = priors[chosen], loc[0, chosen], conf[0, chosen, 1]
    centre, half = p[:, :2] + d[:, :2] * 0.1 * p[:, 2:], p[:, 2:] * np.exp(d[:, 2:] * 0.2) / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1) * (w, h, w, h)
    kept = non_maximum_suppression(boxes.astype(np.float32), scores, 0.4)
    return boxes[kept], scores[kept]


def bordered(image: U8, border: int) -> U8:
    """The picture with so many black pixels around it."""
    return np.asarray(cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_CONSTANT), np.uint8)


def at_scales(find: Teacher, image: U8, scales: Sequence[float]) -> tuple[Boxes, np.ndarray]:
    """What `find` finds on the picture at several scales, suppressed builtin_model_finder."""
    boxes, scores = [], []
    for scale in scales:
        if not 32 <= max(image.shape[:2]) * scale <= 2200:
            continue
        found, score = find(scaled(image, scale) if scale != 1 else image)
        boxes.append(np.asarray(found, np.float64).reshape(-1, 4) / scale)
        scores.append(score)
    every, score = np.concatenate(boxes), np.concatenate(scores)
    kept = non_maximum_suppression(every.astype(np.float32), score, 0.4)
    return every[kept], score[kept]


def conversion(find: Teacher, layers: Sequence[Layer]) -> np.ndarray:
    """The matrix (4, 4) from a detector's box to the landmarks': of (cx, cy, w, h) in units of its own size.

    Least squares over the faces of `layers` that it finds.
    """
    theirs, ours = [], []
    for layer in layers:
        boxes, _ = find(bordered(layer.image, _BORDER))
        true = boxes_of(layer.points[:1]) + _BORDER
        if len(boxes) and (best := overlap(np.asarray(boxes), true)).max() > 0.45:
            theirs.append(boxes[best.argmax()])
            ours.append(true[0])
    a, b = np.array(theirs), np.array(ours)
    size = (a[:, 2:] - a[:, :2]).mean(axis=1, keepdims=True)
    offset = ((b[:, :2] + b[:, 2:]) - (a[:, :2] + a[:, 2:])) / 2 / size
    ratio = (b[:, 2:] - b[:, :2]) / (a[:, 2:] - a[:, :2])
    return np.concatenate([np.median(offset, axis=0), np.median(ratio, axis=0)])


def converted(boxes: Boxes, how: np.ndarray) -> Boxes:
    """A detector's boxes (N, 4) as the landmarks' boxes; `how` of `conversion`."""
    size = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + how[:2] * size.mean(axis=1, keepdims=True)
    return np.concatenate([centre - size * how[2:] / 2, centre + size * how[2:] / 2], axis=1)


def agreed(found: dict[str, tuple[Boxes, np.ndarray]]) -> tuple[Boxes, np.ndarray]:
    """Boxes (N, 4) of all teachers builtin_model_finder, and the sum of the scores (N,) of those that agree on each."""
    boxes = np.concatenate([b for b, _ in found.values()])
    scores = np.concatenate([s for _, s in found.values()])
    teacher = np.concatenate([np.full(len(s), i) for i, (_, s) in enumerate(found.values())])
    merged, votes = [], []
    left = np.argsort(-scores)
    while len(left):
        near = overlap(boxes[left[:1]], boxes[left]) > 0.4
        group = left[near]
        best = [group[teacher[group] == t][0] for t in np.unique(teacher[group])]
        merged.append(np.average(boxes[best], axis=0, weights=scores[best]))
        votes.append(scores[best].sum())
        left = left[~near]
    return np.array(merged).reshape(-1, 4), np.array(votes)
