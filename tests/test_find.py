"""What is a face: a detector's boxes as they are, the second look, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import small_model

from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks import crop
from ddfa_batch.tasks.detect import make_detector
from ddfa_batch.tasks.find import Finder, look
from ddfa_batch.tasks.models import Bundle, LoadedModel, loaded_model
from ddfa_batch.tasks.regress import Regressor


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
    tight = replace(spec, fit=(height, width), again=(0.5, 0.25))
    image = np.kron(small_model.picture(3), np.ones((4, 4, 1), np.uint8))
    widths: list[int] = []

    class Watched(ShortSighted):
        def run(self, outputs: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
            widths.append(next(iter(given.values())).shape[3])
            return super().run(outputs, given)

    watched: Any = Watched(model.detector_session(spec), 0)
    assert len(Finder(tight, watched, regress, spec.min_score)(image)) == 0
    assert widths == [width, width // 2, -(-width // 128) * 32]


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
    sighted = look(image, found, regress, 1.58, 0.14)
    np.testing.assert_array_equal(sighted.found.boxes, found.boxes)
    assert len(look(image, found.best(0), regress, 1.58, 0.14)) == 0
