"""Videos to frames within limits of time and memory, as `guarded_images` does it for pictures.

FFmpeg's decoders may hang or swell like any other. On a worker, which may be ended for an item, the watchdog sees to
that, and frames are decoded where they are looked at; in any other process they come from a child (`decoder_child`).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import I64, U8
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.files import video_files
from ddfa_batch.tasks.files.decoder_child import Child, WornError, borrowed, fault_of
from ddfa_batch.tasks.files.decoder_process import INDEX, VIDEO_FRAMES
from ddfa_batch.tasks.files.item_limits import may_end_process
from ddfa_batch.tasks.files.video_decoder import MAX_FRAMES
from ddfa_batch.tasks.files.video_files import VideoFrame, VideoIndex
from ddfa_batch.tasks.files.video_messages import packed_frames, unpacked_index

#: Bytes of an index for each frame, at most: a time, a stamp, a keyframe's number.
_INDEX_BYTES = 24
#: Bytes of an answer besides arrays.
_WORDS_BYTES = 1 << 20
#: Decoders of one segment that may be ended before the rest of it is given up.
_ENDED = 2


def index_video(path: Path, max_pixels: int) -> VideoIndex:
    """The frames of a video, as `video_files.index_video`, within the limits in force; raises `ImageError`."""
    if may_end_process():
        return video_files.index_video(path, max_pixels)
    try:
        with borrowed() as child:
            child.request(INDEX, os.fsencode(path.absolute()), max_pixels)
            told, _, answer = child.answer(_INDEX_BYTES * MAX_FRAMES + _WORDS_BYTES, began=True)
    except WornError:
        return index_video(path, max_pixels)
    if not told:
        raise fault_of(answer)
    try:
        return unpacked_index(answer)[0]
    except (ValueError, LookupError, TypeError, struct.error):  # a decoder that was taken over says what it likes
        raise ImageError("crashed", "What the decoder's process told of the video is no index.") from None


def read_frames(index: VideoIndex, numbers: I64, max_pixels: int) -> Iterator[VideoFrame]:
    """The frames of increasing `numbers`, as `video_files.read_frames`, within the limits in force.

    A frame at which the decoder was ended, or ended itself, comes with that fault; those that cannot be decoded without
    it are left out, and so is what is left after the second time.
    """
    if may_end_process():
        yield from video_files.read_frames(index, numbers, max_pixels)
        return
    left, ended = np.asarray(numbers, np.int64), 0
    while len(left):
        done = 0
        try:
            for frame in _of_child(index, left, max_pixels):
                done += 1
                yield frame
        except WornError:
            left = left[done:]
        except ImageError as fault:
            yield _without(index, left[done], fault)
            ended += 1
            resumed = _resumed(index, int(left[done])) if ended < _ENDED else len(index)
            for number in left[done + 1 :][left[done + 1 :] < resumed]:
                yield _without(index, number, ImageError("crashed", "The decoder was ended at an earlier frame."))
            left = left[done + 1 :][left[done + 1 :] >= resumed]
        else:
            return


def frame_of(index: VideoIndex, number: int, max_pixels: int) -> U8:
    """The picture (H, W, 3) BGR of one frame; raises `ImageError` where it has none."""
    (frame,) = read_frames(index, np.array([number]), max_pixels)
    if frame.image is None:
        raise frame.missing
    return frame.image


def _of_child(index: VideoIndex, numbers: I64, max_pixels: int) -> Iterator[VideoFrame]:
    with borrowed() as child:
        child.request(VIDEO_FRAMES, packed_frames(index, numbers), max_pixels)
        for number in numbers:
            yield _answered(child, index, number, max_pixels)


def _answered(child: Child, index: VideoIndex, number: int, max_pixels: int) -> VideoFrame:
    height, width, answer = child.answer(3 * max_pixels + _WORDS_BYTES)
    if not height:
        return _without(index, number, fault_of(answer))
    image = np.frombuffer(answer, np.uint8).reshape(height, width, 3)
    return VideoFrame(int(number), float(index.times[number]), image)


def _without(index: VideoIndex, number: int, fault: ImageError) -> VideoFrame:
    return VideoFrame(int(number), float(index.times[number]), None, fault)


def _resumed(index: VideoIndex, number: int) -> int:
    """The frame after `number` from which decoding can begin anew; beyond the last where there is none."""
    later = index.keyframes[index.keyframes > number]
    return int(later[0]) if index.container.seekable and len(later) else len(index)
