"""Small films made by the tests: numbered frames, any container and codec that PyAV can write."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from ddfa_batch.schemas.arrays import U8

WIDTH, HEIGHT = 96, 64
#: File name, codec and pixel format of films of every kind.
KINDS = (
    ("h264.mp4", "libx264", "yuv420p"),
    ("h265.mp4", "libx265", "yuv420p"),
    ("mpeg4.mov", "mpeg4", "yuv420p"),
    ("h264.mkv", "libx264", "yuv420p"),
    ("vp9.webm", "libvpx-vp9", "yuv420p"),
    ("vp8.webm", "libvpx", "yuv420p"),
    ("h264.avi", "libx264", "yuv420p"),
    ("mpeg4.avi", "mpeg4", "yuv420p"),
    ("mjpeg.avi", "mjpeg", "yuvj420p"),
    ("palette.gif", "gif", "rgb8"),
)


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> U8:
    """A frame whose brightest column tells its number."""
    image = np.full((height, width, 3), 30, np.uint8)
    at = 2 * number % width
    image[:, at : at + 8] = (60, 220, 240)
    cv2.putText(image, str(number), (20, height // 2), cv2.FONT_HERSHEY_PLAIN, 1, (255, 255, 255))
    return image


def shows(image: U8, number: int) -> bool:
    """Whether a picture is that of this number, however much its codec spoilt it."""
    off = [np.abs(image.astype(int) - picture(n, image.shape[1], image.shape[0])).mean() for n in range(number + 3)]
    return int(np.argmin(off)) == number


def write(
    path: Path,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    n_frames: int = 40,
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A film of so many frames at 25 a second, a keyframe every 12; `times` in 1/25 s, for other rates."""
    with av.open(str(path), "w", options=options or {}) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        stream.codec_context.gop_size = 12
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none:pools=1"}
        for number in range(n_frames):
            frame = av.VideoFrame.from_ndarray(picture(number), format="bgr24")
            frame.pts = times[number] if times else number
            file.mux(stream.encode(frame))
        file.start_encoding()
        file.mux(stream.encode(None))
    return path


def write_two_sizes(path: Path, codec: str, first: int, n_frames: int) -> Path:
    """A film whose frames have twice the width and height from number `first` on, in one stream."""
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        larger = av.CodecContext.create(codec, "w")
        larger.width, larger.height, larger.pix_fmt = 2 * WIDTH, 2 * HEIGHT, pixels
        larger.framerate, larger.time_base = 25, Fraction(1, 25)
        for encoder, numbers, factor in ((stream, range(first), 1), (larger, range(first, n_frames), 2)):
            for number in numbers:
                image = picture(number, factor * WIDTH, factor * HEIGHT)
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                _mux(file, stream, encoder.encode(frame))
            _mux(file, stream, encoder.encode(None))
    return path


def _mux(file: Any, stream: Any, packets: Sequence[Any]) -> None:
    for packet in packets:
        packet.stream = stream
        file.mux(packet)


def write_audio(path: Path) -> Path:
    """A file with sound only."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16_000)
        samples = np.zeros((1, 16_000), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        for chunk in (frame,):
            file.mux(stream.encode(chunk))
        file.mux(stream.encode(None))
    return path
