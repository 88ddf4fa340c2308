"""The process in which pictures and videos are decoded whose decoders are not trusted with ours (`decoder_child`).

It answers one request after the other until its standard input ends. The kernel's timer ends it where a decoder takes
too long, even after the process that asked is gone.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

import cv2

from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.schemas.picture_formats import FORMATS
from ddfa_batch.tasks.files import images

#: What can be asked for: a picture's pixels; what is known of the video at a path; frames of a video that is known.
PICTURE, INDEX, VIDEO_FRAMES = range(3)
#: A request: what is asked for, bytes of what follows, most pixels, seconds; then the picture, the path, or the index
#: and the numbers of frames.
REQUEST = struct.Struct("<BQQd")
#: An answer: height and width, 0 for an error, and the bytes of what follows: pixels, an index, or kind and message.
#: Frames are answered one by one.
ANSWER = struct.Struct("<IIQ")
#: Between kind and message of an error.
MARK = "\0"
_Answer = tuple[int, int, Any]


def serve() -> None:
    """Decode what is asked for on standard input until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cv2.setNumThreads(0)
    with os.fdopen(os.dup(0), "rb") as requests, os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a decoder prints is no answer
        while head := requests.read(REQUEST.size):
            what, size, max_pixels, seconds = REQUEST.unpack(head)
            _ANSWERERS[what](answers, requests.read(size), max_pixels, seconds)


def _within(seconds: float, work: Callable[[], _Answer]) -> _Answer:
    """What `work` answers, or the error it raised; the kernel ends this process where it takes longer."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return work()
    except ImageError as error:
        return 0, 0, f"{error.kind}{MARK}{error.message}".encode("utf-8", "replace")
    except MemoryError:
        return 0, 0, f"out_of_memory{MARK}The decoder found no memory.".encode()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _write(answers: BinaryIO, answer: _Answer) -> None:
    height, width, content = answer
    answers.write(ANSWER.pack(height, width, memoryview(content).nbytes))
    answers.write(memoryview(content))
    answers.flush()


def _picture(answers: BinaryIO, data: bytes, max_pixels: int, seconds: float) -> None:
    def work() -> _Answer:
        pixels = images.decode(data, max_pixels, FORMATS)
        return *pixels.shape[:2], pixels

    _write(answers, _within(seconds, work))


def _index(answers: BinaryIO, data: bytes, max_pixels: int, seconds: float) -> None:
    from ddfa_batch.tasks.files import video_messages

    _write(answers, _within(seconds, lambda: (1, 1, video_messages.indexed(data, max_pixels))))


def _video_frames(answers: BinaryIO, data: bytes, max_pixels: int, seconds: float) -> None:
    from ddfa_batch.tasks.files import video_messages

    n, frames = video_messages.asked_frames(data, max_pixels)

    def work() -> _Answer:
        frame = next(frames)
        if frame.image is None:
            raise frame.missing
        return *frame.image.shape[:2], frame.image

    for _ in range(n):
        _write(answers, _within(seconds, work))


_ANSWERERS = {PICTURE: _picture, INDEX: _index, VIDEO_FRAMES: _video_frames}
