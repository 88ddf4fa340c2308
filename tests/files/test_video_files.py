"""Videos to frames: right numbers and times, the same in segments as in one go, and every way in which files break."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_videos
from PIL import Image

from ddfa_batch.schemas.errors import ERROR_KINDS, ImageError
from ddfa_batch.tasks.files.video_files import (
    Segment,
    VideoFrame,
    VideoIndex,
    at_rate,
    every_nth,
    index_video,
    read_frames,
    segments,
)

N = 40
MAX_PIXELS = 10**6


def all_frames(index: VideoIndex) -> list[VideoFrame]:
    return list(read_frames(index, np.arange(len(index)), MAX_PIXELS))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    made = {name: small_videos.write(folder / name, codec, pixels) for name, codec, pixels in small_videos.KINDS}
    pictures = [Image.fromarray(small_videos.picture(k)[:, :, ::-1]) for k in range(N)]
    made["animated.webp"] = folder / "animated.webp"
    pictures[0].save(made["animated.webp"], save_all=True, append_images=pictures[1:], duration=40, lossless=True)
    return made


NAMES = [name for name, _, _ in small_videos.KINDS] + ["animated.webp"]


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_has_its_number_and_time(films: dict[str, Path], name: str) -> None:
    index = index_video(films[name], MAX_PIXELS)
    frames = all_frames(index)
    assert (len(index), index.width, index.height) == (N, small_videos.WIDTH, small_videos.HEIGHT)
    assert index.ended_early is None
    assert index.fps == pytest.approx(25, abs=0.5)
    assert [frame.number for frame in frames] == list(range(N))
    assert np.abs([frame.time_s - frame.number / 25 for frame in frames]).max() < 0.011
    assert all(frame.image is not None and small_videos.shows(frame.image, frame.number) for frame in frames)


@pytest.mark.parametrize("name", NAMES)
def test_a_segment_shows_what_the_whole_shows(films: dict[str, Path], name: str) -> None:
    index = index_video(films[name], MAX_PIXELS)
    whole = all_frames(index)
    for segment in segments(len(index), 7):
        part = list(read_frames(index, np.arange(segment.first, segment.stop), MAX_PIXELS))
        assert [frame.number for frame in part] == list(range(segment.first, segment.stop))
        for frame in part:
            assert np.array_equal(frame.image, whole[frame.number].image)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_cut_anywhere_gives_frames_and_the_reason(films: dict[str, Path], name: str, tmp_path: Path) -> None:
    data = films[name].read_bytes()
    counts = []
    for length in np.linspace(1, len(data) - 1, 25).astype(int):
        path = tmp_path / name
        path.write_bytes(data[:length])
        try:
            index = index_video(path, MAX_PIXELS)
        except ImageError as fault:
            assert fault.kind in {"truncated", "undecodable", "not_a_video", "no_frames"}
            continue
        frames = all_frames(index)
        assert index.ended_early, length
        assert "ends early" in index.ended_early
        assert [frame.number for frame in frames] == list(range(len(index)))
        whole = [frame for frame in frames if frame.image is not None]
        assert all((frame.image is None) != (frame.fault is None) for frame in frames)
        counts.append(len(whole))
    if name in ("h264.mkv", "vp9.webm", "vp8.webm", "mpeg4.avi", "mjpeg.avi", "palette.gif"):
        assert len(counts) > 10  # these can be read from their beginning, however little there is
        assert counts == sorted(counts)


def test_a_film_that_can_be_read_from_its_beginning_keeps_its_frames(tmp_path: Path) -> None:
    path = small_videos.write(tmp_path / "fast.mp4", options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-2000])
    index = index_video(path, MAX_PIXELS)
    n = len(index)
    assert index.ended_early == f"The MP4 or QuickTime file ends early, after {n} frames: it lacks 2,000 bytes."
    shown = [frame for frame in all_frames(index) if frame.image is not None]
    assert len(shown) >= 20
    assert all(small_videos.shows(frame.image, frame.number) for frame in shown[:-1] if frame.image is not None)


def test_random_damage_never_raises_anything_else(films: dict[str, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for name in NAMES:
        data = np.frombuffer(films[name].read_bytes(), np.uint8)
        for _ in range(8):
            spoilt = data.copy()
            where = rng.integers(0, len(data), 30)
            spoilt[where] = rng.integers(0, 256, 30)
            path = tmp_path / name
            path.write_bytes(spoilt.tobytes())
            try:
                index = index_video(path, MAX_PIXELS)
            except ImageError as fault:
                assert fault.kind in ERROR_KINDS
                continue
            if len(index) < 10 * N:
                assert len(all_frames(index)) == len(index)


def test_variable_frame_rates_keep_their_times(tmp_path: Path) -> None:
    times = [0, 1, 2, 10, 11, 30, 31, 32, 33, 60]
    index = index_video(small_videos.write(tmp_path / "v.mkv", n_frames=10, times=times), MAX_PIXELS)
    assert np.allclose(index.times, np.array(times) / 25, atol=1e-3)
    assert [frame.number for frame in all_frames(index)] == list(range(10))


def rotated(path: Path, matrix: tuple[int, ...]) -> Path:
    """Write another display matrix into an MP4's track header (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [
        ((0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30), 3),
        ((0, -(1 << 16), 0, 1 << 16, 0, 0, 0, 0, 1 << 30), 1),
        ((-(1 << 16), 0, 0, 0, -(1 << 16), 0, 0, 0, 1 << 30), 2),
    ],
)
def test_rotation_is_applied(tmp_path: Path, matrix: tuple[int, ...], turns: int) -> None:
    """The matrix maps right to down and down to left: a film taken with the telephone turned, shown upright."""
    plain = index_video(small_videos.write(tmp_path / "plain.mp4", n_frames=5), MAX_PIXELS)
    index = index_video(rotated(small_videos.write(tmp_path / "turned.mp4", n_frames=5), matrix), MAX_PIXELS)
    shape = np.rot90(small_videos.picture(0), turns).shape
    assert (index.height, index.width) == shape[:2]
    for frame, still in zip(all_frames(index), all_frames(plain), strict=True):
        assert frame.image is not None
        assert np.array_equal(frame.image, np.rot90(still.image, turns))


