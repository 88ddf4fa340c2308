"""`process` follows four people through a film with exact labels: in one go, and over seams by two workers."""

from __future__ import annotations

from pathlib import Path

import moving_people
import numpy as np
import people_judged
import pytest
from command_line import call
from dask_clusters import Cluster
from moving_people import Film
from people_judged import Rows

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.geometry.reconstruct import PointBasis
from ddfa_batch.tasks.inference.face_finder import FaceFinder
from ddfa_batch.tasks.inference.face_observer import NetworkObserver
from ddfa_batch.tasks.inference.regressor import Regressor

pytestmark = pytest.mark.filterwarnings("default")

#: Frames by which a track may begin or end beside the truth.
_TOLERANCE = 2
#: Frames of a shard: of 160, so that six seams lie where people walk, pass each other, come in and go out.
_SHARD = 23


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    bundle = find_bundle(BUILTIN, tmp_path_factory.mktemp("models"))
    model = loaded_model(str(bundle.folder), bundle.digest)
    regress = Regressor(model.regressor, bundle.manifest)
    _, spec = bundle.detector(None)
    finder = FaceFinder(spec, model.detector_session(spec), regress, spec.face_threshold)
    see = NetworkObserver(finder, regress, PointBasis.of(model.morphable, model.morphable.landmarks))
    return moving_people.film(see, model.morphable)


@pytest.fixture(scope="module")
def clip(film: Film, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_people.write(film, tmp_path_factory.mktemp("film") / "people.mp4")


def rows_of(clip: Path, out: Path, *words: object) -> Rows:
    answer = call("process", clip, out, "--vertices", "none", "--quiet", *words, model="builtin")
    assert answer.code == 0, answer.stderr
    return Rows.of(open_run(out).faces())


@pytest.fixture(scope="module")
def detected(clip: Path, tmp_path_factory: pytest.TempPathFactory, two_workers: Cluster) -> Rows:
    return rows_of(clip, tmp_path_factory.mktemp("detected") / "out", "--no-track", "--scheduler", two_workers.file)


@pytest.fixture(scope="module", params=["in one go", "over seams"])
def followed(
    request: pytest.FixtureRequest, clip: Path, tmp_path_factory: pytest.TempPathFactory, two_workers: Cluster
) -> Rows:
    words = {
        "in one go": ("--scheduler", "in-process", "--shard-size", 1000),
        "over seams": ("--scheduler", two_workers.file, "--shard-size", _SHARD),
    }
    return rows_of(clip, tmp_path_factory.mktemp("followed") / "out", *words[request.param])


def test_each_person_has_one_track_between_coming_and_going(film: Film, followed: Rows) -> None:
    found = []
    for rows in people_judged.whose_frames(film, followed).values():
        people = {person for person, _ in rows} - {-1}
        assert len(people) == 1, "a track is nobody's, or changed persons"
        frames = [frame for _, frame in rows]
        assert frames == list(range(frames[0], frames[-1] + 1)), "a gap"
        found.append((people.pop(), frames[0], frames[-1]))
    for (person, first, last), (true_person, true_first, true_last) in zip(
        sorted(found), film.appearances(), strict=True
    ):
        assert person == true_person
        assert abs(first - true_first) <= _TOLERANCE
        assert abs(last - true_last) <= _TOLERANCE


def test_a_person_is_nowhere_twice(film: Film, followed: Rows) -> None:
    people = people_judged.people(film, followed)
    seen = [pair for pair in zip(followed.frame.tolist(), people.tolist(), strict=True) if pair[1] >= 0]
    assert len(set(seen)) == len(seen)


def test_followed_faces_are_as_near_to_their_labels_as_detected_ones(
    film: Film, followed: Rows, detected: Rows
) -> None:
    mine, theirs = (people_judged.errors(film, rows) for rows in (followed, detected))
    both = np.isfinite(mine) & np.isfinite(theirs)
    assert both.sum() > 0.95 * np.isfinite(film.landmarks[:, :, 0, 0]).sum()
    assert mine[both].mean() <= 1.05 * theirs[both].mean()


def test_with_few_frames_a_second_each_appearance_still_is_one_track(film: Film, clip: Path, tmp_path: Path) -> None:
    tracks = people_judged.whose_frames(film, rows_of(clip, tmp_path / "out", "--fps", 8))
    whose = [{person for person, _ in rows} - {-1} for rows in tracks.values()]
    assert all(len(people) == 1 for people in whose)
    assert sorted(people.pop() for people in whose) == [person for person, _, _ in film.appearances()]
