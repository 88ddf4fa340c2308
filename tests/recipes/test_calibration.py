"""Scores that are probabilities, and thresholds that held-back pictures choose."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import portraits
import pytest

pytest.importorskip("torch")

from ddfa_batch.schemas.errors import TrainingError
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks.files import images
from ddfa_batch.tasks.inference.face_finder import FaceCandidates
from recipes.builtin import reliability, thresholds
from recipes.builtin.calibration import Reliability, diagram, platt, scaled_head
from recipes.builtin.detector import without_faces
from recipes.builtin.detector.pictures import Layer, no_faces, points_in_box
from recipes.builtin.face_head import FaceHead
from recipes.builtin.thresholds import Look, outcome


def truths(odds: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=len(odds)) < 1 / (1 + np.exp(-odds))


def test_odds_that_are_too_sure_are_made_honest() -> None:
    honest = np.random.default_rng(0).normal(0, 2, 20000)
    is_face = truths(honest, 1)
    slope, offset = platt(3 * honest + 1, is_face)
    assert slope == pytest.approx(1 / 3, rel=0.05)
    assert offset == pytest.approx(-1 / 3, abs=0.05)
    before, after = (Reliability.of(1 / (1 + np.exp(-x)), is_face).error for x in (3 * honest + 1, honest))
    assert after < 0.01
    assert before > 0.1


def test_a_perfect_separation_keeps_a_finite_slope_and_one_kind_is_refused() -> None:
    odds = np.array([-3.0, -2, 2, 3])
    slope, _ = platt(odds, odds > 0)
    assert 0 < slope < 10
    with pytest.raises(TrainingError, match="both kinds"):
        platt(odds, np.ones(4, bool))


def test_the_calibration_is_folded_into_the_head() -> None:
    head = FaceHead(np.float32([[1, -2], [0, 1]]), np.float32([0, 1]), np.float32([1, -1]), 0.5, 1.5)
    features, detector = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([0.3, -0.7])
    scaled = scaled_head(head, 0.4, -0.2)
    np.testing.assert_allclose(scaled(features, detector), 0.4 * head(features, detector) - 0.2, rtol=1e-6)


def test_bins_count_boxes_and_faces(tmp_path: Path) -> None:
    scores = np.array([0.05, 0.95, 0.96, 1.0, 0.55])
    told = Reliability.of(scores, np.array([False, True, True, False, True]))
    assert told.boxes.tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert told.faces.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert told.error == pytest.approx((0.05 + 0.45 + abs(2.91 - 2)) / 5)
    assert "| 0.9–1.0 | 3 | 0.97 | 67% |" in told.table()
    diagram({"boxes": told}, tmp_path / "diagram.png")
    assert cv2.imread(str(tmp_path / "diagram.png")).std() > 0


# ------------------------------------------------------------------------------------------------------- thresholds


def candidates(*rows: tuple[float, float]) -> FaceCandidates:
    """Boxes of 40 pixels at an x with a score each, best first."""
    rows = tuple(sorted(rows, key=lambda row: -row[1]))
    boxes = np.array([[x, 20, x + 40, 60] for x, _ in rows], np.float32).reshape(-1, 4)
    n = len(rows)
    detections = Detections(boxes, np.array([score for _, score in rows], np.float32))
    return FaceCandidates(detections, boxes.astype(np.float64), np.zeros((n, 0, 0, 3), np.uint8), np.zeros((n, 62)))


PICTURE, PLACE = np.zeros((90, 200, 3), np.uint8), np.array([[10, 20, 50, 60]], np.float32)
FACE = Layer(PICTURE, points_in_box(PLACE), np.zeros(1, bool))
NOTHING = Layer(PICTURE, no_faces(), np.zeros(0, bool))


def seen(layer: Layer, upright: float, turned: float, lies: bool = False) -> Look:
    passes = [candidates((10, upright)), candidates(), candidates(), candidates((10, turned))]
    return Look(layer, tuple(passes), lies)


def test_the_least_score_bears_few_extra_boxes_and_no_more() -> None:
    looks = [seen(FACE, 0.9, 0.1)] * 150 + [seen(NOTHING, 0.45, 0.1)] * 49 + [seen(NOTHING, 0.7, 0.1)]
    assert thresholds.face_score(looks, 0.98) == pytest.approx(0.45)
    assert outcome(looks, [0.45] * 3, 0.98).extra == 1
    assert outcome(looks, [0.44] * 3, 0.98).extra == 50


def test_the_turned_pass_asks_for_more_where_it_is_often_wrong() -> None:
    good = [seen(FACE, 0.9, 0.1)] * 100 + [seen(FACE, 0.1, 0.97, lies=True)] * 20
    wrong = [seen(NOTHING, 0.1, 0.83)] * 5
    assert thresholds.turned_score(good, 0.5, 0.98) == pytest.approx(0.5)
    assert thresholds.turned_score(good + wrong, 0.5, 0.98) == pytest.approx(0.83)
    assert outcome(good + wrong, [0.5, 0.5, 0.5, 0.83], 0.98).found == 120


def test_a_lying_face_that_the_upright_pass_sees_a_little_is_to_be_seen_turned() -> None:
    looks = [seen(FACE, 0.96, 0.999, lies=True)] * 10 + [seen(FACE, 0.999, 0.9)] * 10
    assert outcome(looks, [0.5] * 4, 0.95).upright == 10
    assert outcome(looks, [0.5] * 4, 0.98).upright == 20
    assert thresholds.best_stop_score(looks, [0.5] * 4) == 0.97


# ------------------------------------------------------------------------------------------------------ reliability


def test_the_scores_that_are_judged_are_those_that_process_and_the_tracker_tell() -> None:
    image = images.decode(portraits.astronaut().read_bytes(), 10**8)
    find = without_faces.finder("builtin")
    seen_first = next(iter(find.passes(image))).detections
    layer = Layer(image, points_in_box(seen_first.boxes[:1]), np.zeros(1, bool))
    boxes = reliability.scored_boxes("builtin", [layer])
    assert boxes.is_face.sum() == 1
    np.testing.assert_allclose(boxes.together[boxes.is_face], seen_first.scores[:1], rtol=1e-4)
    assert len(boxes.alone) == len(boxes.is_face)
    assert float(boxes.alone[boxes.is_face][0]) > 0.5


def test_what_is_followed_is_told_in_words() -> None:
    odds = np.random.default_rng(0).normal(0, 2, 4000)
    scores = (1 / (1 + np.exp(-odds))).astype(np.float32)
    told = reliability.followed(reliability.ScoredBoxes(scores, scores, truths(odds, 2)))
    assert told.startswith("Half of the boxes that score 0.5")
    assert "Above 0.4:" in told
