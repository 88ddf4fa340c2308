"""What is a face: a detector's boxes as they are, further looks, heads that lean, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import small_model

from ddfa_batch.schemas.detectors import DetectionPass, Glance
from ddfa_batch.schemas.errors import BundleError, ImageError
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks.bundles.loaded_model import LoadedModel, loaded_model
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.geometry.boxes import overlap
from ddfa_batch.tasks.geometry.pose import in_plane_angle
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points, turned_pose
from ddfa_batch.tasks.inference.detectors import make_detector
from ddfa_batch.tasks.inference.face_finder import FaceCandidates, FaceFinder, best_pass
from ddfa_batch.tasks.inference.refinement import distinct_faces, refine, regress_faces
from ddfa_batch.tasks.inference.regressor import Regressor


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> LoadedModel:
    return loaded_model(str(bundle.folder), bundle.digest)


@pytest.fixture(scope="module")
def regress(model: LoadedModel, bundle: Bundle) -> Regressor:
    return Regressor(model.regressor, bundle.manifest)


def passes_at(*scales: float) -> tuple[DetectionPass, ...]:
    return tuple(DetectionPass(scale) for scale in scales)


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


def test_where_the_regressor_has_no_say_faces_are_the_detectors(
    model: LoadedModel, regress: Regressor, bundle: Bundle
) -> None:
    _, spec = bundle.detector(None)
    image = small_model.picture(3)
    expected = make_detector(spec, model.detector_session(spec), spec.score_threshold, None)(image)
    found = FaceFinder(spec, model.detector_session(spec), regress, spec.score_threshold)(image)
    assert len(found) == len(expected.scores) == 3
    np.testing.assert_array_equal(found.detections.boxes, expected.boxes)
    np.testing.assert_array_equal(found.rois, crop.roi_from_boxes(expected.boxes, spec.roi_scale, spec.roi_shift))
    np.testing.assert_array_equal(found.params, regress(found.crops))
    assert found.seconds > 0
    best = FaceFinder(spec, model.detector_session(spec), regress, spec.score_threshold)(image, 1)
    np.testing.assert_array_equal(best.detections.boxes, expected.boxes[:1])


def test_an_image_without_faces_is_looked_at_smaller(model: LoadedModel, regress: Regressor, bundle: Bundle) -> None:
    spec = replace(bundle.detector(None)[1], fit=(2000, 2000))
    image = np.kron(small_model.picture(3), np.ones((2, 2, 1), np.uint8))
    blind: Any = ShortSighted(model.detector_session(spec), image.shape[1] * 3 // 4)
    assert len(FaceFinder(spec, blind, regress, spec.score_threshold)(image)) == 0
    again = FaceFinder(replace(spec, passes=passes_at(1.0, 0.9, 0.5)), blind, regress, spec.score_threshold)(image)
    true = make_detector(spec, model.detector_session(spec), spec.score_threshold, None)(small_model.picture(3))
    assert len(again) == 3
    assert overlap(again.detections.boxes / 2, true.boxes).min() > 0.8  # boxes are in pixels of the image all the same
    assert again.crops.shape == (3, regress.size, regress.size, 3)
    np.testing.assert_array_equal(again.crops, crop.crops(image, again.rois, regress.size))  # of all its pixels


def test_a_second_pass_is_smaller_also_than_what_fits(model: LoadedModel, regress: Regressor, bundle: Bundle) -> None:
    _, spec = bundle.detector(None)
    height, width = small_model.picture(3).shape[:2]
    tight = replace(spec, fit=(height, width), passes=(*passes_at(1.0, 0.5, 0.25), DetectionPass(0.5, (180,))))
    image = np.kron(small_model.picture(3), np.ones((4, 4, 1), np.uint8))
    widths: list[int] = []

    class Watched(ShortSighted):
        def run(self, outputs: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
            widths.append(next(iter(given.values())).shape[3])
            return super().run(outputs, given)

    watched: Any = Watched(model.detector_session(spec), 0)
    assert len(FaceFinder(tight, watched, regress, spec.score_threshold)(image)) == 0
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

    def find(*passes: DetectionPass) -> FaceCandidates:
        session: Any = Sometimes(model.detector_session(spec), {when})
        more = replace(spec, passes=(DetectionPass(), *passes))
        return FaceFinder(more, session, regress, spec.score_threshold)(image)

    assert len(find()) == 0
    found = find(DetectionPass(rotations=(90, -90, 180)))
    expected = FaceFinder(spec, model.detector_session(spec), regress, spec.score_threshold)(upright)
    assert len(found) == len(expected) == 3
    height, width = image.shape[:2]

    def turned(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        there = {90: (y, height - x), -90: (width - y, x), 180: (width - x, height - y)}
        return np.stack(there[degrees], axis=-1)

    corners = turned(expected.detections.boxes.reshape(-1, 2, 2))
    lying = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    np.testing.assert_allclose(found.detections.boxes, lying)
    seen = turned(points(basis, regress(found.crops), expected.rois, regress.size))
    answer = points(basis, found.params, found.rois, regress.size)
    np.testing.assert_allclose(answer[..., :2], seen, atol=0.05)  # in the image as it is
    leans = np.degrees(in_plane_angle(regress.layout.pose(found.params)))
    assert np.abs((leans - degrees + 180) % 360 - 180).max() < 20


def test_the_pass_with_the_best_face_counts_and_a_sure_one_ends_them(
    model: LoadedModel, regress: Regressor, bundle: Bundle
) -> None:
    _, spec = bundle.detector(None)
    whole = next(FaceFinder(spec, model.detector_session(spec), regress, 0).passes(small_model.picture(3)))

    def one(*scores: float) -> FaceCandidates:
        rows = np.arange(len(scores))
        detections = Detections(whole.detections.boxes[rows], np.float32(scores))
        return replace(whole.take(rows), detections=detections, seconds=1.0)

    passes = [one(0.5), one(0.8, 0.6, 0.2), one(0.7), one(), one(0.9)]
    cases: list[tuple[float, float, list[float], int]] = [
        (0.3, 0.0, [0.5], 1),
        (0.3, 0.75, [0.8, 0.6], 2),
        (0.7, 0.0, [0.8], 2),
        (0.3, 0.85, [0.9], 5),
        (0.3, 0.99, [0.9], 5),
        (0.95, 0.0, [], 5),
    ]
    for threshold, stop_score, expected, seconds in cases:
        found = best_pass(iter(passes), [threshold] * 5, stop_score)
        np.testing.assert_allclose(found.detections.scores, expected, rtol=1e-6)
        assert found.seconds == seconds
    tied = best_pass([one(0.6), one(0.6, 0.5)], [0.3, 0.3], 0.9)
    assert len(tied) == 1  # the earlier of equals


def test_a_pass_may_ask_more_of_a_face_than_the_run_does(
    model: LoadedModel, regress: Regressor, bundle: Bundle
) -> None:
    _, spec = bundle.detector(None)
    lying = DetectionPass(rotations=(90, -90, 180), score_threshold=0.999)
    strict = replace(spec, passes=(DetectionPass(), lying))
    session = model.detector_session(spec)
    assert FaceFinder(strict, session, regress, spec.score_threshold).thresholds == (0.9, 0.999)
    assert FaceFinder(strict, session, regress, 0.9995).thresholds == (0.9995, 0.9995)
    best = [one_face(regress, score) for score in (0.95, 0.98)]
    assert best_pass(best, [0.9, 0.99], 1.0).best_score == pytest.approx(0.95)


@pytest.mark.parametrize(("above", "looks"), [(0.0, 1), (-0.1, 2)])
def test_a_pass_that_needs_doubt_is_made_where_something_may_be_a_face(
    model: LoadedModel, regress: Regressor, bundle: Bundle, above: float, looks: int
) -> None:
    _, spec = bundle.detector(None)
    image = small_model.picture(3)
    best = FaceFinder(spec, model.detector_session(spec), regress, 0)(image).best_score  # 1 or a rounding more
    session = Counted(model.detector_session(spec))
    doubtful = replace(spec, passes=(DetectionPass(), DetectionPass(doubt=min(best, 1.0) + above)), stop_score=1.0)
    finder = FaceFinder(doubtful, session.as_session(), regress, spec.score_threshold)
    first, second = finder.passes(image)
    assert session.runs == looks
    assert len(first) == 3
    assert (len(second) > 0) == (looks > 1)
    assert second.crops.shape[1:] == first.crops.shape[1:]  # what is not made is none, of the same shapes


# ------------------------------------------------------------------------------------------------------ a glance


class Counted:
    """A session that counts its runs and remembers how wide pictures were."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session, self.widths = session, list[int]()

    @property
    def runs(self) -> int:
        return len(self.widths)

    def as_session(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, outputs: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.widths.append(next(iter(given.values())).shape[3])
        return self._session.run(outputs, given)


def glancing(
    model: LoadedModel, regress: Regressor, bundle: Bundle, glance: Glance | None, **words: Any
) -> tuple[FaceFinder, Counted]:
    """A finder for large pictures with this glance."""
    spec = replace(bundle.detector(None)[1], fit=(2000, 2000), glance=glance, **words)
    session = Counted(model.detector_session(spec))
    return FaceFinder(spec, session.as_session(), regress, spec.score_threshold), session


def large_picture() -> np.ndarray:
    """Three faces in a picture of several times the small one's sides."""
    return np.kron(small_model.picture(3), np.ones((3, 3, 1), np.uint8))


def test_a_glance_that_shows_large_faces_for_sure_is_the_only_look(
    model: LoadedModel, regress: Regressor, bundle: Bundle
) -> None:
    image = large_picture()
    small = small_model.picture(3).shape[1]
    find, session = glancing(model, regress, bundle, Glance(small, 8, 0.3))
    found = find(image)
    assert session.widths == [small]
    assert len(found) == 3
    _, spec = bundle.detector(None)
    copy = FaceFinder(spec, model.detector_session(spec), regress, 0.9)(small_model.picture(3))
    assert overlap(found.detections.boxes / 3, copy.detections.boxes).min() > 0.8  # in pixels of the whole picture
    np.testing.assert_array_equal(found.crops, crop.crops(image, found.rois, regress.size))  # of all its pixels
    assert len(find(image, 1)) == 1


@pytest.mark.parametrize(
    ("glance", "stop_score", "what"),
    [
        (Glance(96, 500, 0.3), 0.0, "a face is small"),
        (Glance(96, 8, 0.3), 1.0, "none is sure"),
        (Glance(96, 500, 1.0), 0.0, "a face is small, though the detector would pass over it"),
    ],
)
def test_a_glance_that_leaves_doubt_changes_nothing(
    model: LoadedModel, regress: Regressor, bundle: Bundle, glance: Glance, stop_score: float, what: str
) -> None:
    image = large_picture()
    glance = replace(glance, longest_side=small_model.picture(3).shape[1])
    plain, plain_session = glancing(model, regress, bundle, None, stop_score=stop_score)
    find, session = glancing(model, regress, bundle, glance, stop_score=stop_score)
    expected, found = plain(image), find(image)
    assert session.widths == [glance.longest_side, *plain_session.widths], what
    for name in ("rois", "crops", "params"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_array_equal(found.detections.scores, expected.detections.scores)


def test_a_picture_hardly_larger_than_the_copy_is_not_glanced_at(
    model: LoadedModel, regress: Regressor, bundle: Bundle
) -> None:
    image = small_model.picture(3)
    longest = max(image.shape[:2])
    for side, runs in ((longest * 9 // 10, 1), (longest, 1), (2 * longest, 1)):
        find, session = glancing(model, regress, bundle, Glance(side, 8, 0.3))
        assert len(find(image)) == 3
        assert session.runs == runs
        assert session.widths[0] >= image.shape[1]


def one_face(regress: Regressor, score: float) -> FaceCandidates:
    """One candidate with this score."""
    box = np.array([[10, 10, 70, 70]], np.float32)
    detections = Detections(box, np.float32([score]))
    return regress_faces(small_model.picture(1), detections, box.astype(np.float64), regress)


def test_both_sides_give_a_face_once(model: LoadedModel, regress: Regressor, bundle: Bundle) -> None:
    _, spec = bundle.detector(None)

    session: Any = Sometimes(model.detector_session(spec), {2, 3})
    turned = replace(spec, passes=(DetectionPass(), DetectionPass(rotations=(90, -90))))
    found = FaceFinder(turned, session, regress, spec.score_threshold)(small_model.picture(4))
    assert len(found) == 4
    boxes = found.detections.boxes
    overlaps = overlap(boxes[:, None], boxes) - np.eye(4)
    assert overlaps.max() < 0.3


def test_a_second_pass_crops_heads_upright(model: LoadedModel, regress: Regressor) -> None:
    basis = PointBasis.of(model.morphable, model.morphable.landmarks)
    image, roi = small_model.picture(3), np.array([[20.0, 10, 140, 130]])
    first = regress_faces(image, Detections(roi.astype(np.float32), np.ones(1, np.float32)), roi, regress)
    leaning = replace(first, params=first.params.copy())
    leaning.params[:, :12] = turned_pose(regress.layout.pose(first.params), np.array([0.6]), regress.size).reshape(
        1, 12
    )
    leans = in_plane_angle(regress.layout.pose(leaning.params))
    assert leans[0] == pytest.approx(0.6 + in_plane_angle(regress.layout.pose(first.params))[0])
    second = refine(image, leaning, regress, basis)
    rois = crop.upright_rois(points(basis, leaning.params, roi, regress.size), leans)
    np.testing.assert_array_equal(second.rois, rois)
    np.testing.assert_array_equal(second.crops[0], crop.rotated_crop(image, rois[0], leans[0], regress.size))
    expected = turned_pose(regress.layout.pose(regress(second.crops)), leans, regress.size)
    np.testing.assert_allclose(regress.layout.pose(second.params), expected, rtol=1e-6)
    np.testing.assert_array_equal(second.params[:, 12:], regress(second.crops)[:, 12:])
    assert second.detections is leaning.detections


def test_a_network_that_does_not_tell_faces_is_not_asked(
    model: LoadedModel, regress: Regressor, bundle: Bundle
) -> None:
    spec = replace(bundle.detector(None)[1], detector_weight=1.0)
    with pytest.raises(BundleError, match=r"detectors/yunet.onnx has the regressor tell .* has no output 'face'"):
        FaceFinder(spec, model.detector_session(spec), regress, spec.score_threshold)


def test_given_boxes_are_all_faces(regress: Regressor) -> None:
    image = small_model.picture(0)
    boxes = np.array([[10, 10, 60, 70], [0, 0, 20, 20]], np.float32)
    given = Detections(boxes, np.ones(2, np.float32))
    found = regress_faces(image, given, crop.roi_from_boxes(boxes, 1.58, 0.14), regress)
    np.testing.assert_array_equal(found.detections.boxes, given.boxes)
    assert len(regress_faces(image, given.best(0), np.zeros((0, 4)), regress)) == 0


# ------------------------------------------------------------------------------------------ detections of one head


@pytest.fixture(scope="module")
def landmarks(model: LoadedModel) -> PointBasis:
    return PointBasis.of(model.morphable, model.morphable.landmarks)


def heads_at(regress: Regressor, *places: tuple[float, float, float]) -> FaceCandidates:
    """Heads of equal shape whose rois have these middles and sides, best first."""
    x, y, side = np.array(places).T
    rois = np.stack([x - side / 2, y - side / 2, x + side / 2, y + side / 2], axis=1)
    scores = np.linspace(1, 0.8, len(places)).astype(np.float32)
    params = np.tile(small_model.mean_params(), (len(places), 1))
    crops = np.zeros((len(places), regress.size, regress.size, 3), np.uint8)
    return FaceCandidates(Detections(rois.astype(np.float32), scores), rois, crops, params)


@pytest.mark.parametrize(
    ("places", "kept"),
    [
        ([(100, 100, 120)], [0]),
        ([(100, 100, 120), (104, 97, 125)], [0]),
        ([(100, 100, 120), (104, 97, 125), (300, 100, 120), (302, 98, 130), (98, 100, 118)], [0, 2]),
        ([(100, 100, 120), (160, 100, 120)], [0, 1]),  # cheek to cheek
        ([(100, 100, 120), (135, 100, 120)], [0, 1]),  # one behind the other
        ([(100, 100, 120), (100, 110, 40)], [0, 1]),  # a child's face before another
        ([(100, 100, 120), (118, 100, 120), (136, 100, 120)], [0, 2]),  # who is dropped drags nobody along
    ],
)
def test_faces_that_came_to_lie_on_one_head_are_one(
    regress: Regressor, landmarks: PointBasis, places: list[tuple[float, float, float]], kept: list[int]
) -> None:
    faces = heads_at(regress, *places)
    found = distinct_faces(faces, regress, landmarks)
    np.testing.assert_array_equal(found.rois, faces.rois[kept])
    np.testing.assert_array_equal(found.detections.scores, faces.detections.scores[kept])


def test_no_faces_stay_no_faces(regress: Regressor, landmarks: PointBasis) -> None:
    none = heads_at(regress, (1, 1, 1)).take(np.zeros(0, np.int64))
    assert len(distinct_faces(none, regress, landmarks)) == 0
    assert refine(small_model.picture(0), none, regress, landmarks, 3) is none


def test_refining_twice_is_refining_and_refining_again(regress: Regressor, landmarks: PointBasis) -> None:
    image, faces = small_model.picture(3), heads_at(regress, (100, 100, 120), (220, 110, 150))
    twice = refine(image, faces, regress, landmarks, 2)
    again = refine(image, refine(image, faces, regress, landmarks), regress, landmarks)
    np.testing.assert_array_equal(twice.params, again.params)
    np.testing.assert_array_equal(twice.rois, again.rois)
    assert refine(image, faces, regress, landmarks, 0) is faces


def test_a_network_that_answers_nonsense_fails_the_image(bundle: Bundle) -> None:
    class Broken:
        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name="input")]

        get_outputs = get_inputs

        def run(self, _: object, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.full((len(given["input"]), bundle.manifest.layout.size), np.nan, np.float32)]

    broken: Any = Broken()
    with pytest.raises(ImageError, match="numbers that are not finite"):
        Regressor(broken, bundle.manifest)(np.zeros((1, 120, 120, 3), np.uint8))
