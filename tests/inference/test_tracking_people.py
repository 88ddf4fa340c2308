"""The built-in model follows four people through a film with exact labels, and through its broken looks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import moving_people
import numpy as np
import pytest
from moving_people import Film

from ddfa_batch.schemas.arrays import F64, Floats
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.geometry.reconstruct import PointBasis
from ddfa_batch.tasks.inference.face_finder import FaceFinder
from ddfa_batch.tasks.inference.face_observer import NetworkObserver
from ddfa_batch.tasks.inference.regressor import Regressor
from ddfa_batch.tasks.inference.track_state import TrackerOptions, TrackerState
from ddfa_batch.tasks.inference.tracker import advance

#: Frames by which a track may begin or end beside the truth.
_TOLERANCE = 2
#: A found face within this distance of a labelled one, in units of its size, is that one.
_SAME = 0.3


@dataclass(frozen=True)
class Result:
    """What came of the film, and what was true."""

    film: Film
    #: (frame, track, landmarks (68, 2)) of every row.
    rows: list[tuple[int, int, F64]]
    #: Landmarks (68, 2) of the faces that per-frame detection gives, by frame.
    detected: dict[int, list[F64]]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    bundle = find_bundle(BUILTIN, tmp_path_factory.mktemp("models"))
    model = loaded_model(str(bundle.folder), bundle.digest)
    regress = Regressor(model.regressor, bundle.manifest)
    _, spec = bundle.detector(None)
    finder = FaceFinder(spec, model.detector_session(spec), regress, spec.face_threshold)
    see = NetworkObserver(finder, regress, PointBasis.of(model.morphable, model.morphable.landmarks))
    film = moving_people.film(see, model.morphable)
    state, rows, detected = TrackerState(), [], {}
    for number, image in enumerate(film.images):
        state, found = advance(state, image, see, TrackerOptions(), search=number == len(film.images) - 1)
        landmarks = found.faces.landmarks[..., :2].astype(np.float64)
        rows += list(zip(found.frame.tolist(), found.track_id.tolist(), landmarks, strict=True))
        detected[number] = list(see.detect(image).landmarks[..., :2].astype(np.float64))
    return Result(film, rows, detected)


def distances(found: Floats, labels: Floats) -> F64:
    """Mean distance, in sizes of a face (68, 2), from each labelled one (people, 68, 2); inf where there is none."""
    size = np.sqrt(np.prod(np.ptp(found, axis=0)))
    away = np.linalg.norm(labels - found, axis=-1).mean(axis=-1) / size
    return np.where(np.isnan(away), np.inf, away)


def people_of_tracks(result: Result) -> dict[int, list[tuple[int, int]]]:
    """Person (-1 where nobody is labelled) and frame of every row of each track, in order."""
    people = defaultdict(list)
    for frame, track, landmarks in sorted(result.rows, key=lambda row: row[:2]):
        away = distances(landmarks, result.film.landmarks[frame])
        people[track].append((int(np.argmin(away)) if away.min() < _SAME else -1, frame))
    return dict(people)


def test_each_person_has_one_track_between_coming_and_going(result: Result) -> None:
    tracks = people_of_tracks(result)
    found = []
    for rows in tracks.values():
        people = {person for person, _ in rows} - {-1}
        assert len(people) == 1, "a track is nobody's, or changed persons"
        frames = [frame for _, frame in rows]
        assert frames == list(range(frames[0], frames[-1] + 1)), "a gap"
        found.append((people.pop(), frames[0], frames[-1]))
    expected = result.film.appearances()
    for (person, first, last), (true_person, true_first, true_last) in zip(sorted(found), expected, strict=True):
        assert person == true_person
        assert abs(first - true_first) <= _TOLERANCE
        assert abs(last - true_last) <= _TOLERANCE


def test_a_person_is_nowhere_twice(result: Result) -> None:
    assert len({row[:2] for row in result.rows}) == len(result.rows)
    for frame in range(len(result.film.images)):
        owners = [
            int(np.argmin(distances(landmarks, result.film.landmarks[frame])))
            for number, _, landmarks in result.rows
            if number == frame and distances(landmarks, result.film.landmarks[frame]).min() < _SAME
        ]
        assert len(owners) == len(set(owners))


def test_followed_faces_are_as_near_to_their_labels_as_detected_ones(result: Result) -> None:
    followed, detected = [], []
    for frame, labels in enumerate(result.film.landmarks):
        mine = [landmarks for number, _, landmarks in result.rows if number == frame]
        for person in np.flatnonzero(np.isfinite(labels[:, 0, 0])):
            errors = [
                min((float(distances(face, labels)[person]) for face in faces), default=np.inf)
                for faces in (mine, result.detected[frame])
            ]
            if max(errors) < _SAME:
                followed.append(errors[0])
                detected.append(errors[1])
    assert len(detected) > 0.95 * np.isfinite(result.film.landmarks[:, :, 0, 0]).sum()
    assert np.mean(followed) <= 1.05 * np.mean(detected)
