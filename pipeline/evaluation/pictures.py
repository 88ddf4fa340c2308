"""The pictures of labelled faces: files of a folder, frames of videos there, or clips that came with the labels."""

from __future__ import annotations

from pathlib import Path

from ddfa_batch.pipeline.evaluation.protocol import GroundTruth, PictureOf
from ddfa_batch.pipeline.results import Results
from ddfa_batch.schemas.arrays import I64, U8
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS
from ddfa_batch.schemas.errors import DdfaError
from ddfa_batch.tasks.files import guarded_images, images
from ddfa_batch.tasks.files.format_signatures import SUFFIXES
from ddfa_batch.tasks.files.video_frames import VideoFrames


def pictures_of(truth: GroundTruth, folder: Path | None) -> PictureOf | None:
    """Where the pictures of the truth's rows come from; None where nothing tells."""
    if truth.pictures is not None or folder is None:
        return truth.pictures
    videos, frames = VideoFrames(), truth.frame

    def picture(row: int) -> U8 | None:
        video, _, number = truth.keys[row].rpartition("#")
        if frames is not None and number.isdecimal() and (folder / video).is_file():
            return videos.frame(folder / video, int(number))
        return _picture(folder, truth.keys[row])

    return picture


def clip_pictures(run: Results, clip: I64, frame: I64) -> PictureOf:
    """Pictures of the frames (N,) of clips (N,) of a `synth-videos` run; one clip is in memory at a time."""
    held: dict[int, list[U8]] = {}

    def picture(row: int) -> U8 | None:
        number = int(clip[row])
        if number not in held:
            held.clear()
            held[number] = run.clip(number)
        return held[number][int(frame[row])]

    return picture


def _picture(folder: Path, key: str) -> U8 | None:
    """The picture `key` names below `folder`, with or without its ending; None if it cannot be read."""
    for path in (folder / key, *((folder / key).with_suffix(suffix) for suffix in sorted(SUFFIXES))):
        if path.is_file():
            try:
                return guarded_images.decode(images.read_bytes(path), DEFAULT_MAX_PIXELS)
            except DdfaError:
                return None
    return None
