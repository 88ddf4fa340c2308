"""`aflw2000-3d-dense`: all vertices of the face model in three dimensions, of labelled parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfa_batch.pipeline.evaluation.labelled_points import rois_around
from ddfa_batch.pipeline.evaluation.protocol import Answers, EvaluatedModel, GroundTruth, Protocol, only_one
from ddfa_batch.schemas.arrays import F64
from ddfa_batch.tasks.evaluation.landmark_errors import nme_3d
from ddfa_batch.tasks.files.given_faces import read_faces
from ddfa_batch.tasks.geometry import pose
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, image_pose, points

_NAME = "aflw2000-3d-dense"
#: Faces whose meshes are in memory at once.
_BLOCK = 64


def _read(labels: tuple[Path, ...], model: EvaluatedModel) -> GroundTruth:
    path, layout = only_one(labels, _NAME), model.morphable.layout
    given = read_faces(path, layout.size, model.bundle.digest, 0)
    rows = [(key, params[i], rois[i]) for key, (_, params, rois) in given.by_key.items() for i in range(len(params))]
    params, rois = np.stack([row[1] for row in rows]), np.stack([row[2] for row in rows])
    landmarks = points(model.landmarks, params, rois, model.size).astype(np.float64)
    return GroundTruth(
        keys=tuple(row[0] for row in rows),
        points={path.stem: landmarks},
        rois=rois_around(landmarks),
        yaw=pose.yaw_of(image_pose(layout.pose(params), rois, model.size)),
        params=params,
        params_rois=rois,
    )


def _errors(truth: GroundTruth, answers: Answers, model: EvaluatedModel) -> dict[str, F64]:
    assert truth.params is not None
    assert truth.params_rois is not None
    basis, errors = PointBasis.of(model.morphable), np.full(len(answers.found), np.inf)
    rows = np.flatnonzero(answers.found)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        found = points(basis, answers.params[block], answers.rois[block], model.size)
        true = points(basis, truth.params[block], truth.params_rois[block], model.size)
        errors[block] = nme_3d(found, true)
    return dict.fromkeys(truth.points, errors)


PROTOCOL = Protocol(
    name=_NAME,
    measured="mean 3-D distance of all vertices, mean depths made equal",
    normaliser="√(w·h) of the box around the true vertices",
    read=_read,
    errors=_errors,
)
