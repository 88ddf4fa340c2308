"""Averaging with the mirror image, against doing so by hand."""

from __future__ import annotations

import numpy as np
import small_model

from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import Bundle, builtin_folder, load_bundle
from ddfa_batch.tasks.geometry.mirroring import FLIP68, MirrorMap
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points
from ddfa_batch.tasks.inference.refinement import refine, regress_faces, with_mirrored
from ddfa_batch.tasks.inference.regressor import Regressor

ROIS = np.array([[40.0, 30.0, 180.0, 170.0], [150.0, 60.0, 250.0, 160.0]])


def parts(bundle: Bundle) -> tuple[Regressor, PointBasis, MirrorMap]:
    model = loaded_model(str(bundle.folder), bundle.digest)
    mirror = MirrorMap.of(model.morphable, np.array(bundle.manifest.param_std)[12:])
    landmarks = PointBasis.of(model.morphable, model.morphable.landmarks)
    return Regressor(model.regressor, bundle.manifest), landmarks, mirror


def test_an_averaged_answer_is_that_of_the_mirror_image_mirrored() -> None:
    """The built-in network does not answer so of itself; averaged, it cannot answer otherwise."""
    regress, landmarks, mirror = parts(load_bundle(builtin_folder()))
    crops = np.random.default_rng(0).integers(0, 255, (4, 120, 120, 3), dtype=np.uint8)
    rois = np.tile([0.0, 0.0, 120.0, 120.0], (4, 1))
    flipped = np.ascontiguousarray(crops[:, :, ::-1])
    said, of_flipped = (with_mirrored(regress(c), c, regress, mirror) for c in (crops, flipped))
    seen, other = (points(landmarks, p, rois, 120) for p in (said, of_flipped))
    np.testing.assert_allclose(other[:, FLIP68, 0], 119 - seen[..., 0], atol=2e-3)
    np.testing.assert_allclose(other[:, FLIP68, 1], seen[..., 1], atol=2e-3)
    alone, of_flipped_alone = (points(landmarks, regress(c), rois, 120) for c in (crops, flipped))
    assert np.abs(of_flipped_alone[:, FLIP68, 0] - (119 - alone[..., 0])).max() > 0.1


def test_only_the_last_pass_is_averaged(bundle: Bundle) -> None:
    regress, landmarks, mirror = parts(bundle)
    image = small_model.picture(3)
    given = Detections(ROIS.astype(np.float32), np.ones(2, np.float32))
    begun = regress_faces(image, given, ROIS, regress)
    for times in (0, 1, 2):
        plain = refine(image, begun, regress, landmarks, times)
        averaged = refine(image, begun, regress, landmarks, times, mirror)
        np.testing.assert_array_equal(averaged.rois, plain.rois)
        np.testing.assert_array_equal(averaged.crops, plain.crops)
        assert np.abs(averaged.params - plain.params).max() > 1e-4


def test_without_a_pass_more_the_first_answer_is_averaged(bundle: Bundle) -> None:
    regress, landmarks, mirror = parts(bundle)
    image = small_model.picture(2)
    given = Detections(ROIS.astype(np.float32), np.ones(2, np.float32))
    begun = regress_faces(image, given, ROIS, regress)
    by_hand = (begun.params + mirror(regress(np.ascontiguousarray(begun.crops[:, :, ::-1])), 120)) / 2
    np.testing.assert_allclose(refine(image, begun, regress, landmarks, 0, mirror).params, by_hand, rtol=1e-6)


def test_no_faces_stay_none(bundle: Bundle) -> None:
    regress, landmarks, mirror = parts(bundle)
    image, given = small_model.picture(0), Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    none = regress_faces(image, given, np.zeros((0, 4)), regress)
    assert len(refine(image, none, regress, landmarks, 1, mirror)) == 0
