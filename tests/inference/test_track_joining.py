"""Segments followed apart are one video: the same tracks as if followed in one go; and what is said of each."""

from __future__ import annotations

import numpy as np
import pytest
from scripted_faces import ScriptedObserver, face_at, frame

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.tasks.files.video_files import segments
from ddfa_batch.tasks.inference.heads import HEAD_SIZE
from ddfa_batch.tasks.inference.track_joining import Seam, SeamFaces, SegmentTracks, join_tracks, summarise_tracks
from ddfa_batch.tasks.inference.track_matching import assign, duplicates
from ddfa_batch.tasks.inference.track_state import TrackerOptions, TrackerState
from ddfa_batch.tasks.inference.tracker import advance

N = 60


def script(t: int) -> dict[str, tuple[float, float]]:
    """One stays, one crosses its way, one comes and goes, one is away for a moment, at whichever seam that is."""
    faces = {"stays": (120.0, 90.0), "passes": (20 + 3.0 * t, 35.0)}
    if 17 <= t < 44:
        faces["comes"] = (40.0, 95.0)
    if not 28 <= t < 32:
        faces["blinks"] = (200.0, 80.0)
    return faces


Rows = list[tuple[int, int, float]]


def run(first: int, stop: int, last: bool) -> tuple[Rows, SegmentTracks]:
    """Follow a segment, and the next one's first frame with it."""
    see, state, parts = ScriptedObserver(script), TrackerState(), []
    for number in range(first, stop if last else stop + 1):
        end = number == stop - last
        state, found = advance(state, frame(number), see, TrackerOptions(), search=end)
        parts.append(found)
    ids, frames, landmarks = (
        np.concatenate([getattr(part.faces if name == "landmarks" else part, name) for part in parts])
        for name in ("track_id", "frame", "landmarks")
    )
    start = Seam.at_start(ids, frames, landmarks, {}, TrackerOptions().patience)
    rows = [(int(t), first + int(f), float(x)) for t, f, x in zip(ids, frames, landmarks[:, 0, 0], strict=True)]
    return [row for row in rows if row[1] < stop], SegmentTracks(state.next_id, start, Seam.at_end(state))


def tracks(rows: Rows) -> set[tuple[tuple[int, float], ...]]:
    """Tracks without their ids."""
    ids = {track for track, _, _ in rows}
    return {tuple(sorted((frame, round(x, 2)) for track, frame, x in rows if track == i)) for i in ids}


@pytest.mark.parametrize("length", [13, 20, 31, 60])
def test_segments_followed_apart_give_the_tracks_of_the_whole(length: int) -> None:
    whole, _ = run(0, N, last=True)
    cut = segments(N, length)
    parts = [run(part.first, part.stop, last=part.stop == N) for part in cut]
    ids = join_tracks([part for _, part in parts])
    joined = [(int(own[t]), f, x) for (rows, _), own in zip(parts, ids, strict=True) for t, f, x in rows]
    assert tracks(joined) == tracks(whole)
    assert {track for track, _, _ in joined} == set(range(4))


def seam(*middles: tuple[float, float], near: tuple[tuple[float, float], ...] = (), heads: U8 | None = None) -> Seam:
    def stacked(places: tuple[tuple[float, float], ...]) -> np.ndarray:
        return np.array([face_at(*at) for at in places], np.float32).reshape(-1, 68, 3)

    n, m = len(middles), len(near)
    seen = np.zeros((n, HEAD_SIZE, HEAD_SIZE), np.uint8)
    lost = np.zeros((m, HEAD_SIZE, HEAD_SIZE), np.uint8) if heads is None else heads
    return Seam(SeamFaces(np.arange(n), stacked(middles), seen), SeamFaces(n + np.arange(m), stacked(near), lost))


