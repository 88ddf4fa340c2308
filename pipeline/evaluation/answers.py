"""What is measured: the faces of a run that belong to the labels, or what a model says to the labels' own rois."""

from __future__ import annotations

import numpy as np

from ddfa_batch.pipeline.evaluation.protocol import Answers, EvaluatedModel, GroundTruth, PictureOf
from ddfa_batch.pipeline.results import Results
from ddfa_batch.schemas.arrays import F32, F64, I64
from ddfa_batch.schemas.config import MIRROR, NO_AVERAGE
from ddfa_batch.schemas.errors import ImageError, InputError
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.schemas.tables import matrix
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.evaluation.landmark_errors import match_box
from ddfa_batch.tasks.files.inputs import without_suffix
from ddfa_batch.tasks.geometry.mirroring import MirrorMap
from ddfa_batch.tasks.geometry.reconstruct import points
from ddfa_batch.tasks.inference import refinement
from ddfa_batch.tasks.inference.regressor import Regressor


def answers_of_run(run: Results, truth: GroundTruth, model: EvaluatedModel) -> Answers:
    """The run's face that holds the middle of the true points, the nearest one; without points, the best face."""
    table = run.faces(columns=["key", "score", "box", "roi", "params"])
    rows = _matching_rows(run, truth)
    found = np.flatnonzero(rows >= 0)
    params = np.full((len(rows), model.morphable.layout.size), np.nan, np.float32)
    rois = np.full((len(rows), 4), np.nan)
    if len(found):
        params[found], rois[found] = (matrix(table[name])[rows[found]] for name in ("params", "roi"))
    return _answers(params, rois, model)


def _matching_rows(run: Results, truth: GroundTruth) -> I64:
    """The row (N,) of the run's faces table that answers each labelled face; −1 without any."""
    table = run.faces(columns=["key", "score", "box"])
    boxes, scores = matrix(table["box"]), np.asarray(table["score"])
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(table["key"].to_pylist()):
        rows_of.setdefault(key, []).append(row)
    by_stem = {without_suffix(key): rows for key, rows in rows_of.items()}
    matching = np.full(len(truth.keys), -1, np.int64)
    for i, key in enumerate(truth.keys):
        rows = rows_of.get(key) or by_stem.get(without_suffix(key)) or []
        if not rows:
            continue
        chosen: int | None = int(np.argmax(scores[rows]))
        if truth.first is not None:
            chosen = match_box(boxes[rows], np.nanmean(truth.first[i, :, :2], axis=0))
        if chosen is not None:
            matching[i] = rows[chosen]
    return matching


def answers_of_model(
    model: EvaluatedModel, truth: GroundTruth, picture_of: PictureOf, refine: int, average: str = NO_AVERAGE
) -> Answers:
    """The model's answers to the crops around the true points, and then around its own so many times.

    The last is averaged with that to the mirrored crop, if so asked for.
    """
    if truth.rois is None:
        raise InputError("These labels tell no rois to show a model; process the pictures and give that run instead.")
    manifest = model.bundle.manifest
    regress = Regressor(loaded_model(str(model.bundle.folder), model.bundle.digest).regressor, manifest)
    deviations = np.array(manifest.param_std)[N_POSE:]
    mirror = MirrorMap.of(model.morphable, deviations) if average == MIRROR else None
    params = np.full((len(truth.keys), model.morphable.layout.size), np.nan, np.float32)
    rois = np.full((len(truth.keys), 4), np.nan)
    for i in np.flatnonzero(np.isfinite(truth.rois).all(axis=1)):
        picture = picture_of(int(i))
        if picture is None:
            continue
        roi = truth.rois[i : i + 1]
        given = Detections(roi.astype(np.float32), np.ones(1, np.float32))
        try:
            face = refinement.refine(
                picture,
                refinement.regress_faces(picture, given, roi, regress),
                regress,
                model.landmarks,
                refine,
                mirror,
            )
        except ImageError:  # numbers that are not finite are no answer
            continue
        params[i], rois[i] = face.params[0], face.rois[0]
    return _answers(params, rois, model)


def _answers(params: F32, rois: F64, model: EvaluatedModel) -> Answers:
    """Answers of parameters (N, P) and rois (N, 4): a face with any number that is none was not found."""
    landmarks = np.full((len(params), N_LANDMARKS, 3), np.nan)
    rows = np.flatnonzero(np.isfinite(params).all(axis=1) & np.isfinite(rois).all(axis=1))
    landmarks[rows] = points(model.landmarks, params[rows], rois[rows], model.size)
    found = np.isfinite(landmarks).all(axis=(1, 2))
    return Answers(found, params, rois, landmarks)
