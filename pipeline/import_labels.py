"""Labels of other data sets as tables of faces: 300W-LP's and AFLW2000-3D's .mat files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ddfa_batch.schemas import tables
from ddfa_batch.schemas.arrays import F32, F64
from ddfa_batch.schemas.errors import DdfaError, InputError
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import images, store
from ddfa_batch.tasks.files.arrow_columns import table_of
from ddfa_batch.tasks.files.mat_files import read_variables
from ddfa_batch.tasks.geometry import crop, pose, quality
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, crop_pose, points

#: Columns of a labels table: those of `faces` that labels can fill.
COLUMNS = ("key", "face_index", "roi", "params", "yaw", "pitch", "roll", "landmarks68", "face_size", "param_distance")
#: Variables of a .mat file that are read; nothing else of it is.
_VARIABLES = ["Pose_Para", "Shape_Para", "Exp_Para"]
#: Names of pictures that may lie beside a .mat file, as 300W-LP and AFLW2000-3D have them.
_PICTURES = (".jpg", ".jpeg", ".png")


def import_300w_lp(folder: Path, table: Path, bundle: Bundle) -> tuple[int, list[str]]:
    """Convert every .mat file below `folder` to a row of the Parquet file `table`.

    Pose_Para is pitch, yaw, roll (radians), t (pixels, MATLAB's count from 1, y up) and f; the vertices are f·R·S + t
    with R = R_x(pitch)·R_y(yaw)·R_z(roll) in Zhu's convention. Shape_Para (199) and Exp_Para (29) are cut to
    the model's first coefficients, which moves AFLW2000-3D's landmarks by 0.9 % NME (benchmarks/labels_300w_lp.py).
    Gives
    the number of rows, and a sentence for every file that was left out. Raises `InputError` if none is left.
    """
    if not bundle.manifest.topology.startswith("bfm"):
        raise InputError(
            f"300W-LP's parameters are those of the Basel Face Model; the model '{bundle.manifest.name}' has the "
            f"topology '{bundle.manifest.topology}'. Name another with --model."
        )
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the one that holds the .mat files.")
    model = load_morphable(bundle)
    rows, faults = [], []
    for path in sorted(Path(base) / name for base, _, names in os.walk(folder) for name in names):
        if path.suffix.lower() == ".mat":
            try:
                rows.append(_row(folder, path, model))
            except DdfaError as fault:
                faults.append(f"{path.relative_to(folder)}: {fault}")
    if not rows:
        raise InputError(f"{folder} holds no .mat file of 300W-LP's kind. {' '.join(faults[:1])}".strip())
    store.write_table(table, _table(rows, bundle, model))
    return len(rows), faults


def _row(folder: Path, path: Path, model: MorphableModel) -> tuple[str, F64, F32]:
    """Key of the picture, T (3, 4) in its pixels and the coefficients of one .mat file."""
    picture = next(
        (p for s in _PICTURES for p in (path.with_suffix(s), path.with_suffix(s.upper())) if p.is_file()), None
    )
    if picture is None:
        raise InputError("there is no picture of this name beside it")
    found = read_variables(path, _VARIABLES)
    if missing := [name for name in _VARIABLES if name not in found]:
        raise InputError(f"it holds no {', '.join(missing)}")
    numbers = {name: found[name].ravel() for name in _VARIABLES}
    n_expression = model.layout.n_expression
    shape, expression = numbers["Shape_Para"][: model.n_shape], numbers["Exp_Para"][:n_expression]
    para = numbers["Pose_Para"]
    if para.size != 7 or shape.size != model.n_shape or expression.size != n_expression:
        sizes = ", ".join(f"{name} {value.size}" for name, value in numbers.items())
        raise InputError(f"its parameters have the wrong lengths ({sizes})")
    if not all(np.isfinite(value).all() for value in numbers.values()):
        raise InputError("its parameters are not finite")
    _, height = images.dimensions(images.read_bytes(picture))
    key = picture.relative_to(folder).as_posix()
    return key, labelled_pose(para, height), np.concatenate([shape, expression]).astype(np.float32)


def labelled_pose(para: F64, height: int) -> F64:
    """T (3, 4) in image pixels (y down, from 0) of Pose_Para (7,) in an image of `height`."""
    x, y, z = para[:3]
    about_x = np.array([[1, 0, 0], [0, np.cos(x), np.sin(x)], [0, -np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), np.sin(z), 0], [-np.sin(z), np.cos(z), 0], [0, 0, 1]])
    T = np.concatenate([para[6] * about_x @ about_y @ about_z, para[3:6, None]], axis=1)
    T[1] *= -1
    T[:2, 3] += [-1, height]  # y = height + 1 − y, counted from 1
    return T


def _table(rows: list[tuple[str, F64, F32]], bundle: Bundle, model: MorphableModel) -> pa.Table:
    manifest, n = bundle.manifest, len(rows)
    T = np.stack([row[1] for row in rows])
    basis, size = PointBasis.of(model, model.landmarks), manifest.input_size
    whole = np.tile([0.0, 0, size, size], (n, 1))
    params = np.zeros((n, manifest.layout.size), np.float32)
    params[:, 12:] = np.stack([row[2] for row in rows])
    params[:, :12] = crop_pose(T, whole, size).reshape(n, 12)
    rois = crop.roi_from_landmarks(points(basis, params, whole, size))
    params[:, :12] = crop_pose(T, rois, size).reshape(n, 12)
    landmarks = points(basis, params, rois, size)
    rotation, _ = pose.rotation_and_scale(pose.upright(T))
    angles = pose.angles(rotation).astype(np.float32)
    columns: dict[str, Any] = {
        "key": [row[0] for row in rows],
        "face_index": np.zeros(n, np.int32),
        "roi": rois,
        "params": params,
        "yaw": angles[:, 0],
        "pitch": angles[:, 1],
        "roll": angles[:, 2],
        "landmarks68": landmarks.reshape(n, -1),
        "face_size": quality.face_size(landmarks),
        "param_distance": quality.param_distance(params, manifest),
    }
    metadata = {
        "ddfa_batch.digest": bundle.digest,
        "ddfa_batch.name": manifest.name,
        "ddfa_batch.licence": manifest.licence,
        "ddfa_batch.topology": manifest.topology,
    }
    schema = tables.faces_schema(manifest.layout.size, metadata)
    schema = pa.schema([schema.field(name) for name in COLUMNS], metadata=schema.metadata)
    return table_of(columns, schema)
