"""Labelled points of faces as ground truth: sets of them by name, yaws and rois that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ddfa_batch.pipeline.evaluation.protocol import Answers, EvaluatedModel, GroundTruth
from ddfa_batch.schemas.arrays import F64, Bools
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.evaluation.landmark_errors import nme
from ddfa_batch.tasks.files.landmark_files import LabelledFaces, read_landmarks
from ddfa_batch.tasks.fitting.fit_basis import AFLW21, FitBasis, aflw21_weights
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.landmark_fit import Fitted, fit
from ddfa_batch.tasks.geometry import crop, pose
from ddfa_batch.tasks.geometry.boxes import labelled_boxes, labelled_sizes
from ddfa_batch.tasks.geometry.reconstruct import image_pose

#: Most steps of a fit, and fewest points: of AFLW's 14,503 crops 99.9 % converge by these, 98.6 % by the usual ones.
_FIT_STEPS, _FIT_POINTS = 60, 4


def read_points(path: Path, n_points: int, protocol: str) -> LabelledFaces:
    """Labels of `n_points` a face; raises `InputError` for others."""
    labelled = read_landmarks(path, n_points)
    if labelled.landmarks.shape[1] != n_points:
        raise InputError(
            f"{path} has {labelled.landmarks.shape[1]} points a face; the protocol {protocol} takes {n_points}."
        )
    return labelled


def points_of(labelled: LabelledFaces) -> F64:
    """Its points (N, L, 2 or 3), NaN where they have no weight."""
    return np.where((labelled.weights > 0)[..., None], labelled.landmarks, np.nan)


def aligned_sets(labels: tuple[Path, ...], n_points: int, protocol: str) -> tuple[LabelledFaces, dict[str, F64]]:
    """The first set's labels, and the points of every set in the order of its rows, by the files' names."""
    read = {path.stem or path.name: read_points(path, n_points, protocol) for path in labels}
    if len(read) < len(labels):
        raise InputError(
            f"Two files of labels are called {labels[0].stem}; rename one, for they are told apart by name."
        )
    first = next(iter(read.values()))
    sets = {}
    for name, labelled in read.items():
        row_of = {key: row for row, key in enumerate(labelled.keys)}
        missing = [key for key in first.keys if key not in row_of]
        if missing:
            raise InputError(f"{name} has no labels of '{missing[0]}' ({len(missing):,} are missing).")
        sets[name] = points_of(labelled)[[row_of[key] for key in first.keys]]
    return first, sets


def labelled_rows(sets: dict[str, F64]) -> Bools:
    """Which rows (N,) have at least one labelled point in every set."""
    counts = [np.count_nonzero(np.isfinite(points).all(axis=2), axis=1) for points in sets.values()]
    return np.asarray(np.min(counts, axis=0) > 0)


def truth_of_sets(first: LabelledFaces, sets: dict[str, F64], model: EvaluatedModel) -> GroundTruth:
    """Rows with points in every set; errors are of √(w·h) of each set's own box, rois are those of the first."""
    kept = labelled_rows(sets)
    sets = {name: points[kept] for name, points in sets.items()}
    points = next(iter(sets.values()))
    return GroundTruth(
        keys=tuple(key for key, keep in zip(first.keys, kept, strict=True) if keep),
        points=sets,
        sizes={name: labelled_sizes(each) for name, each in sets.items()},
        rois=rois_around(points),
        yaw=first.yaw[kept] if first.yaw is not None else fitted_yaw(fitted(points, model), model),
    )


def landmark_errors(truth: GroundTruth, answers: Answers, _: EvaluatedModel | None = None) -> dict[str, F64]:
    """Mean distance of the 68 points in the picture, of each set's normaliser."""
    return errors_of_points(truth, answers, lambda landmarks: landmarks)


def errors_of_points(truth: GroundTruth, answers: Answers, markup: Callable[[F64], F64]) -> dict[str, F64]:
    """`nme` of the answered 68 points (N, 68, 3) in the labels' `markup`; infinite where nothing was found."""
    found = markup(answers.landmarks)
    return {name: nme(found, points, truth.sizes[name]) for name, points in truth.points.items()}


def rois_around(points: F64) -> F64:
    """`roi_from_landmarks` (N, 4) of the points (N, L, ≥2) that are labelled; NaN without any."""
    return crop.roi_from_landmarks(labelled_boxes(points).reshape(-1, 2, 2))


def fitted(points: F64, model: EvaluatedModel) -> Fitted:
    """The face model fitted to 68 or AFLW's 21 points, to as few as determine a pose: hard faces are to count too."""
    config = FitConfig(steps=_FIT_STEPS, min_points=_FIT_POINTS, size=model.size)
    if points.shape[1] != len(AFLW21):
        return fit(points, model.morphable, model.prior(), config=config)
    basis, weights = FitBasis.aflw21(model.morphable), aflw21_weights(len(points))
    return fit(points, model.morphable, model.prior(), basis=basis, weights=weights, config=config)


def fitted_yaw(found: Fitted, model: EvaluatedModel) -> F64:
    """Yaw (N,) in degrees of fitted faces; NaN where the fit failed."""
    yaw = np.full(len(found.converged), np.nan)
    rows = np.flatnonzero(found.converged)
    T = image_pose(found.params[rows, :N_POSE].reshape(-1, 3, 4).astype(np.float64), found.rois[rows], model.size)
    yaw[rows] = pose.yaw_of(T)
    return yaw
