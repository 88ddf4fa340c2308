"""The tracker: one face one track, from where it comes into view to where it leaves, whatever the others do."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scripted_faces import SIDE, ScriptedObserver, face_at, frame

from ddfa_batch.schemas.arrays import F64, U8
from ddfa_batch.tasks.inference.face_observer import FaceObserver, ObservedFaces
from ddfa_batch.tasks.inference.scene_cuts import correlation, is_cut, scene_thumbnail
from ddfa_batch.tasks.inference.track_state import TrackerOptions, TrackerState
from ddfa_batch.tasks.inference.tracker import advance

OPTIONS = TrackerOptions()
EVERY = OPTIONS.detect_every


@dataclass(frozen=True)
class Followed:
    """Frames of each track, and the middle of its face in each."""

    frames: dict[int, list[int]]
    middles: dict[int, list[np.ndarray]]
    state: TrackerState


def follow(see: FaceObserver, n: int, options: TrackerOptions = OPTIONS, cuts: tuple[int, ...] = ()) -> Followed:
    state, rows = TrackerState(), []
    for number in range(n):
        image = frame(number, scene=sum(number >= cut for cut in cuts))
        state, found = advance(state, image, see, options, search=number == n - 1)
        for row in range(len(found)):
            middle = found.faces.landmarks[row, :, :2].mean(axis=0)
            rows.append((int(found.track_id[row]), int(found.frame[row]), middle))
    assert len({row[:2] for row in rows}) == len(rows), "a face came out twice"
    frames, middles = defaultdict(list), defaultdict(list)
    for track, number, middle in sorted(rows, key=lambda row: row[:2]):
        frames[track].append(number)
        middles[track].append(middle)
    return Followed(dict(frames), dict(middles), state)


def still_face(_: int) -> dict[str, tuple[float, float]]:
    return {"a": (80, 60)}


def test_a_face_is_searched_for_only_now_and_then() -> None:
    see = ScriptedObserver(still_face)
    assert follow(see, 35).frames == {0: list(range(35))}
    assert see.searches == [0, EVERY, 2 * EVERY, 3 * EVERY, 34]


@pytest.mark.parametrize("comes", range(1, 2 * EVERY))
def test_a_face_that_comes_between_two_searches_is_known_from_its_first_frame(comes: int) -> None:
    def script(t: int) -> dict[str, tuple[float, float]]:
        return {"a": (80, 60), **({"b": (140, 60 + t / 2)} if t >= comes else {})}

    followed = follow(ScriptedObserver(script), 35)
    assert followed.frames == {0: list(range(35)), 1: list(range(comes, 35))}


@pytest.mark.parametrize("goes", range(1, 2 * EVERY))
def test_a_face_that_goes_has_its_last_frame(goes: int) -> None:
    followed = follow(ScriptedObserver(lambda t: {"a": (80, 60)} if t < goes else {}), 35)
    assert followed.frames == {0: list(range(goes))}
    assert not followed.state.live
    assert not followed.state.lost


def test_a_face_that_comes_back_soon_keeps_its_track_and_has_a_gap() -> None:
    away = range(12, 12 + OPTIONS.patience - 3)
    followed = follow(ScriptedObserver(lambda t: {} if t in away else {"a": (80, 60)}), 40)
    assert followed.frames == {0: [t for t in range(40) if t not in away]}


def test_a_face_that_comes_back_late_is_another() -> None:
    away = range(12, 12 + OPTIONS.patience + EVERY + 1)
    followed = follow(ScriptedObserver(lambda t: {} if t in away else {"a": (80, 60)}), 60)
    assert followed.frames == {0: list(range(12)), 1: list(range(away.stop, 60))}


@pytest.mark.parametrize("apart", [1.1, 1.5, 2.5])
@pytest.mark.parametrize("speed", [1.0, 3.0, 7.0])
def test_faces_that_pass_each_other_keep_their_tracks(apart: float, speed: float) -> None:
    def script(t: int) -> dict[str, tuple[float, float]]:
        return {"a": (20 + speed * t, 60), "b": (20 + speed * 40 - speed * t, 60 + apart * SIDE)}

    followed = follow(ScriptedObserver(script), 40)
    assert set(followed.frames) == {0, 1}
    for middles, name in zip(followed.middles.values(), "ab", strict=True):
        expected = [face_at(*script(t)[name])[:, :2].mean(axis=0) for t in range(40)]
        assert np.allclose(middles, expected, atol=1e-3)


def test_two_tracks_never_share_a_face() -> None:
    """One of two faces vanishes behind the other: its track ends there, and the other's goes on."""

    def script(t: int) -> dict[str, tuple[float, float]]:
        b = {"b": (140 - 4 * t, 62.0)} if t < 12 else {}
        return {"a": (80, 60), **b}

    followed = follow(ScriptedObserver(script), 30)
    assert followed.frames[0] == list(range(30))
    assert followed.frames[1][-1] <= 13
    assert np.abs(np.array(followed.middles[0])[:, 0] - followed.middles[0][0][0]).max() < 1


