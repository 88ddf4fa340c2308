"""`florence`: the shapes of answers against upright scans that are named as the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfa_batch.pipeline.evaluation.protocol import Answers, EvaluatedModel, GroundTruth, Protocol, only_one
from ddfa_batch.schemas.arrays import F64
from ddfa_batch.schemas.errors import InputError, ShapeError
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.evaluation.scan_alignment import scan_error
from ddfa_batch.tasks.files import scan_files

_NAME = "florence"
#: The outer corners of the eyes and the tip of the nose among the 68 points.
_EYES, _NOSE = (36, 45), 30


def _read(labels: tuple[Path, ...], _: EvaluatedModel) -> GroundTruth:
    folder, endings = only_one(labels, _NAME), ", ".join(scan_files.SUFFIXES)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; the protocol {_NAME} takes one of scans ({endings}).")
    files = tuple(sorted(file for file in folder.rglob("*") if file.suffix.lower() in scan_files.SUFFIXES))
    if not files:
        raise InputError(f"{folder} holds no scans ({endings}).")
    return GroundTruth(tuple(file.relative_to(folder).as_posix() for file in files), scans=files)


def _errors(truth: GroundTruth, answers: Answers, model: EvaluatedModel) -> dict[str, F64]:
    morphable, errors = model.morphable, np.full(len(answers.found), np.inf)
    index = morphable.landmarks
    eyes, nose = (int(index[_EYES[0]]), int(index[_EYES[1]])), int(index[_NOSE])
    for i in np.flatnonzero(answers.found):
        shape = morphable.mean + np.tensordot(answers.params[i, N_POSE:], morphable.basis, axes=1)
        try:
            errors[i] = scan_error(shape, eyes, nose, scan_files.read_scan(truth.scans[i])).nme
        except ShapeError as fault:
            raise InputError(f"{truth.scans[i]}: {fault}") from None
    return {"scans": errors}


PROTOCOL = Protocol(
    name=_NAME,
    measured="mean distance of the scan's points from the mesh, rigidly aligned and scaled",
    normaliser="the scan's outer interocular distance",
    read=_read,
    errors=_errors,
)
