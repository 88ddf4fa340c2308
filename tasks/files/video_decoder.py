"""FFmpeg, through PyAV: files opened safely, their packets, and their pictures on one thread.

PyAV is imported with the first video: a run over photographs does not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ddfa_batch.schemas.arrays import I64
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.files.video_containers import Container

#: More frames than this are no video that anybody waits for: 46 hours at 60 frames a second.
MAX_FRAMES = 10_000_000
#: The file is opened by this protocol alone: a video can name others, and addresses in the network.
_PROTOCOL = "file"


@cache
def faults() -> tuple[type[Exception], ...]:
    """What PyAV raises when a file is not as it should be."""
    import av.error

    return (av.error.FFmpegError, OSError, ValueError, IndexError, EOFError)


def open_video(path: Path, container: Container) -> Any:
    """The file, opened by this family's demuxer and no other, and by no protocol but that of files."""
    import av

    options = {"protocol_whitelist": _PROTOCOL, "format_whitelist": container.demuxers}
    return av.open(f"{_PROTOCOL}:{path.absolute()}", options=options)


def video_stream(source: Any) -> Any:
    """The first stream of moving pictures; a cover picture is none."""
    from av.stream import Disposition

    for stream in source.streams.video:
        if stream.codec_context is None:
            raise ImageError("undecodable", "The video's codec is unknown.")
        if not stream.disposition & Disposition.attached_pic:
            return stream
    kinds = ", ".join(sorted({stream.type for stream in source.streams})) or "nothing"
    raise ImageError("no_frames", f"The file has no video stream (it has: {kinds}).")


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise `ImageError` of kind too_large for more than `max_pixels`."""
    if width * height > max_pixels:
        raise ImageError(
            "too_large", f"The video has {width} × {height} pixels; the limit is {max_pixels:,} (--max-pixels)."
        )


@dataclass(frozen=True)
class Packets:
    """A stream's packets in the order of the file."""

    #: Time stamps (N,), of presentation where the container has them.
    stamps: I64
    #: Rows (K,) of those at which decoding can begin.
    keyframes: I64
    #: Why reading stopped, if not at the file's end.
    fault: str | None


def read_packets(source: Any, stream: Any) -> Packets:
    """All packets of a stream, up to where the file breaks off."""
    stamps: list[int] = []
    keyframes: list[int] = []
    fault = None
    try:
        for packet in source.demux(stream):
            stamp = packet.dts if packet.pts is None else packet.pts
            if not packet.size or packet.is_discard or stamp is None:
                continue
            if packet.is_keyframe:
                keyframes.append(len(stamps))
            stamps.append(stamp)
            if len(stamps) > MAX_FRAMES:
                raise ImageError("too_large", f"The video has more than {MAX_FRAMES:,} frames.")
    except faults() as error:
        fault = str(getattr(error, "strerror", None) or error)
    return Packets(np.array(stamps, np.int64), np.array(keyframes, np.int64), fault)


def quarter_turns(frame: Any) -> int:
    """Quarter turns, counter-clockwise, that show the frame as its metadata want it: 0 to 3."""
    return round(frame.rotation / 90) % 4


def decoded_pictures(source: Any, stream: Any, max_pixels: int, complaints: list[str]) -> Iterator[Any]:
    """What the decoder gives, on one thread; a packet it refuses is noted and passed over."""
    decoder = stream.codec_context
    decoder.thread_count, decoder.thread_type = 1, "NONE"
    decoder.options = {"max_pixels": str(max_pixels)}  # sizes may change in mid-stream
    packets = source.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except faults() as fault:  # the file breaks off: what the decoder still holds may be shown
            complaints.append(str(fault))
            yield from _decoded(decoder, None, complaints)
            return
        if packet is None:
            return
        yield from _decoded(decoder, packet, complaints)


def _decoded(decoder: Any, packet: Any, complaints: list[str]) -> list[Any]:
    try:
        return list(decoder.decode(packet if packet is None or packet.size else None))
    except faults() as fault:
        complaints.append(str(getattr(fault, "strerror", None) or fault))
        return []
