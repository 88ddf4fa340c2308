"""`aflw2000-3d`: 68 points, three bins of yaw and their mean, of one or more sets of labels."""

from __future__ import annotations

from pathlib import Path

from ddfa_batch.pipeline.evaluation.labelled_points import aligned_sets, landmark_errors, truth_of_sets
from ddfa_batch.pipeline.evaluation.protocol import EvaluatedModel, GroundTruth, Protocol
from ddfa_batch.schemas.morphable import N_LANDMARKS

_NAME = "aflw2000-3d"


def _read(labels: tuple[Path, ...], model: EvaluatedModel) -> GroundTruth:
    return truth_of_sets(*aligned_sets(labels, N_LANDMARKS, _NAME), model)


PROTOCOL = Protocol(
    name=_NAME,
    measured="mean distance of the 68 points in the picture",
    normaliser="√(w·h) of the box around the true points",
    read=_read,
    errors=landmark_errors,
)
