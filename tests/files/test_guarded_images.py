"""No picture takes longer, or more memory, than it may: what could is decoded in a process of its own."""

from __future__ import annotations

import signal
import time

import numpy as np
import psutil
import pytest
from hostile_pictures import endless_jpeg, lying_avif, saved
from PIL import Image

from ddfa_batch.schemas.config import ItemLimits
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.files import decoder_child, guarded_images, images
from ddfa_batch.tasks.files.item_limits import item_limits

LIMIT = 10**7
PICTURE = Image.linear_gradient("L").convert("RGB")
MOVING = {"save_all": True, "append_images": [PICTURE.rotate(90)]}


@pytest.fixture(autouse=True, scope="module")
def _no_child_is_left() -> object:
    yield
    decoder_child.end_children()


@pytest.mark.parametrize(
    ("data", "guarded"),
    [
        (saved(PICTURE, "AVIF"), True),
        (saved(PICTURE, "TIFF"), True),
        (saved(PICTURE, "GIF"), True),
        (saved(PICTURE, "GIF", **MOVING), True),
        (saved(PICTURE, "WEBP", **MOVING), True),
        (endless_jpeg(100, 64), True),
        (saved(PICTURE, "WEBP"), False),
        (saved(PICTURE, "JPEG", progressive=True), False),
        (saved(PICTURE, "PNG", **MOVING), False),
        (saved(PICTURE, "BMP"), False),
    ],
)
def test_formats_that_are_not_trusted_are_decoded_elsewhere_to_the_same_pixels(data: bytes, guarded: bool) -> None:
    assert guarded_images.needs_child(data) is guarded
    np.testing.assert_array_equal(guarded_images.decode(data, LIMIT), images.decode(data, LIMIT))


def test_a_jpeg_of_endless_scans_is_given_up_when_its_time_is_over() -> None:
    began = time.monotonic()
    with item_limits(ItemLimits(1.0), may_end=False), pytest.raises(ImageError, match="--item-timeout") as fault:
        guarded_images.decode(endless_jpeg(), LIMIT)
    assert fault.value.kind == "timed_out"
    assert time.monotonic() - began < 6


def test_an_avif_that_is_larger_than_its_header_tells_takes_no_more_memory_than_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoder_child, "_LEAST_BYTES", 128 << 20)
    data = lying_avif(3000)
    assert len(data) < 2000
    with item_limits(ItemLimits(30.0, 512 << 20), may_end=False), pytest.MonkeyPatch.context() as own:
        own.setattr(psutil.Process, "memory_info", _child_only(psutil.Process.memory_info))
        with pytest.raises(ImageError, match="--memory-limit") as fault:
            guarded_images.decode(data, 100_000)
    assert fault.value.kind == "out_of_memory"
    assert guarded_images.decode(lying_avif(200), 100_000).shape == (100, 100, 3)


def _child_only(measure: object) -> object:
    """Memory as it is, and of this process, whatever other tests left in it, all that there may be."""
    own = psutil.Process().pid

    def measured(process: psutil.Process) -> object:
        found = measure(process)  # type: ignore[operator]
        return found._replace(rss=1 << 40) if process.pid == own else found

    return measured


def test_a_decoder_that_dies_costs_its_picture_alone() -> None:
    data = saved(PICTURE, "TIFF")
    guarded_images.decode(data, LIMIT)
    (child,) = decoder_child._idle
    child.process.send_signal(signal.SIGSEGV)  # as if the picture before had left it damaged
    np.testing.assert_array_equal(guarded_images.decode(data, LIMIT), images.decode(data, LIMIT))


def test_a_picture_that_kills_a_fresh_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder_child.end_children()
    monkeypatch.setattr(decoder_child, "_START", "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(ImageError, match="SIGSEGV") as fault:
        guarded_images.decode(saved(PICTURE, "TIFF"), LIMIT)
    assert fault.value.kind == "crashed"


def test_a_decoder_that_ends_itself_is_not_said_to_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a package of it cannot be imported; its pipe is closed a moment before it is gone."""
    decoder_child.end_children()
    monkeypatch.setattr(decoder_child, "_START", "import os, time; os.closerange(0, 2); time.sleep(0.2); os._exit(3)")
    with pytest.raises(ImageError, match="exit code 3") as fault:
        guarded_images.decode(saved(PICTURE, "TIFF"), LIMIT)
    assert fault.value.kind == "crashed"


def test_a_decoder_that_is_stopped_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder_child.end_children()
    monkeypatch.setattr(decoder_child, "_START", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
    with item_limits(ItemLimits(0.5), may_end=False), pytest.raises(ImageError) as fault:
        guarded_images.decode(saved(PICTURE, "TIFF"), LIMIT)
    assert fault.value.kind == "timed_out"


def test_what_decoders_print_elsewhere_is_not_heard(capfd: pytest.CaptureFixture[str]) -> None:
    data = saved(PICTURE, "GIF")
    for at in range(40, len(data), 61):
        damaged = data[:at] + b"\xff\x00" + data[at + 2 :]
        try:
            guarded_images.decode(damaged, LIMIT)
        except ImageError as fault:
            assert fault.kind in ("undecodable", "truncated")
    assert capfd.readouterr() == ("", "")
