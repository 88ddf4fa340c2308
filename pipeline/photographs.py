"""The photographs of a run, read again from where it had them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from ddfa_batch.pipeline.plan import PlanRow
from ddfa_batch.schemas.arrays import I64, U8
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.schemas.picture_formats import DEFAULT_FORMATS
from ddfa_batch.schemas.run import RunRecord
from ddfa_batch.tasks.files import guarded_images
from ddfa_batch.tasks.files.guarded_videos import frame_of, read_frames
from ddfa_batch.tasks.files.input_items import Input
from ddfa_batch.tasks.files.input_reader import read_input
from ddfa_batch.tasks.files.inputs import resolve_path
from ddfa_batch.tasks.files.video_files import VideoIndex
from ddfa_batch.tasks.files.video_inputs import known_index


def photograph(run: RunRecord, item: Input, frame: int | None, max_pixels: int) -> U8:
    """The picture (H, W, 3) BGR of an input of a run, a still or a frame; raises `ImageError`."""
    if frame is None:
        return guarded_images.decode(read_input(run.root, item), max_pixels, allowed_formats(run))
    return frame_of(known_index(resolve_path(Path(run.root), item), max_pixels), frame, max_pixels)


def allowed_formats(run: RunRecord) -> tuple[str, ...]:
    """The formats of pictures that a run decodes."""
    return tuple(run.options.get("formats", DEFAULT_FORMATS))


def photographs(run: RunRecord, rows: Iterable[PlanRow], max_pixels: int) -> Iterator[tuple[PlanRow, U8 | ImageError]]:
    """Inputs of a run, in the plan's order, with their pictures (H, W, 3) BGR or what is wrong.

    Frames of one video that depend on the same keyframe are decoded in one go.
    """
    for video, group in groupby(rows, lambda row: row.video if row.frame is not None else None):
        if video is not None:
            yield from _frames(run.root, list(group), max_pixels)
            continue
        for row in group:
            try:
                yield row, photograph(run, row.item, None, max_pixels)
            except ImageError as fault:
                yield row, fault


def _frames(root: str, rows: Sequence[PlanRow], max_pixels: int) -> Iterator[tuple[PlanRow, U8 | ImageError]]:
    numbers = np.array([row.frame for row in rows], np.int64)
    try:
        index = known_index(resolve_path(Path(root), rows[0].item), max_pixels)
        if numbers[-1] >= len(index):
            raise ImageError("failed", "The file changed since the run was made: it has other frames now.")
    except ImageError as fault:
        yield from ((row, fault) for row in rows)
        return
    remaining = iter(rows)
    for together in _by_keyframe(index, numbers):
        for frame, row in zip(read_frames(index, together, max_pixels), remaining, strict=False):
            yield row, frame.missing if frame.image is None else frame.image


def _by_keyframe(index: VideoIndex, numbers: I64) -> list[I64]:
    """Increasing numbers of frames, parted by the keyframes that they are decoded from."""
    if not index.container.seekable:
        return [numbers]
    before = np.searchsorted(index.keyframes, numbers, side="right")
    return np.split(numbers, np.flatnonzero(np.diff(before)) + 1)
