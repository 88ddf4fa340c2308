"""What is known of the frames of synthetic clips: the rows of `frames/`, and what a WebDataset sample carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ddfa_batch.pipeline.run_tables import geometry_columns
from ddfa_batch.schemas.arrays import F32, F64
from ddfa_batch.schemas.config import CLIPS_PER_FACE, FACES_PER_IMAGE
from ddfa_batch.schemas.faces import Geometry
from ddfa_batch.tasks.files.arrow_columns import table_of
from ddfa_batch.tasks.geometry.motion import Motion


@dataclass(frozen=True)
class ClipLabels:
    """What is known of a clip's n frames, one row each: the columns of the frames table, less the ids."""

    #: Number of the clip among those of its face.
    clip: int
    #: Number of the face among those of its image.
    face_index: int
    #: (n,) where the pictures are; empty until they are written.
    frame_keys: list[str]
    #: (n,) width and height of the pictures.
    shapes: list[tuple[int, int]]
    #: (n, 4) what the frames show of the still.
    source_rois: F64
    #: (n, 4) the crop the parameters are in, in the frame's pixels.
    rois: F64
    #: (n, P).
    params: F32
    #: What the parameters mean in the frame's pixels.
    geometry: Geometry
    #: Totals since the still.
    motion: Motion
    #: (n,) standard deviation of the noise, grey levels.
    noise: F32
    #: (n, 2) pixels the face moves while the shutter is open.
    blur: F32
    #: How far the head turns back, where that is less than asked.
    note: str | None


def clip_id_of(image_id: int, face_index: int, clip: int) -> int:
    """The number of a clip in its run."""
    return (image_id * FACES_PER_IMAGE + face_index) * CLIPS_PER_FACE + clip


def as_json(labels: ClipLabels, key: str) -> list[dict[str, Any]]:
    """The labels a WebDataset sample carries beside its picture, frame by frame."""
    return [_frame_as_json(labels, key, i) for i in range(len(labels.params))]


def _frame_as_json(labels: ClipLabels, key: str, frame: int) -> dict[str, Any]:
    g = labels.geometry
    yaw, pitch, roll = (float(angle) for angle in g.angles[frame])
    return {
        "key": key,
        "face_index": labels.face_index,
        "clip": labels.clip,
        "frame": frame,
        "roi": labels.rois[frame].tolist(),
        "params": labels.params[frame].tolist(),
        "landmarks68": g.landmarks[frame].tolist(),
        "landmarks68_visible": g.visible[frame].tolist(),
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
    }


def frames_table(
    keys: Mapping[int, str], labels: Mapping[int, Sequence[ClipLabels]], seed: int, schema: pa.Schema
) -> pa.Table:
    """The rows of `frames/`, of the clips' labels and the stills' keys by image."""
    columns = [_columns(clip, keys[image_id], image_id, seed) for image_id, clips in labels.items() for clip in clips]
    return pa.concat_tables([schema.empty_table(), *(table_of(part, schema) for part in columns)])


def _columns(labels: ClipLabels, key: str, image_id: int, seed: int) -> dict[str, Any]:
    n, moved = len(labels.params), labels.motion
    constant = {
        "clip_id": clip_id_of(image_id, labels.face_index, labels.clip),
        "face_id": image_id * FACES_PER_IMAGE + labels.face_index,
        "image_id": image_id,
        "key": key,
        "face_index": labels.face_index,
        "seed": seed,
        "note": labels.note,
    }
    return {
        **{name: [value] * n for name, value in constant.items()},
        "frame": np.arange(n, dtype=np.int32),
        "frame_key": labels.frame_keys,
        "width": [width for width, _ in labels.shapes],
        "height": [height for _, height in labels.shapes],
        "source_roi": labels.source_rois,
        "roi": labels.rois,
        "params": labels.params,
        **geometry_columns(labels.geometry),
        "motion_yaw": moved.yaw,
        "motion_pitch": moved.pitch,
        "motion_roll": moved.roll,
        "motion_scale": moved.scale,
        "motion_shift_x": moved.shift[:, 0],
        "motion_shift_y": moved.shift[:, 1],
        "noise_sigma": labels.noise,
        "blur_x": labels.blur[:, 0],
        "blur_y": labels.blur[:, 1],
    }