def test_sound_alone_has_no_frames(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no video stream") as fault:
        index_video(small_videos.write_audio(tmp_path / "a.mp4"), MAX_PIXELS)
    assert fault.value.kind == "no_frames"


@pytest.mark.parametrize("name", ["none.mkv", "none.mp4", "none.avi"])
def test_a_film_of_no_frames_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError) as fault:
        index_video(small_videos.write(tmp_path / name, n_frames=0), MAX_PIXELS)
    assert fault.value.kind == "no_frames"


def test_a_size_that_changes_in_mid_stream_is_each_frames_own(tmp_path: Path) -> None:
    """Two films of raw MPEG-4 in one AVI stream, as capture cards write them; here of JPEG pictures."""
    first = small_videos.write(tmp_path / "a.avi", "mjpeg", "yuvj420p", n_frames=12)
    data = bytearray(first.read_bytes())
    ok, other = cv2.imencode(".jpg", small_videos.picture(6, 48, 32), [cv2.IMWRITE_JPEG_QUALITY, 40])
    assert ok
    for number in (6, 7):
        at = data.index(b"movi")
        for _ in range(number + 1):
            at = data.index(b"00dc", at + 1)
        length = struct.unpack("<I", data[at + 4 : at + 8])[0]
        assert len(other) <= length
        data[at + 8 : at + 8 + length] = other.tobytes().ljust(length, b"\0")
    first.write_bytes(data)
    sizes = [None if f.image is None else f.image.shape[:2] for f in all_frames(index_video(first, MAX_PIXELS))]
    assert sizes == [(64, 96)] * 6 + [(32, 48)] * 2 + [(64, 96)] * 4


def test_too_many_pixels_are_refused_before_decoding(films: dict[str, Path]) -> None:
    for name in NAMES:
        with pytest.raises(ImageError, match="limit is 6,000") as fault:
            index_video(films[name], 6_000)
        assert fault.value.kind == "too_large"


FAULTS = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "not_a_video": lambda path: path.write_bytes(b"#EXTM3U\nhttp://127.0.0.1/film.ts\n"),
    "truncated": lambda path: path.write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isom\0\0\0\0\0\0\x10\0mdat"),
    "unreadable": os.mkfifo,
}


@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_no_video_is_a_fault_of_its_kind(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    FAULTS[kind](path)
    with pytest.raises(ImageError) as fault:
        index_video(path, MAX_PIXELS)
    assert fault.value.kind == kind
    assert kind in ERROR_KINDS


@pytest.mark.parametrize(
    ("n", "length", "expected"),
    [(0, 300, []), (1, 300, [(0, 1)]), (300, 300, [(0, 300)]), (301, 300, [(0, 150), (150, 301)]), (5, 2, None)],
)
def test_segments_hold_every_frame_once(n: int, length: int, expected: list[tuple[int, int]] | None) -> None:
    cut = segments(n, length)
    assert [k for segment in cut for k in range(segment.first, segment.stop)] == list(range(n))
    assert all(segment.stop - segment.first <= length for segment in cut)
    if expected is not None:
        assert cut == [Segment(*pair) for pair in expected]


def test_every_nth_frame() -> None:
    assert every_nth(10, 4).tolist() == [0, 4, 8]


@pytest.mark.parametrize(
    ("fps", "expected"), [(25, range(11)), (5, (0, 5, 10)), (10, (0, 2, 5, 7, 10)), (100, range(11))]
)
def test_frames_at_a_rate_are_those_shown_then(fps: float, expected: range) -> None:
    assert at_rate(np.arange(11) / 25, fps).tolist() == list(expected)


def test_only_what_is_asked_for_comes_out(films: dict[str, Path]) -> None:
    index = index_video(films["h264.mp4"], MAX_PIXELS)
    assert [frame.number for frame in read_frames(index, np.array([3, 17, 18, 39]), MAX_PIXELS)] == [3, 17, 18, 39]
    assert list(read_frames(index, np.zeros(0, np.int64), MAX_PIXELS)) == []
