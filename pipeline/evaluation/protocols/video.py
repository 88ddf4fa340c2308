"""`video`: 68 points of frames, and the stability between adjacent frames, of clips or of any labelled video."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import numpy as np

from ddfa_batch.pipeline.evaluation.labelled_points import (
    labelled_rows,
    landmark_errors,
    points_of,
    read_points,
    rois_around,
)
from ddfa_batch.pipeline.evaluation.pictures import clip_pictures
from ddfa_batch.pipeline.evaluation.protocol import Answers, EvaluatedModel, GroundTruth, Protocol, only_one
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.arrays import F64, I64
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.evaluation.landmark_errors import stability
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.landmark_files import LabelledFaces
from ddfa_batch.tasks.geometry.boxes import labelled_sizes

_NAME = "video"


def _read(labels: tuple[Path, ...], model: EvaluatedModel) -> GroundTruth:
    path = only_one(labels, _NAME)
    if path.is_dir() and (path / store.RUN).exists():
        return _clips(path, model)
    return _frames(path)


def _clips(path: Path, model: EvaluatedModel) -> GroundTruth:
    """The exact labels of a run of `synth-videos`."""
    run = open_run(path, model.bundle.folder)
    if run.run.kind != "synth-videos":
        raise InputError(
            f"{path} is a run of {run.run.kind}, whose faces are no labels of videos; give a synth-videos run, "
            "or a table of labelled frames."
        )
    columns = ["clip_id", "frame", "frame_key", "landmarks68"]
    table = run.frames(columns=columns).sort_by([("clip_id", "ascending"), ("frame", "ascending")])
    if not len(table):
        raise InputError(f"{path} holds no clips.")
    landmarks = np.stack(table["landmarks68"].to_numpy()).reshape(-1, N_LANDMARKS, 3).astype(np.float64)
    clip, frame = np.asarray(table["clip_id"]), np.asarray(table["frame"]).astype(np.int64)
    return GroundTruth(
        keys=tuple(table["frame_key"].to_pylist()),
        points={"clips": landmarks},
        sizes={"clips": labelled_sizes(landmarks)},
        rois=rois_around(landmarks),
        video=clip,
        frame=frame,
        pictures=clip_pictures(run, clip, frame),
    )


def _frames(path: Path) -> GroundTruth:
    """Labelled frames, of the videos and with the numbers that a table tells, else that their keys do."""
    labelled = read_points(path, N_LANDMARKS, _NAME)
    points = points_of(labelled)
    video, frame = _videos(labelled), _frame_numbers(labelled)
    order = np.lexsort([frame, video])
    order = order[labelled_rows({path.name: points})[order]]
    if not len(order):
        raise InputError(f"{path} labels no point of any frame.")
    name = path.stem or path.name
    return GroundTruth(
        keys=tuple(labelled.keys[row] for row in order),
        points={name: points[order]},
        sizes={name: labelled_sizes(points[order])},
        rois=rois_around(points[order]),
        video=video[order],
        frame=frame[order],
    )


def _videos(labelled: LabelledFaces) -> I64:
    """A number (N,) for each row's video: that of the column `video`, else the folder its key lies in."""
    names = labelled.video or tuple(str(PurePosixPath(key).parent) for key in labelled.keys)
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)


def _frame_numbers(labelled: LabelledFaces) -> I64:
    """Numbers (N,) of the column `frame`, else the last ones in the names of the keys."""
    if labelled.frame is not None:
        return labelled.frame
    found = [re.findall(r"\d+", PurePosixPath(key).stem) for key in labelled.keys]
    unnumbered = next((key for key, digits in zip(labelled.keys, found, strict=True) if not digits), None)
    if unnumbered is not None:
        raise InputError(f"'{unnumbered}' has no number, which its frame would have; give a column 'frame'.")
    return np.array([int(digits[-1]) for digits in found], np.int64)


def _stability(truth: GroundTruth, answers: Answers) -> F64:
    assert truth.video is not None
    assert truth.frame is not None
    assert truth.first is not None
    moved = stability(np.where(answers.found[:, None, None], answers.landmarks, 0.0), truth.first)
    adjacent = (np.diff(truth.video) == 0) & (np.diff(truth.frame) == 1)
    return moved[adjacent & answers.found[1:] & answers.found[:-1] & np.isfinite(moved)]


PROTOCOL = Protocol(
    name=_NAME,
    measured="mean distance of the 68 points, and of their motion between adjacent frames",
    normaliser="√(w·h) of the box around the true points",
    read=_read,
    errors=landmark_errors,
    stability=_stability,
)
