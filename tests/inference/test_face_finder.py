"""What is a face: a detector's boxes as they are, further looks, heads that lean, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import small_model

from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks.bundles.model_bundle import Bundle, LoadedModel, loaded_model
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.geometry.pose import lean
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points, turned_pose
from ddfa_batch.tasks.inference.detectors import make_detector
from ddfa_batch.tasks.inference.face_finder import Finder, Sighted, look, look_again, surest
from ddfa_batch.tasks.inference.regressor import Regressor


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> LoadedModel:
    return loaded_model(str(bundle.folder), bundle.digest)


@pytest.fixture(scope="module")
def regress(model: LoadedModel, bundle: Bundle) -> Regressor:
    return Regressor(model.regressor, bundle.manifest)


class ShortSighted:
    """A session that sees nothing in a picture wider than so many pixels."""

    def __init__(self, session: ort.InferenceSession, widest: int) -> None:
        self._session, self._widest = session, widest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, outputs: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        (planes,) = given.values()
        answers = self._session.run(outputs, given)
        return answers if planes.shape[3] <= self._widest else [np.zeros_like(answer) for answer in answers]


def test_without_trust_faces_are_the_detectors(model: LoadedModel, regress: Regressor, bundle: Bundle) -> None:
    _, spec = bundle.detector(None)
    image = small_model.picture(3)
    expected = make_detector(spec, model.detector_session(spec), spec.min_score, None)(image)
    sighted = Finder(spec, model.detector_session(spec), regress, spec.min_score)(image)
    assert len(sighted) == len(expected.scores) == 3
    np.testing.assert_array_equal(sighted.found.boxes, expected.boxes)
    np.testing.assert_array_equal(sighted.rois, crop.roi_from_boxes(expected.boxes, spec.roi_scale, spec.roi_shift))
    np.testing.assert_array_equal(sighted.params, regress(sighted.crops))
    assert sighted.seconds > 0
    best = Finder(spec, model.detector_session(spec), regress, spec.min_score)(image, 1)
    np.testing.assert_array_equal(best.found.boxes, expected.boxes[:1])


def test_an_image_without_faces_is_looked_at_again_smaller(
    model: LoadedModel, regress: Regressor, bundle: Bundle
) -> None:
    spec = replace(bundle.detector(None)[1], fit=(2000, 2000))
    image = np.kron(small_model.picture(3), np.ones((2, 2, 1), np.uint8))
    blind: Any = ShortSighted(model.detector_session(spec), image.shape[1] * 3 // 4)
    assert len(Finder(spec, blind, regress, spec.min_score)(image)) == 0
    again = Finder(replace(spec, again=(0.9, 0.5)), blind, regress, spec.min_score)(image)
    true = make_detector(spec, model.detector_session(spec), spec.min_score, None)(small_model.picture(3))
    assert len(again) == 3
    assert crop.overlap(again.found.boxes / 2, true.boxes).min() > 0.8  # boxes are in pixels of the image all the same
    assert again.crops.shape == (3, regress.size, regress.size, 3)
    np.testing.assert_array_equal(again.crops, crop.crops(image, again.rois, regress.size))  # of all its pixels


def test_a_second_look_is_smaller_also_than_what_fits(model: LoadedModel, regress: Regressor, bundle: Bundle) -> None:
    _, spec = bundle.detector(None)
    height, width = small_model.picture(3).shape[:2]
    tight = replace(spec, fit=(height, width), again=(0.5, 0.25), turned=(180,))
    image = np.kron(small_model.picture(3), np.ones((4, 4, 1), np.uint8))
    widths: list[int] = []

    class Watched(ShortSighted):
        def run(self, outputs: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
            widths.append(next(iter(given.values())).shape[3])
            return super().run(outputs, given)

    watched: Any = Watched(model.detector_session(spec), 0)
    assert len(Finder(tight, watched, regress, spec.min_score)(image)) == 0
    assert widths == [width, width // 2, -(-width // 128) * 32, width // 2]


class Sometimes:
    """A session that sees only at some of its runs."""

    def __init__(self, session: ort.InferenceSession, seeing: set[int]) -> None:
        self._session, self._seeing, self._runs = session, seeing, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, outputs: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        answers = self._session.run(outputs, given)
        self._runs += 1
        return answers if self._runs in self._seeing else [np.zeros_like(answer) for answer in answers]


@pytest.mark.parametrize(("when", "degrees"), [(2, 90), (3, -90), (4, 180)])
def test_where_no_head_is_upright_heads_that_lie_are_looked_for(
    model: LoadedModel, regress: Regressor, bundle: Bundle, when: int, degrees: int
) -> None:
    _, spec = bundle.detector(None)
    upright = small_model.picture(3)
    image = np.ascontiguousarray(np.rot90(upright, degrees // 90))  # counter-clockwise
    basis = PointBasis.of(model.morphable, model.morphable.landmarks)

    def find(*turned: int) -> Sighted:
        session: Any = Sometimes(model.detector_session(spec), {when})
        return Finder(replace(spec, turned=turned), session, regress, spec.min_score)(image)

    assert len(find()) == 0
    found = find(90, -90, 180)
    expected = Finder(spec, model.detector_session(spec), regress, spec.min_score)(upright)
    assert len(found) == len(expected) == 3
    height, width = image.shape[:2]

    def turned(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        there = {90: (y, height - x), -90: (width - y, x), 180: (width - x, height - y)}
        return np.stack(there[degrees], axis=-1)

    corners = turned(expected.found.boxes.reshape(-1, 2, 2))
    lying = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    np.testing.assert_allclose(found.found.boxes, lying)
    seen = turned(points(basis, regress(found.crops), expected.rois, regress.size))
    answer = points(basis, found.params, found.rois, regress.size)
    np.testing.assert_allclose(answer[..., :2], seen, atol=0.05)  # in the image as it is
    leans = np.degrees(lean(regress.layout.pose(found.params)))
    assert np.abs((leans - degrees + 180) % 360 - 180).max() < 20


def test_the_look_with_the_best_face_counts_and_a_sure_one_ends_them(
    model: LoadedModel, regress: Regressor, bundle: Bundle
) -> None:
    _, spec = bundle.detector(None)
    whole = next(Finder(spec, model.detector_session(spec), regress, 0).looks(small_model.picture(3)))

    def look(*scores: float) -> Sighted:
        rows = np.arange(len(scores))
        return replace(whole.take(rows), found=Detections(whole.found.boxes[rows], np.float32(scores)), seconds=1.0)

    looks = [look(0.5), look(0.8, 0.6, 0.2), look(0.7), look(), look(0.9)]
    for min_score, sure, expected, seconds in [
        (0.3, 0.0, [0.5], 1), (0.3, 0.75, [0.8, 0.6], 2), (0.7, 0.0, [0.8], 2), (0.3, 0.85, [0.9], 5),
        (0.3, 0.99, [0.9], 5), (0.95, 0.0, [], 5),
    ]:  # fmt: skip
        found = surest(iter(looks), min_score, sure)
        np.testing.assert_allclose(found.found.scores, expected, rtol=1e-6)
        assert found.seconds == seconds
    tied = surest([look(0.6), look(0.6, 0.5)], 0.3, 0.9)
    assert len(tied) == 1  # the earlier of equals


def test_both_sides_give_a_face_once(model: LoadedModel, regress: Regressor, bundle: Bundle) -> None:
    _, spec = bundle.detector(None)

    session: Any = Sometimes(model.detector_session(spec), {2, 3})
    found = Finder(replace(spec, turned=(90, -90)), session, regress, spec.min_score)(small_model.picture(4))
    assert len(found) == 4
    boxes = found.found.boxes
    overlaps = crop.overlap(boxes[:, None], boxes) - np.eye(4)
    assert overlaps.max() < 0.3


def test_a_second_pass_crops_heads_upright(model: LoadedModel, regress: Regressor) -> None:
    basis = PointBasis.of(model.morphable, model.morphable.landmarks)
    image, roi = small_model.picture(3), np.array([[20.0, 10, 140, 130]])
    first = look(image, Detections(roi.astype(np.float32), np.ones(1, np.float32)), roi, regress)
    leaning = replace(first, params=first.params.copy())
    leaning.params[:, :12] = turned_pose(regress.layout.pose(first.params), np.array([0.6]), regress.size).reshape(
        1, 12
    )
    leans = lean(regress.layout.pose(leaning.params))
    assert leans[0] == pytest.approx(0.6 + lean(regress.layout.pose(first.params))[0])
    second = look_again(image, leaning, regress, basis)
    rois = crop.upright_rois(points(basis, leaning.params, roi, regress.size), leans)
    np.testing.assert_array_equal(second.rois, rois)
    np.testing.assert_array_equal(second.crops[0], crop.turned(image, rois[0], leans[0], regress.size))
    expected = turned_pose(regress.layout.pose(regress(second.crops)), leans, regress.size)
    np.testing.assert_allclose(regress.layout.pose(second.params), expected, rtol=1e-6)
    np.testing.assert_array_equal(second.params[:, 12:], regress(second.crops)[:, 12:])
    assert second.found is leaning.found


def test_a_network_that_does_not_tell_faces_is_not_asked(
    model: LoadedModel, regress: Regressor, bundle: Bundle
) -> None:
    spec = replace(bundle.detector(None)[1], trust=1.0)
    with pytest.raises(BundleError, match=r"detectors/yunet.onnx has the regressor tell .* has no output 'face'"):
        Finder(spec, model.detector_session(spec), regress, spec.min_score)


def test_given_boxes_are_all_faces(regress: Regressor) -> None:
    image = small_model.picture(0)
    boxes = np.array([[10, 10, 60, 70], [0, 0, 20, 20]], np.float32)
    found = Detections(boxes, np.ones(2, np.float32))
    sighted = look(image, found, crop.roi_from_boxes(boxes, 1.58, 0.14), regress)
    np.testing.assert_array_equal(sighted.found.boxes, found.boxes)
    assert len(look(image, found.best(0), np.zeros((0, 4)), regress)) == 0
