"""What is known of a video, and which of its frames are wanted, as bytes between this process and its decoder's."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import F64, I64
from ddfa_batch.tasks.files import video_files
from ddfa_batch.tasks.files.video_containers import AVI, GIF, MATROSKA, MP4, WEBP
from ddfa_batch.tasks.files.video_files import VideoFrame, VideoIndex

#: Bytes of the words, of the index's arrays but for their items, and of the frames' numbers: words, frames, keyframes.
_HEAD = struct.Struct("<III")
_CONTAINERS = {container.title: container for container in (MP4, MATROSKA, AVI, GIF, WEBP)}


def packed_index(index: VideoIndex) -> bytes:
    """An index as bytes."""
    words = {
        "path": os.fsencode(index.path).hex(),
        "container": index.container.title,
        "codec": index.codec,
        "shown": [index.width, index.height, index.rotation],
        "ended_early": index.ended_early,
    }
    told = json.dumps(words).encode()
    arrays = (index.times.astype("<f8"), index.stamps.astype("<i8"), index.keyframes.astype("<i8"))
    head = _HEAD.pack(len(told), len(index.stamps), len(index.keyframes))
    return b"".join([head, told, *(array.tobytes() for array in arrays)])


def unpacked_index(data: bytes | bytearray) -> tuple[VideoIndex, memoryview]:
    """The index of these bytes, and what follows it; raises `ValueError` or `LookupError` for what is none."""
    n_words, n, k = _HEAD.unpack_from(data)
    start, view = _HEAD.size + n_words, memoryview(data)
    words = json.loads(bytes(view[_HEAD.size : start]))
    times: F64 = np.frombuffer(view, "<f8", n, start).astype(np.float64)
    stamps: I64 = np.frombuffer(view, "<i8", n, start + 8 * n).astype(np.int64)
    keyframes: I64 = np.frombuffer(view, "<i8", k, start + 16 * n).astype(np.int64)
    path = Path(os.fsdecode(bytes.fromhex(words["path"])))
    container, (width, height, rotation) = _CONTAINERS[words["container"]], map(int, words["shown"])
    codec, ended = str(words["codec"]), words["ended_early"]
    known = VideoIndex(path, container, codec, width, height, rotation, times, stamps, keyframes, ended)
    return known, view[start + 16 * n + 8 * k :]


def packed_frames(index: VideoIndex, numbers: I64) -> bytes:
    """Frames `numbers` of a video as bytes."""
    return packed_index(index) + numbers.astype("<i8").tobytes()


def indexed(path: bytes, max_pixels: int) -> bytes:
    """In the decoder's process: what is known of the video at a path. Raises `ImageError`."""
    return packed_index(video_files.index_video(Path(os.fsdecode(path)), max_pixels))


def asked_frames(data: bytes, max_pixels: int) -> tuple[int, Iterator[VideoFrame]]:
    """In the decoder's process: how many frames are wanted, and those."""
    index, rest = unpacked_index(data)
    numbers = np.frombuffer(rest, "<i8").astype(np.int64)
    return len(numbers), video_files.read_frames(index, numbers, max_pixels)
