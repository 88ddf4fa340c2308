"""No video takes longer, or more memory, than it may: outside of workers it is decoded in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import small_videos

from ddfa_batch.schemas.config import ItemLimits
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.files import decoder_child, guarded_videos, video_files
from ddfa_batch.tasks.files.item_limits import item_limits
from ddfa_batch.tasks.files.video_files import VideoIndex

N = 40
LIMIT = 10**8
#: What a decoder does that misbehaves at frame 5: C code that keeps the interpreter's lock.
HANG = "ctypes.PyDLL(None).sleep(600)"
SWELL = "held = b'x' * (900 << 20); ctypes.PyDLL(None).sleep(600)"
DIE = "os.kill(os.getpid(), 11)"
_MISBEHAVING = """
import ctypes, os, sys
sys.path[:] = sys.argv[1:]
from ddfa_batch.tasks.files import decoder_process, video_files
shown = video_files._shown
def misbehaving(index, number, picture, max_pixels):
    if number == 5:
        {how}
    return shown(index, number, picture, max_pixels)
video_files._shown = misbehaving
decoder_process.serve()
"""


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    decoder_child.end_children()
    yield
    decoder_child.end_children()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_videos.write(tmp_path_factory.mktemp("guarded") / "film.mp4", n_frames=N)


def kinds(index: VideoIndex) -> list[str | None]:
    frames = guarded_videos.read_frames(index, np.arange(len(index)), LIMIT)
    return [None if frame.fault is None else frame.fault.kind for frame in frames]


@pytest.mark.parametrize(("name", "codec", "pixels"), [small_videos.KINDS[i] for i in (0, 6, 9)])
def test_a_film_gives_the_same_frames_as_where_it_is_decoded_here(
    name: str, codec: str, pixels: str, tmp_path: Path
) -> None:
    path = small_videos.write(tmp_path / name, codec, pixels)
    index, here = guarded_videos.index_video(path, LIMIT), video_files.index_video(path, LIMIT)
    assert [str(vars(index)[key]) for key in vars(here)] == [str(value) for value in vars(here).values()]
    numbers = np.arange(3, N, 5)
    pairs = zip(
        guarded_videos.read_frames(index, numbers, LIMIT), video_files.read_frames(here, numbers, LIMIT), strict=True
    )
    for there, own in pairs:
        assert (there.number, there.time_s) == (own.number, own.time_s)
        np.testing.assert_array_equal(there.image, own.image)


@pytest.mark.parametrize(
    ("how", "kind"), [(HANG, "timed_out"), (SWELL, "out_of_memory"), (DIE, "crashed")], ids=["hang", "swell", "die"]
)
def test_a_frame_that_ends_its_decoder_is_named_and_those_that_need_it(
    film: Path, how: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = guarded_videos.index_video(film, LIMIT)
    decoder_child.end_children()
    monkeypatch.setattr(decoder_child, "_START", _MISBEHAVING.format(how=how))
    began = time.monotonic()
    with item_limits(ItemLimits(30.0 if how == SWELL else 1.0, 512 << 20), may_end=False):
        found = kinds(index)
    later = int(index.keyframes[index.keyframes > 5][0])
    assert found == [None] * 5 + [kind] + ["crashed"] * (later - 6) + [None] * (N - later)
    assert time.monotonic() - began < 15


def test_a_decoder_that_is_ended_again_and_again_costs_two_times(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = guarded_videos.index_video(film, LIMIT)
    decoder_child.end_children()
    always = _MISBEHAVING.format(how=HANG).replace("number == 5", "number % 12 == 5")
    monkeypatch.setattr(decoder_child, "_START", always)
    with item_limits(ItemLimits(0.5), may_end=False):
        found = kinds(index)
    assert found.count("timed_out") == 2
    assert len(found) == N
    assert found[18:] == ["crashed"] * (N - 18)


def test_what_an_earlier_video_did_to_the_decoder_is_not_blamed_on_the_next(film: Path) -> None:
    index = guarded_videos.index_video(film, LIMIT)
    (child,) = decoder_child._idle
    child.process.kill()
    assert kinds(index) == [None] * N


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of one dark frame of 81 million pixels, in some hundred kilobytes."""
    side, path = 9000, tmp_path_factory.mktemp("large") / "large.mov"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = side, side, "gray"
        frame = av.VideoFrame(side, side, "gray")
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert path.stat().st_size < 300_000
    return path


def test_a_film_whose_first_frame_takes_too_long_is_given_up(large: Path) -> None:
    with item_limits(ItemLimits(0.1), may_end=False), pytest.raises(ImageError, match="--item-timeout") as fault:
        guarded_videos.index_video(large, LIMIT)
    assert fault.value.kind == "timed_out"


def test_a_film_whose_frames_take_too_much_memory_is_given_up(large: Path) -> None:
    index = guarded_videos.index_video(large, LIMIT)
    with item_limits(ItemLimits(30.0, 512 << 20), may_end=False):
        assert kinds(index) == ["out_of_memory"]