@pytest.mark.parametrize(
    ("last", "first", "expected"),
    [
        (seam((0, 0), (100, 0)), seam((101, 0), (1, 0)), [1, 0]),
        (seam((0, 0)), seam((300, 0)), [1]),
        (seam((0, 0), near=((100, 0),)), seam((2, 0), (110, 0)), [0, 1]),
        (seam((0, 0), near=((5, 0),)), seam((2, 0)), [0]),
        (seam(), seam((0, 0)), [0]),
        (seam(near=((0, 0),)), seam(near=((9, 0),)), [0]),
        (seam((0, 0)), seam(near=((9, 0),)), [0]),
        (seam((0, 0)), seam(), []),
    ],
)
def test_who_is_who_at_a_seam(last: Seam, first: Seam, expected: list[int]) -> None:
    n_before = len(last.live.track) + len(last.near.track)
    n_after = len(first.live.track) + len(first.near.track)
    ids = join_tracks([SegmentTracks(n_before, seam(), last), SegmentTracks(n_after, first, seam())])
    assert ids[0].tolist() == list(range(n_before))
    assert ids[1].tolist() == expected


@pytest.mark.parametrize(("of", "expected"), [(0, [0]), (1, [1])])
def test_who_comes_after_a_seam_where_another_was_lost_before_it_is_told_by_his_looks(
    of: int, expected: list[int]
) -> None:
    heads = np.random.default_rng(0).integers(0, 256, (2, HEAD_SIZE, HEAD_SIZE)).astype(np.uint8)
    last, first = seam(near=((0, 0),), heads=heads[:1]), seam(near=((1, 0),), heads=heads[[of]])
    ids = join_tracks([SegmentTracks(1, seam(), last), SegmentTracks(1, first, seam())])
    assert ids[1].tolist() == expected


def test_a_video_without_faces_has_no_tracks() -> None:
    assert [ids.tolist() for ids in join_tracks([SegmentTracks(0, seam(), seam())] * 3)] == [[], [], []]


def test_a_summary_counts_frames_and_gaps() -> None:
    taken = np.arange(0, 100, 5)
    ids = np.array([4, 4, 1, 1, 1, 1])
    frames = np.array([50, 55, 0, 5, 20, 35])
    scores, sizes = np.array([0.5, 0.7, 1, 1, 1, 0.6]), np.array([10.0, 30, 1, 2, 3, 4])
    angles = np.array([[10.0, 0, 0], [20, 0, 0], [-5, 1, 2], [-5, 3, 2], [-5, 1, 2], [90, 1, 2]])
    summary = summarise_tracks(ids, frames, scores, sizes, angles, taken)
    assert summary.track_id.tolist() == [1, 4]
    assert summary.first_frame.tolist() == [0, 50]
    assert summary.last_frame.tolist() == [35, 55]
    assert summary.n_frames.tolist() == [4, 2]
    assert summary.n_gaps.tolist() == [2, 0]
    assert summary.frames_missing.tolist() == [4, 0]
    assert np.allclose(summary.mean_score, [0.9, 0.6])
    assert np.allclose(summary.mean_size, [2.5, 20])
    assert np.allclose(summary.median_angles, [[-5, 1, 2], [15, 0, 0]])
    assert np.allclose(summary.low_angles[:, 0], [-5, 10.5])
    assert np.allclose(summary.high_angles, [[75.75, 2.7, 2], [19.5, 0, 0]])


def test_a_summary_of_nothing_is_empty() -> None:
    nothing = np.zeros(0, np.int64)
    assert len(summarise_tracks(nothing, nothing, np.zeros(0), np.zeros(0), np.zeros((0, 3)), np.arange(5))) == 0


def test_assignment_prefers_the_least_total_and_refuses_what_is_too_far() -> None:
    cost = np.array([[0.1, 0.2], [0.11, 0.9]])
    assert [list(map(int, pairs)) for pairs in assign(cost, 1.0)] == [[0, 1], [1, 0]]
    assert [list(map(int, pairs)) for pairs in assign(cost, 0.15)] in ([[0], [0]], [[1], [0]])
    assert all(not len(pairs) for pairs in assign(np.zeros((0, 3)), 1.0))


def test_of_duplicates_the_worthier_stays() -> None:
    landmarks = np.stack([face_at(0, 0), face_at(3, 0), face_at(100, 0), face_at(5, 0)])
    assert duplicates(landmarks, np.array([0.5, 0.9, 0.1, 0.2])).tolist() == [0, 3]
