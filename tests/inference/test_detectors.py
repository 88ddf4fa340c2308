"""Detectors: priors, decoding and suppression against slow twins; anchor-free decoding against pictures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import ceil

import numpy as np
import onnxruntime as ort
import pytest
import small_model
import upstream_files

from ddfa_batch.schemas.detectors import FCOS_STRIDES, DetectorSpec
from ddfa_batch.tasks.bundles import onnx_graphs
from ddfa_batch.tasks.geometry.boxes import non_maximum_suppression
from ddfa_batch.tasks.inference.detector_io import scaled_to_fit
from ddfa_batch.tasks.inference.detectors import Detector, make_detector
from ddfa_batch.tasks.inference.faceboxes import faceboxes_priors
from ddfa_batch.tasks.inference.fcos import cell_centres, decode_fcos

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


def slow_faceboxes(net: ort.InferenceSession, image: np.ndarray, score_threshold: float) -> np.ndarray:
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
    kept = [i for i in slow_nms(boxes, scores, 0.3, 1.0) if scores[i] > score_threshold]
    return np.concatenate([boxes[kept], scores[kept, None]], axis=1)


def test_faceboxes_decodes_as_upstream_does() -> None:
    net = session(onnx_graphs.faceboxes(upstream_files.faceboxes_weights(RNG)))
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


FCOS = DetectorSpec("fcos", "f.onnx", 0.5, (640, 640))


@pytest.mark.parametrize("n", [0, 1, 3, 6])
def test_fcos_finds_what_the_picture_shows(n: int) -> None:
    found = make_detector(FCOS, session(small_model.fcos_detector()), 0.5, None)(small_model.picture(n))
    assert len(found.scores) == n
    np.testing.assert_allclose(found.boxes[:, 2:] - found.boxes[:, :2], small_model.FACE, rtol=1e-4)
    corners = {(32, 32), (160, 32), (288, 32), (32, 160), (160, 160), (288, 160)}
    assert {tuple(np.round(b[:2]).astype(int)) for b in found.boxes} <= corners


def test_fcos_sees_nothing_of_the_picture_before() -> None:
    detect = make_detector(FCOS, session(small_model.fcos_detector()), 0.5, None)
    assert len(detect(small_model.picture(6)).scores) == 6
    empty = np.zeros((250, 380, 3), np.uint8)  # padded to the same planes
    assert len(detect(empty).scores) == 0
    assert len(detect(empty[:33, :1]).scores) == 0


def test_fcos_boxes_are_those_of_the_full_picture_when_a_copy_is_scaled() -> None:
    large = np.kron(small_model.picture(1), np.ones((4, 4, 1), np.uint8))
    found = make_detector(FCOS, session(small_model.fcos_detector()), 0.5, 384)(large)
    np.testing.assert_allclose(found.boxes, [[128, 128, 384, 384]], atol=2)


def random_levels(height: int, width: int) -> list[np.ndarray]:
    return [RNG.normal(size=(1, 5, -(-height // s), -(-width // s))).astype(np.float32) for s in FCOS_STRIDES]


def test_fcos_decodes_as_cell_by_cell() -> None:
    levels = random_levels(96, 160)
    boxes, scores = decode_fcos(levels, 0.6)
    expected = []
    for stride, level in zip(FCOS_STRIDES, levels, strict=True):
        for i, j in product(*map(range, level.shape[2:])):
            logit, *log_distances = level[0, :, i, j].astype(float)
            score = 1 / (1 + np.exp(-logit))
            if score >= 0.6:
                left, top, right, bottom = np.exp(log_distances) * stride
                x, y = (j + 0.5) * stride, (i + 0.5) * stride
                expected.append((x - left, y - top, x + right, y + bottom, score))
    assert len(expected) > 50
    np.testing.assert_allclose(np.column_stack([boxes, scores]), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("box", [(10.0, 20, 40, 52), (0, 0, 300, 200), (-30, -10, 35, 44)])
def test_a_box_that_is_encoded_and_decoded_is_that_box(box: tuple[float, ...]) -> None:
    levels = [np.full_like(level, -30) for level in random_levels(256, 320)]
    for stride, level in zip(FCOS_STRIDES, levels, strict=True):
        h, w = level.shape[2:]
        centres = cell_centres(h, w, stride)
        inside = ((centres > box[:2]) & (centres < box[2:])).all(axis=1)
        distances = np.concatenate([centres[inside] - box[:2], box[2:] - centres[inside]], axis=1) / stride
        level.reshape(5, -1)[0, inside] = 3.0
        level.reshape(5, -1)[1:, inside] = np.log(distances).T
    boxes, scores = decode_fcos(levels, 0.5)
    assert len(boxes) > 4
    np.testing.assert_allclose(boxes, np.tile(box, (len(boxes), 1)), atol=1e-3)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-3.0)), rtol=1e-6)


class Answers:
    """Stands for a session that answers the same whatever it is shown."""

    def __init__(self, levels: list[np.ndarray]) -> None:
        self._levels = levels

    def run(self, outputs: list[str], _: object) -> list[np.ndarray]:
        assert outputs == [f"level_{s}" for s in FCOS_STRIDES]
        return self._levels


@pytest.mark.parametrize("score_threshold", [0.0, 0.5, 1.0])
def test_fcos_bears_whatever_a_broken_network_answers(score_threshold: float) -> None:
    levels = random_levels(128, 128)
    for level in levels:
        rows = level.reshape(5, -1)
        for i, bad in enumerate((np.nan, np.inf, -np.inf, 1e30, -1e30)):
            rows[i, RNG.random(rows.shape[1]) < 0.5] = bad
            rows[0, RNG.random(rows.shape[1]) < 0.2] = bad
    found = make_detector(FCOS, Answers(levels), score_threshold, None)(np.zeros((128, 128, 3), np.uint8))  # type: ignore[arg-type]
    assert np.isfinite(found.boxes).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert ((found.scores > score_threshold) & (found.scores <= 1)).all()


def detector(kind: str) -> Detector:
    """A detector of this kind whose network really answers to the picture."""
    networks = {
        "faceboxes": onnx_graphs.faceboxes(upstream_files.faceboxes_weights(np.random.default_rng(3))),
        "yunet": small_model.detector(),
        "fcos": small_model.fcos_detector(),
    }
    return make_detector(DetectorSpec(kind, "d.onnx", 0.5, (640, 640)), session(networks[kind]), 0.5, None)


@pytest.mark.parametrize("kind", ["faceboxes", "yunet", "fcos"])
def test_threads_that_share_a_detector_find_what_one_finds(kind: str) -> None:
    detect = detector(kind)
    pictures = [small_model.picture(i % 7, seed=i, size=[(256, 384), (224, 384)][i // 40]) for i in range(80)]
    alone = [detect(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(detect, pictures))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)


def slow_decoding(levels: list[np.ndarray], threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """`decode_fcos` with the score of every cell worked out."""
    boxes, scores = [], []
    for stride, level in zip(FCOS_STRIDES, levels, strict=True):
        rows = level.reshape(5, -1)
        score = 1 / (1 + np.exp(-np.clip(rows[0], -60, 60)))
        chosen = np.flatnonzero(score >= threshold)
        centre = cell_centres(*level.shape[2:], stride)[chosen]
        distance = np.exp(np.minimum(rows[1:, chosen].T, 5.0)) * np.float32(stride)
        boxes.append(np.concatenate([centre - distance[:, :2], centre + distance[:, 2:]], axis=1))
        scores.append(score[chosen])
    return np.concatenate(boxes).astype(np.float32), np.concatenate(scores).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.6, 0.999999, 1.0])
def test_scores_that_are_not_worked_out_are_below_the_threshold(threshold: float) -> None:
    levels = [RNG.normal(0, 4, (1, 5, 96 // s, 64 // s)).astype(np.float32) for s in FCOS_STRIDES]
    if 0 < threshold < 1:  # many cells within rounding of the threshold
        edge = np.float32(np.log(threshold / (1 - threshold)))
        levels[0][0, 0] = edge + RNG.integers(-50, 50, levels[0].shape[2:]) * np.spacing(edge)
    for fast, slow in zip(decode_fcos(levels, threshold), slow_decoding(levels, threshold), strict=True):
        np.testing.assert_array_equal(fast, slow)
