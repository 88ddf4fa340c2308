"""The process in which pictures of formats are decoded whose decoders are not trusted with ours (`guarded_images`).

It answers one request after the other until its standard input ends. The kernel's timer ends it where a decoder takes
too long, even after the process that asked is gone.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
from typing import BinaryIO

import cv2

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.schemas.picture_formats import FORMATS
from ddfa_batch.tasks.files import images

#: A request: bytes of the picture, most pixels, seconds; then the picture.
REQUEST = struct.Struct("<QQd")
#: An answer: height and width, 0 for an error, and the bytes of what follows: pixels, or kind and message.
ANSWER = struct.Struct("<IIQ")
#: Between kind and message of an error.
MARK = "\0"


def serve() -> None:
    """Decode what is asked for on standard input until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cv2.setNumThreads(0)
    with os.fdopen(os.dup(0), "rb") as requests, os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a decoder prints is no answer
        while head := requests.read(REQUEST.size):
            size, max_pixels, seconds = REQUEST.unpack(head)
            data = requests.read(size)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            _answer(answers, data, max_pixels)
            signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(answers: BinaryIO, data: bytes, max_pixels: int) -> None:
    try:
        pixels: U8 | None = images.decode(data, max_pixels, FORMATS)
        fault = b""
    except ImageError as error:
        pixels, fault = None, f"{error.kind}{MARK}{error.message}".encode("utf-8", "replace")
    except MemoryError:
        pixels, fault = None, f"out_of_memory{MARK}The decoder found no memory.".encode()
    if pixels is None:
        answers.write(ANSWER.pack(0, 0, len(fault)) + fault)
    else:
        answers.write(ANSWER.pack(*pixels.shape[:2], pixels.nbytes))
        answers.write(pixels.data)
    answers.flush()
