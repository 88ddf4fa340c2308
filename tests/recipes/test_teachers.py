"""Well-known detectors as teachers: how their boxes become the landmarks', and when they agree."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from ddfa_batch.schemas.arrays import U8
from recipes.builtin.detector.pictures import Layer, points_in_box
from recipes.builtin.detector.teachers import agreed, at_scales, conversion, converted, retinaface

BOX = np.array([[30.0, 20, 90, 100]], np.float32)


def layers() -> list[Layer]:
    return [Layer(np.zeros((120, 120, 3), np.uint8), points_in_box(BOX + shift), np.zeros(1, bool)) for shift in (0, 4)]


def test_a_teachers_boxes_become_those_of_the_landmarks() -> None:
    """A teacher whose boxes are a tenth wider and lie higher is corrected."""
    shifts = iter((0, 4))

    def wide_and_high(image: U8) -> tuple[np.ndarray, np.ndarray]:
        box = BOX + next(shifts) + 40  # it sees a border of 40 pixels
        return box + np.array([[-3, -7, 3, -7]]), np.ones(1)

    how = conversion(wide_and_high, layers())
    np.testing.assert_allclose(converted(BOX + np.array([[-3, -7, 3, -7]]), how), BOX, atol=1e-3)


def test_teachers_that_agree_add_their_scores() -> None:
    found = {
        "one": (np.array([[0.0, 0, 40, 40], [200, 200, 240, 240]]), np.array([0.9, 0.7])),
        "other": (np.array([[2.0, 2, 42, 42]]), np.array([0.8])),
    }
    boxes, votes = agreed(found)
    np.testing.assert_allclose(votes, [1.7, 0.7])
    np.testing.assert_allclose(boxes[0], np.average([[0, 0, 40, 40], [2, 2, 42, 42]], axis=0, weights=[0.9, 0.8]))


def test_a_face_found_at_two_scales_is_one() -> None:
    def find(image: U8) -> tuple[np.ndarray, np.ndarray]:
        return BOX * (image.shape[0] / 120), np.array([0.5 + image.shape[0] / 1000])

    boxes, scores = at_scales(find, np.zeros((120, 120, 3), np.uint8), (0.01, 0.5, 1, 2))
    np.testing.assert_allclose(boxes, BOX, atol=1e-4)
    assert scores.tolist() == pytest.approx([0.74])


def test_retinaface_answers_its_priors_where_offsets_are_nought() -> None:
    n = 2 * (8 * 8 + 4 * 4 + 2 * 2)
    conf = np.zeros((1, n, 2), np.float32)
    conf[0, 2 * 64 + 2 * 5, 1] = 0.9  # stride 16, row 1, column 1, the smaller side, 64

    class Net:
        def run(self, _: object, planes: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, None]:
            assert planes["input"].shape == (1, 3, 64, 64)
            return np.zeros((1, n, 4), np.float32), conf, None

    boxes, scores = retinaface(Net(), np.zeros((64, 64, 3), np.uint8), 0.3)  # type: ignore[arg-type]
    np.testing.assert_allclose(boxes, [[24 - 32, 24 - 32, 24 + 32, 24 + 32]], atol=1e-3)
    np.testing.assert_allclose(scores, [0.9])
