"""The photographs of a run, read again from where it had them."""

from __future__ import annotations

from pathlib import Path

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.picture_formats import DEFAULT_FORMATS
from ddfa_batch.schemas.run import RunRecord
from ddfa_batch.tasks.files import guarded_images
from ddfa_batch.tasks.files.input_items import Input
from ddfa_batch.tasks.files.input_reader import read_input
from ddfa_batch.tasks.files.inputs import resolve_path
from ddfa_batch.tasks.files.video_files import frame_of
from ddfa_batch.tasks.files.video_inputs import known_index


def photograph(run: RunRecord, item: Input, frame: int | None, max_pixels: int) -> U8:
    """The picture (H, W, 3) BGR of an input of a run, a still or a frame; raises `ImageError`."""
    if frame is None:
        return guarded_images.decode(read_input(run.root, item), max_pixels, allowed_formats(run))
    return frame_of(known_index(resolve_path(Path(run.root), item), max_pixels), frame, max_pixels)


def allowed_formats(run: RunRecord) -> tuple[str, ...]:
    """The formats of pictures that a run decodes."""
    return tuple(run.options.get("formats", DEFAULT_FORMATS))