def test_what_the_detector_overlooks_is_followed_still() -> None:
    see = ScriptedObserver(still_face)
    state, _ = advance(TrackerState(), frame(0), see, OPTIONS)
    see.overlooked = {"a"}
    for number in range(1, 35):
        state, found = advance(state, frame(number), see, OPTIONS)
        assert found.track_id.tolist() == [0]


def test_a_face_no_search_confirms_is_given_up_where_the_regressor_cannot_tell() -> None:
    see, options = ScriptedObserver(still_face), TrackerOptions(unconfirmed=1)
    state, _ = advance(TrackerState(), frame(0), see, options)
    see.overlooked = {"a"}
    for number in range(1, 3 * EVERY):
        state, _ = advance(state, frame(number), see, options)
    assert not state.live


def test_a_cut_ends_the_tracks_of_whoever_stands_elsewhere_then() -> None:
    def script(t: int) -> dict[str, tuple[float, float]]:
        return {"a": (40, 60)} if t < 13 else {"b": (120, 60)}

    see = ScriptedObserver(script)
    assert follow(see, 20, cuts=(13,)).frames == {0: list(range(13)), 1: list(range(13, 20))}
    assert 13 in see.searches


def test_a_cut_to_another_head_in_the_same_place_begins_a_track() -> None:
    """The scripted observer looks at no pixels; the tracker's own comparison of heads does."""
    followed = follow(ScriptedObserver(still_face), 20, cuts=(13,))
    assert followed.frames == {0: list(range(13)), 1: list(range(13, 20))}


def test_a_change_of_size_is_a_cut() -> None:
    see = ScriptedObserver(still_face)
    state, _ = advance(TrackerState(), frame(0), see, OPTIONS)
    larger = np.repeat(np.repeat(frame(1), 2, axis=0), 2, axis=1)
    _, found = advance(state, larger, see, OPTIONS)
    assert see.searches == [0, 1]
    assert len(found) == 1


def test_a_state_is_not_changed_by_what_comes_after() -> None:
    see = ScriptedObserver(lambda t: {"a": (40 + 2 * t, 60)})
    state, _ = advance(TrackerState(), frame(0), see, OPTIONS)
    first = advance(state, frame(1), see, OPTIONS)[1]
    again = advance(state, frame(1), see, OPTIONS)[1]
    assert np.array_equal(first.faces.landmarks, again.faces.landmarks)


def test_the_past_that_is_kept_is_short() -> None:
    see = ScriptedObserver(lambda t: {})
    state = TrackerState()
    for number in range(100):
        state, found = advance(state, frame(number), see, OPTIONS)
        assert len(state.past) <= EVERY
        assert len(found) == 0


@pytest.mark.parametrize("change", ["brighter", "shifted"])
def test_what_is_no_cut(change: str) -> None:
    image = frame(0)
    other = np.clip(image.astype(int) + 60, 0, 255).astype(np.uint8) if change == "brighter" else np.roll(image, 3, 1)
    assert not is_cut(scene_thumbnail(image), scene_thumbnail(other))


def test_a_cut_is_one() -> None:
    assert is_cut(scene_thumbnail(frame(0)), scene_thumbnail(frame(0, scene=1)))


def test_pictures_without_contrast_correlate_where_they_are_equal() -> None:
    flat = np.full((4, 4), 7, np.float32)
    assert (correlation(flat, flat), correlation(flat, flat + np.eye(4, dtype=np.float32))) == (1.0, 0.0)


def test_a_face_lost_and_detected_in_one_frame_goes_on_whatever_its_head_looks_like() -> None:
    """The regressor fails on one frame, where half of the head is dark; the detector does not."""

    class Failing(ScriptedObserver):
        def follow(self, image: U8, rois: F64, angles: F64, first: ObservedFaces | None = None) -> ObservedFaces:
            seen = super().follow(image, rois, angles, first)
            return replace(seen, scores=seen.scores * 0) if image[0, 0, 0] == 7 else seen

    see, state, ids = Failing(still_face), TrackerState(), []
    for number in range(10):
        image = frame(number)
        if number == 7:
            image[40:80, 80:100] = 0
        state, found = advance(state, image, see, OPTIONS)
        ids += found.track_id.tolist()
    assert ids == [0] * 10
    assert 7 in see.searches
