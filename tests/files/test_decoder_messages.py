"""What decoders print stays out of standard error; what anybody else writes there arrives."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading

import cv2
import numpy as np
import pytest

from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.files import images
from ddfa_batch.tasks.files.decoder_messages import caught_messages


def printed(words: bytes) -> None:
    os.write(2, words)


#: What each decoder prints for some damage, as seen, and its words: OpenCV's log has a time before them.
CAUGHT = {
    b"Corrupt JPEG data: 314 extraneous bytes before marker 0xd9\n": None,
    b"Premature end of JPEG file\n": None,
    b"libpng warning: iCCP: known incorrect sRGB profile\n": None,
    b"libpng error: bad adaptive filter value\n": None,
    b"[ERROR:0@0.338] global grfmt_tiff.cpp:117 TIFF_Error LZWDecode: Not enough data\n": "LZWDecode: Not enough data",
    b"[ WARN:0@0.308] global grfmt_png.cpp:793 readFromStreamOrBuffer PNG input buffer is incomplete\n\n": (
        "PNG input buffer is incomplete"
    ),
}
DECODERS_LINES = list(CAUGHT)


@pytest.mark.parametrize("line", DECODERS_LINES)
def test_a_decoders_words_are_caught(line: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with caught_messages(lines):
        printed(line)
    assert lines == [CAUGHT[line] or line.decode().strip()]
    assert capfd.readouterr().err == ""


def test_other_words_pass_even_on_the_same_line(capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with caught_messages(lines):
        printed(b"\r12 of 20 images" + DECODERS_LINES[0] + b"\nand more")
    assert len(lines) == 1
    assert capfd.readouterr().err == "\r12 of 20 images\nand more"


def test_words_pass_while_another_thread_goes_on_decoding(capfd: pytest.CaptureFixture[str]) -> None:
    with caught_messages([]):
        with caught_messages([]):
            printed(b"while two decode\n")
        assert capfd.readouterr().err == "while two decode\n"
        with caught_messages([]):
            printed(DECODERS_LINES[1] + b"again\n")
        assert capfd.readouterr().err == "again\n"


def test_standard_error_leads_where_it_led_after_many_threads(capfd: pytest.CaptureFixture[str]) -> None:
    before = os.fstat(2)
    stop = threading.Event()
    written = [f"line {i}\n" for i in range(300)]

    def decode(seed: int) -> None:
        ok, data = cv2.imencode(".jpg", np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8))
        assert ok
        broken = bytearray(data)
        broken[-60:-50] = bytes(10)
        while not stop.is_set():
            for raw in (bytes(broken), bytes(data)[: len(data) // 2]):
                with contextlib.suppress(ImageError):
                    images.decode(raw, 10**6)

    threads = [threading.Thread(target=decode, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for line in written:
        printed(line.encode())
    stop.set()
    for thread in threads:
        thread.join()
    assert os.path.samestat(os.fstat(2), before)
    printed(b"afterwards\n")
    # Every line once; a line that was written while others decoded may come a moment later than its neighbours.
    *during, last = capfd.readouterr().err.splitlines(keepends=True)
    assert (sorted(during), last) == (sorted(written), "afterwards\n")


def test_a_forked_child_has_its_standard_error_at_once() -> None:
    program = """
        import os, threading
        from ddfa_batch.tasks.files.decoder_messages import caught_messages
        inside, done = threading.Event(), threading.Event()
        def decode():
            with caught_messages([]):
                inside.set(); done.wait()
        thread = threading.Thread(target=decode); thread.start(); inside.wait()
        import warnings; warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            with caught_messages([]):
                pass
            os.write(2, b"the child"); os._exit(0)
        os.waitpid(child, 0); done.set(); thread.join()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"the child")


def test_a_process_without_standard_error_decodes() -> None:
    program = """
        import os
        os.close(2)
        from ddfa_batch.tasks.files.decoder_messages import caught_messages
        with caught_messages([]):
            print("fine")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=False)
    assert done.stdout == b"fine\n"
