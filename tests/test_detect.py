"""Detectors: priors, decoding and suppression against slow twins; YuNet's decoding against pictures."""

from __future__ import annotations

from itertools import product
from math import ceil

import numpy as np
import onnxruntime as ort
import pytest
import small_model
import upstream_files

from ddfa_batch.schemas.bundle import DetectorSpec
from ddfa_batch.tasks import networks
from ddfa_batch.tasks.detect import (
    faceboxes_priors,
    make_detector,
    non_maximum_suppression,
    scaled_to_fit,
)

RNG = np.random.default_rng(3)


def session(model: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def slow_priors(height: int, width: int) -> np.ndarray:
    """FaceBoxes.PyTorch's PriorBox, loop by loop."""
    anchors: list[float] = []
    for (sizes, step), _ in zip((((32, 64, 128), 32), ((256,), 64), ((512,), 128)), range(3), strict=True):
        for i, j in product(range(ceil(height / step)), range(ceil(width / step))):
            for side in sizes:
                offsets = {32: (0, 0.25, 0.5, 0.75), 64: (0, 0.5)}.get(side, (0.5,))
                for dy, dx in product(offsets, offsets):
                    anchors += [(j + dx) * step / width, (i + dy) * step / height, side / width, side / height]
    return np.array(anchors).reshape(-1, 4)


@pytest.mark.parametrize("shape", [(450, 450), (720, 1080), (100, 37), (33, 129)])
def test_priors_are_those_of_the_loops(shape: tuple[int, int]) -> None:
    np.testing.assert_allclose(faceboxes_priors(*shape), slow_priors(*shape), rtol=1e-6)


def slow_nms(boxes: np.ndarray, scores: np.ndarray, iou: float, plus: float) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        for j in kept:
            w = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]) + plus
            h = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]) + plus
            shared = max(w, 0) * max(h, 0)
            area = [(boxes[k, 2] - boxes[k, 0] + plus) * (boxes[k, 3] - boxes[k, 1] + plus) for k in (i, j)]
            if shared / (sum(area) - shared) >= iou:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("plus", [0.0, 1.0])
@pytest.mark.parametrize("n", [0, 1, 2, 200])
def test_suppression_is_the_greedy_one(n: int, plus: float) -> None:
    corner = RNG.uniform(0, 300, (n, 2))
    boxes = np.concatenate([corner, corner + RNG.uniform(10, 120, (n, 2))], axis=1)
    scores = RNG.uniform(size=n)
    assert non_maximum_suppression(boxes, scores, 0.3, plus).tolist() == slow_nms(boxes, scores, 0.3, plus)


def test_suppression_bears_thousands_of_boxes_on_one_spot() -> None:
    boxes = np.tile(np.array([[10.0, 10, 50, 50]]), (20_000, 1))
    assert non_maximum_suppression(boxes, RNG.uniform(size=20_000), 0.3).size == 1


@pytest.mark.parametrize(
    ("shape", "fitted"), [((450, 450), (450, 450)), ((1440, 900), (720, 450)), ((500, 4320), (125, 1080))]
)
def test_pictures_are_scaled_down_to_fit_and_never_up(shape: tuple[int, int], fitted: tuple[int, int]) -> None:
    small, scale = scaled_to_fit(np.zeros((*shape, 3), np.uint8), (720, 1080))
    assert small.shape[:2] == fitted
    assert scale == pytest.approx(fitted[0] / shape[0])


def slow_faceboxes(net: ort.InferenceSession, image: np.ndarray, min_score: float) -> np.ndarray:
    """Upstream's FaceBoxes.__call__ for a picture that needs no scaling, step by step."""
    h, w = image.shape[:2]
    x = (np.float32(image) - (104, 117, 123)).transpose(2, 0, 1)[None].astype(np.float32)
    loc, conf = net.run(["boxes", "scores"], {"input": x})
    priors = slow_priors(h, w)
    centre = priors[:, :2] + loc[0, :, :2] * 0.1 * priors[:, 2:]
    size = priors[:, 2:] * np.exp(loc[0, :, 2:] * 0.2)
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1) * (w, h, w, h)
    keep = np.flatnonzero(conf[0] > 0.05)
    boxes, scores = boxes[keep], conf[0][keep]
    kept = [i for i in slow_nms(boxes, scores, 0.3, 1.0) if scores[i] > min_score]
    return np.concatenate([boxes[kept], scores[kept, None]], axis=1)


def test_faceboxes_decodes_as_upstream_does() -> None:
    net = session(networks.faceboxes(upstream_files.faceboxes_weights(RNG)))
    image = RNG.integers(0, 255, (150, 260, 3)).astype(np.uint8)
    spec = DetectorSpec("faceboxes", "f.onnx", 0.5, (720, 1080))
    found = make_detector(spec, net, 0.5, None)(image)
    expected = slow_faceboxes(net, image, 0.5)
    assert len(expected) > 3
    np.testing.assert_allclose(found.boxes, expected[:, :4], atol=2e-2)
    np.testing.assert_allclose(found.scores, expected[:, 4], atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 3, 6])
def test_yunet_finds_what_the_picture_shows(n: int) -> None:
    spec = DetectorSpec("yunet", "y.onnx", 0.9, (640, 640))
    found = make_detector(spec, session(small_model.detector()), 0.9, None)(small_model.picture(n))
    assert len(found.scores) == n
    np.testing.assert_allclose(found.boxes[:, 2:] - found.boxes[:, :2], small_model.FACE, rtol=1e-4)
    corners = {(32, 32), (160, 32), (288, 32), (32, 160), (160, 160), (288, 160)}
    assert {tuple(np.round(b[:2]).astype(int)) for b in found.boxes} <= corners


def test_boxes_are_those_of_the_full_picture_when_a_copy_is_scaled() -> None:
    spec = DetectorSpec("yunet", "y.onnx", 0.7, (640, 640))
    large = np.kron(small_model.picture(1), np.ones((4, 4, 1), np.uint8))
    found = make_detector(spec, session(small_model.detector()), 0.7, 384)(large)
    np.testing.assert_allclose(found.boxes, [[128, 128, 384, 384]], atol=2)
