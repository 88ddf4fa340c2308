"""The rows of a run's tables: one per input in `images/`, one per face in `faces/`; and what tables of faces share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ddfa_batch.schemas import tables
from ddfa_batch.schemas.arrays import F32, I64
from ddfa_batch.schemas.config import FACES_PER_IMAGE
from ddfa_batch.schemas.faces import Faces, Geometry, ImageRecord
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.schemas.run import RunModel
from ddfa_batch.tasks.files.arrow_columns import column_of, table_of
from ddfa_batch.tasks.geometry import quality
from ddfa_batch.tasks.geometry.openness import openness


def images_table(records: Sequence[ImageRecord], sample_json: bool = False, picture: bool = False) -> pa.Table:
    """The rows of `images/`."""
    schema = tables.images_schema(sample_json, picture)
    return table_of({name: [getattr(record, name, None) for record in records] for name in schema.names}, schema)


def faces_table(
    records: Sequence[ImageRecord],
    faces: Faces,
    g: Geometry,
    vertices_file: str | None,
    model: RunModel,
    smooth: bool = False,
    expressions: Sequence[str] = (),
) -> pa.Table:
    """The rows of `faces/`; `vertices_file` holds their meshes in the same order, where they are written.

    Tracks are not known yet, nor what they are smoothed to (columns that are there with `smooth`).
    expressions: the names of the last coefficients, where the model has such.
    """
    n, n_params = len(faces), faces.params.shape[1]
    record_of = {record.image_id: record for record in records}
    owners = [record_of[i] for i in faces.image_id.tolist()]
    columns: dict[str, Any] = {
        "face_id": face_ids(faces),
        "image_id": faces.image_id,
        "key": [owner.key for owner in owners],
        "face_index": faces.index,
        "box": faces.box,
        "score": faces.score,
        "roi": faces.roi,
        "params": faces.params,
        **geometry_columns(g),
        "roi_outside": faces.roi_outside,
        "param_distance": g.param_distance,
        "sharpness": faces.sharpness,
        "vertices_file": None if vertices_file is None else [vertices_file] * n,
        "vertices_row": None if vertices_file is None else np.arange(n, dtype=np.int32),
        **{name: [getattr(owner, name) for owner in owners] for name in ("video", "frame", "time_s")},
        "track_id": None,
        **shape_columns(g.landmarks, faces.params, expressions),
        **{name: None for name, _, _ in tables.smooth_columns(n_params)},
    }
    return table_of(columns, tables.faces_schema(n_params, model_metadata(model), smooth, expressions))


def shape_columns(landmarks: F32, params: F32, expressions: Sequence[str]) -> dict[str, Any]:
    """Openness of eyes and mouth, and the named expressions, of landmarks (N, 68, 3) and params (N, P)."""
    right, left, mouth = openness(landmarks)
    first = params.shape[1] - len(expressions)
    named = {name: params[:, first + k] for k, (name, _, _) in enumerate(tables.expression_columns(expressions))}
    return {"right_eye_open": right, "left_eye_open": left, "mouth_open": mouth, **named}


def conformed(faces: pa.Table, schema: pa.Schema, expressions: Sequence[str]) -> pa.Table:
    """Rows of `faces/` with the columns that it has by now: those it was written without come from the others."""
    n = len(faces)
    landmarks = tables.matrix(faces["landmarks68"]).reshape(n, N_LANDMARKS, 3)
    params = tables.matrix(faces["params"]).reshape(n, schema.field("params").type.list_size)
    derived = shape_columns(landmarks, params, expressions)
    columns = [
        faces[field.name].cast(field.type)
        if field.name in faces.column_names
        else column_of(derived[field.name], field.type, n)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def face_ids(faces: Faces) -> I64:
    """What faces (N,) are called throughout a run."""
    return faces.image_id * FACES_PER_IMAGE + faces.index


def model_metadata(model: RunModel) -> dict[str, str]:
    """What every table of faces says of the model it was made with."""
    named = {"name": model.name, "digest": model.digest, "licence": model.licence, "topology": model.topology}
    return {f"ddfa_batch.{key}": value for key, value in named.items()}


def geometry_columns(g: Geometry) -> dict[str, Any]:
    """What the faces and the frames table share of a face's geometry."""
    n = len(g.scale)
    yaw, pitch, roll = g.angles.T
    tx, ty, tz = g.translation.T
    return {
        "rotation": g.rotation.reshape(n, 9),
        **{"yaw": yaw, "pitch": pitch, "roll": roll},
        **{"scale": g.scale, "tx": tx, "ty": ty, "tz": tz},
        "landmarks68": g.landmarks.reshape(n, 3 * N_LANDMARKS),
        "landmarks68_visible": g.visible,
        "face_size": quality.face_size(g.landmarks),
    }
