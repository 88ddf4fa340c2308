"""What the networks see of a frame: detection is `process`'s own, and following agrees with it."""

from __future__ import annotations

import numpy as np
import pytest
import small_model

from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.geometry.mirroring import MirrorMap
from ddfa_batch.tasks.geometry.reconstruct import PointBasis
from ddfa_batch.tasks.inference.face_finder import FaceFinder
from ddfa_batch.tasks.inference.face_observer import NetworkObserver, sigmoid
from ddfa_batch.tasks.inference.refinement import refine
from ddfa_batch.tasks.inference.regressor import Regressor


@pytest.fixture
def parts(bundle: Bundle) -> tuple[FaceFinder, Regressor, PointBasis]:
    model = loaded_model(str(bundle.folder), bundle.digest)
    regress = Regressor(model.regressor, bundle.manifest)
    _, spec = bundle.detector(None)
    finder = FaceFinder(spec, model.detector_session(spec), regress, spec.face_threshold)
    return finder, regress, PointBasis.of(model.morphable, model.morphable.landmarks)


def test_detection_is_that_of_stills(parts: tuple[FaceFinder, Regressor, PointBasis]) -> None:
    finder, regress, landmarks = parts
    image = small_model.picture(3)
    seen = NetworkObserver(*parts).detect(image)
    still = refine(image, finder(image), regress, landmarks)
    assert len(seen) == 3
    assert np.array_equal(seen.params, still.params)
    assert np.array_equal(seen.rois, still.rois)


def test_following_with_the_roi_of_a_refinement_gives_its_answer(
    parts: tuple[FaceFinder, Regressor, PointBasis],
) -> None:
    see, image = NetworkObserver(*parts), small_model.picture(2)
    first = see.detect(image)
    angles = see.angles(first)
    followed = see.follow(image, crop.upright_rois(first.landmarks, angles), angles)
    again = NetworkObserver(*parts, refine=2).detect(image)
    assert np.allclose(followed.params, again.params, atol=1e-5)
    assert np.allclose(followed.landmarks, again.landmarks, atol=1e-3)


def test_two_equal_looks_are_one(parts: tuple[FaceFinder, Regressor, PointBasis]) -> None:
    see, image = NetworkObserver(*parts), small_model.picture(2)
    faces = see.detect(image)
    angles = see.angles(faces)
    once = see.follow(image, faces.rois, angles)
    twice = see.follow(image, faces.rois, angles, once)
    assert np.allclose(once.landmarks, twice.landmarks, atol=1e-3)


def test_the_mean_of_two_looks_lies_between_them(parts: tuple[FaceFinder, Regressor, PointBasis]) -> None:
    see, image = NetworkObserver(*parts), small_model.picture(1)
    faces = see.detect(image)
    angles, other = see.angles(faces), faces.rois + np.array([3.0, -2.0, 5.0, 0.0])
    first, second = see.follow(image, other, angles), see.follow(image, faces.rois, angles)
    both = see.follow(image, faces.rois, angles, first)
    assert np.allclose(both.landmarks, (first.landmarks + second.landmarks) / 2, atol=0.2)


def test_a_network_that_tells_no_faces_scores_by_agreement(parts: tuple[FaceFinder, Regressor, PointBasis]) -> None:
    see, image = NetworkObserver(*parts), small_model.picture(1)
    faces = see.detect(image)
    angles = see.angles(faces)
    (there,) = see.follow(image, crop.upright_rois(faces.landmarks, angles), angles).scores
    (beside,) = see.follow(image, faces.rois * 3, angles).scores
    assert 0 <= beside <= 1
    assert there > 0.5


def test_no_faces_have_the_shapes_of_some(parts: tuple[FaceFinder, Regressor, PointBasis]) -> None:
    see = NetworkObserver(*parts)
    none, followed = see.none(), see.follow(small_model.picture(0), np.zeros((0, 4)), np.zeros(0))
    for faces in (none, followed):
        assert len(faces) == 0
        assert faces.params.shape == (0, 62)
        assert faces.landmarks.shape == (0, 68, 3)


def test_scores_are_finite_whatever_the_odds() -> None:
    assert sigmoid(np.array([-1e9, 0.0, 1e9])).tolist() == pytest.approx([0, 0.5, 1])


def test_detected_faces_may_be_averaged_with_their_mirror_images(
    parts: tuple[FaceFinder, Regressor, PointBasis], bundle: Bundle
) -> None:
    finder, regress, landmarks = parts
    model = loaded_model(str(bundle.folder), bundle.digest)
    mirror = MirrorMap.of(model.morphable, np.array(bundle.manifest.param_std)[12:])
    image = small_model.picture(2)
    seen = NetworkObserver(*parts, mirror=mirror).detect(image)
    still = refine(image, finder(image), regress, landmarks, mirror=mirror)
    assert np.array_equal(seen.params, still.params)
    assert not np.array_equal(seen.params, NetworkObserver(*parts).detect(image).params)
