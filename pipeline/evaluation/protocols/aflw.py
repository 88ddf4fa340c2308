"""`aflw`: the labelled ones of AFLW's 21 points, as the paper's authors measure them.

Their code (cleardusk/3DDFA, benchmark_aflw.py) makes the 21 points of the 68 answered ones by the table below, counts
those that are labelled, ears included, and divides by √(w·h) of the box around all 68 true points, which AFLW does not
label: theirs are of a fitted face model, as 300W-LP's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfa_batch.pipeline.evaluation.labelled_points import (
    aligned_sets,
    errors_of_points,
    fitted,
    fitted_yaw,
    labelled_rows,
    points_of,
    rois_around,
)
from ddfa_batch.pipeline.evaluation.protocol import Answers, EvaluatedModel, GroundTruth, Protocol, only_one
from ddfa_batch.schemas.arrays import F64, Bools
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.files.landmark_files import read_landmarks
from ddfa_batch.tasks.fitting.fit_basis import landmark_means
from ddfa_batch.tasks.geometry.boxes import labelled_sizes

_NAME = "aflw"
#: AFLW's 21 points as means of the 68, as the authors evaluate: an ear is the third point of the jaw from its end.
AUTHORS_21: tuple[tuple[int, ...], ...] = (
    *((17,), (19,), (21,), (22,), (24,), (26,)),
    *((36,), tuple(range(36, 42)), (39,)),
    *((42,), tuple(range(42, 48)), (45,)),
    *((2,), (31,), (30,), (35,), (14,)),
    *((48,), tuple(range(60, 68)), (54,), (8,)),
)


def _read(labels: tuple[Path, ...], model: EvaluatedModel) -> GroundTruth:
    path = only_one(labels, _NAME)
    labelled, sets = aligned_sets((path,), len(AUTHORS_21), _NAME)
    kept = labelled_rows(sets)
    ((name, points),) = sets.items()
    points, by_21 = points[kept], fitted(points[kept], model)
    whole = _whole_faces(path, model, np.where(by_21.converged[:, None, None], by_21.landmarks, np.nan), kept)
    return GroundTruth(
        keys=tuple(key for key, keep in zip(labelled.keys, kept, strict=True) if keep),
        points={name: points},
        sizes={name: labelled_sizes(whole)},
        rois=rois_around(whole),
        yaw=labelled.yaw[kept] if labelled.yaw is not None else fitted_yaw(by_21, model),
    )


def _whole_faces(path: Path, model: EvaluatedModel, by_21: F64, kept: Bools) -> F64:
    """All 68 points (N, 68, 2) of the labelled faces.

    Those labelled beside the 21, where all of them are; else those of the face model fitted to them, where some are;
    else of the model fitted to the 21, which is `by_21`: NaN where that failed.
    """
    beside = read_landmarks(path, N_LANDMARKS)
    if beside.landmarks.shape[1] != N_LANDMARKS:
        return by_21[..., :2]
    labelled = points_of(beside)[kept][..., :2]
    by_68 = fitted(labelled, model)
    modelled = np.where(by_68.converged[:, None, None], by_68.landmarks, by_21)[..., :2]
    complete: Bools = np.asarray(np.isfinite(labelled).all(axis=(1, 2)))
    return np.where(complete[:, None, None], labelled, modelled)


def _errors(truth: GroundTruth, answers: Answers, _: EvaluatedModel) -> dict[str, F64]:
    means = landmark_means(AUTHORS_21)
    return errors_of_points(truth, answers, lambda landmarks: means @ landmarks)


PROTOCOL = Protocol(
    name=_NAME,
    measured="mean distance of the labelled ones of AFLW's 21 points",
    normaliser="√(w·h) of the box around the true 68 points",
    read=_read,
    errors=_errors,
)
