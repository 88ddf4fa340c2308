"""Landmarks on disk: Parquet and CSV tables, iBUG's .pts, and the .mat files of AFLW2000-3D and 300W-LP."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ddfa_batch.schemas.arrays import F64, check_shape
from ddfa_batch.schemas.errors import InputError

#: Points of the markups that can be read: iBUG's 68 and AFLW's 21.
MARKUPS = (68, 21)
#: Columns taken for the picture's name and for the points, in this order.
_KEY_COLUMNS = ("key", "path", "image", "file", "filename", "file_name", "image_path", "name")
_POINT_COLUMNS = ("landmarks68", "pts68", "landmarks", "pts21", "landmarks21")
#: Columns of weights, one number a point; `vis68` as in the AFLW labels: 1 seen, 2 covered, 0 without a position.
_WEIGHT_COLUMNS = ("weights", "vis68", "landmarks68_visible")
_YAW_COLUMNS = ("yaw", "yaw_deg")
#: .pts and .mat count pixels from 1, as MATLAB does.
_MATLAB_ORIGIN = 1.0
#: A .pts or .mat file larger than this holds no landmarks of one face.
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class LabelledFaces:
    """Landmarks of faces, one row each: keys; landmarks (N, 68 or 21, 2 or 3) in image pixels, y down, NaN where
    missing; weights (N, L); problems: what is wrong with a key's file, whose row is NaN; yaw (N,) in degrees, where
    the labels tell it.
    """

    keys: tuple[str, ...]
    landmarks: F64
    weights: F64
    problems: dict[str, str] = field(default_factory=dict)
    yaw: F64 | None = None

    def __post_init__(self) -> None:
        check_shape("landmarks", self.landmarks, len(self.keys), None, None)
        check_shape("weights", self.weights, len(self.keys), self.landmarks.shape[1])
        if self.landmarks.shape[1] not in MARKUPS or self.landmarks.shape[2] not in (2, 3):
            raise InputError(f"Landmarks must be 68 or 21 points in 2 or 3 dimensions, not {self.landmarks.shape[1:]}.")


def read_landmarks(path: Path) -> LabelledFaces:
    """Read a table, one .pts or .mat file, or a folder of either kind of file (searched to its depths).

    Raises `InputError` naming the file for what cannot be used at all; a bad file in a folder is a row of NaN.
    """
    if path.is_dir():
        return _folder(path)
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq", ".csv", ".tsv"):
        return _table(path)
    if suffix in _READERS:
        points = _READERS[suffix](path)
        return LabelledFaces((path.stem,), points[None], np.ones((1, len(points))))
    raise InputError(f"{path} holds no landmarks: give a folder, or a .parquet, .csv, .pts or .mat file.")


def read_pts(path: Path) -> F64:
    """Points (L, 2) of an iBUG .pts file, counted from 0."""
    try:
        body = _bytes(path).decode("utf-8").split("{", 1)[1].split("}", 1)[0]
        points = np.array([[float(x) for x in line.split()] for line in body.splitlines() if line.strip()])
    except (UnicodeDecodeError, IndexError, ValueError):
        raise InputError(f"{path} is no .pts file: it has no lines of numbers between braces.") from None
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"{path} must have two numbers in each line, but has an array of {points.shape}.")
    return _counted(path, points - _MATLAB_ORIGIN)


def read_mat(path: Path) -> F64:
    """Points (68, 3) of an AFLW2000-3D file (`pt3d_68`), or (68, 2) of a 300W-LP file (`pt2d`), counted from 0.

    Their z grows towards the viewer, as the model's.
    """
    from scipy.io import loadmat

    _bytes(path)
    try:
        content: dict[str, Any] = loadmat(path, variable_names=["pt3d_68", "pt2d"])
    except Exception as fault:  # scipy raises a different kind for every way a file can be wrong
        raise InputError(f"{path} is no .mat file ({type(fault).__name__}).") from None
    for name in ("pt3d_68", "pt2d"):
        if name in content:
            points = np.asarray(content[name], np.float64)
            if points.ndim != 2 or points.shape[0] not in (2, 3):
                raise InputError(f"{path}: {name} must have 2 or 3 rows, but has shape {points.shape}.")
            return _counted(path, points.T - _MATLAB_ORIGIN)
    raise InputError(f"{path} has neither pt3d_68 nor pt2d.")


def _mat_yaw(path: Path) -> float:
    """Yaw in degrees of a file's Pose_Para (pitch, yaw, roll in radians, …); NaN without one."""
    from scipy.io import loadmat

    para = np.ravel(loadmat(path, variable_names=["Pose_Para"]).get("Pose_Para", []))
    return float(np.degrees(para[1])) if len(para) >= 3 and np.isfinite(para[1]) else float("nan")


_READERS: dict[str, Callable[[Path], F64]] = {".pts": read_pts, ".mat": read_mat}


def _counted(path: Path, points: F64) -> F64:
    if len(points) not in MARKUPS:
        raise InputError(f"{path} has {len(points)} points; 68 or 21 are understood.")
    # AFLW2000-3D writes −1 for a point that is not labelled; no point of a picture lies there exactly.
    points[(points[:, :2] == -1 - _MATLAB_ORIGIN).all(axis=1)] = np.nan
    return points


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is far too large for the landmarks of one face.")
        return path.read_bytes()
    except OSError as fault:
        raise InputError(f"{path} cannot be read ({fault.strerror}).") from None


def _folder(folder: Path) -> LabelledFaces:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _READERS)
    if not files:
        raise InputError(f"{folder} holds no .pts and no .mat files.")
    keys, found, problems, yaws = [], [], {}, []
    for file in files:
        key = file.relative_to(folder).with_suffix("").as_posix()
        try:
            found.append(_READERS[file.suffix.lower()](file))
        except InputError as fault:
            problems[key] = str(fault)
            found.append(np.full((0, 2), np.nan))
        fine = file.suffix.lower() == ".mat" and key not in problems
        yaws.append(_mat_yaw(file) if fine else float("nan"))
        keys.append(key)
    shapes = {points.shape for points in found if len(points)}
    if not shapes:
        raise InputError(f"No file of {folder} holds landmarks: {next(iter(problems.values()))}")
    if len(shapes) > 1:
        raise InputError(f"{folder} mixes markups: {', '.join(str(s) for s in sorted(shapes))}; separate them.")
    shape = shapes.pop()
    rows = np.stack([points if len(points) else np.full(shape, np.nan) for points in found])
    yaw = np.array(yaws) if np.isfinite(yaws).any() else None
    return LabelledFaces(tuple(keys), rows, np.ones(rows.shape[:2]), problems, yaw)


def _table(path: Path) -> LabelledFaces:
    try:
        table = _read_table(path)
    except (pa.ArrowInvalid, OSError) as fault:
        raise InputError(f"{path} cannot be read as a table ({str(fault).splitlines()[0][:200]}).") from None
    key = _first(path, table, _KEY_COLUMNS, "the picture's name")
    points = _list_column(path, table, _POINT_COLUMNS)
    points = _wide_columns(path, table) if points is None else points
    n_points = next((n for n in MARKUPS if points.shape[1] in (2 * n, 3 * n)), None)
    if n_points is None:
        raise InputError(f"{path} has {points.shape[1]} numbers a face; 68 or 21 points of x, y or x, y, z are needed.")
    landmarks = points.reshape(len(points), n_points, -1)
    weights = _list_column(path, table, _WEIGHT_COLUMNS)
    if weights is None or weights.shape[1] != n_points:
        weights = np.ones(landmarks.shape[:2])
    weights = np.where(np.isfinite(weights) & (weights > 0), 1.0 if _is_code(table) else weights, 0.0)
    named = next((name for name in _YAW_COLUMNS if name in table.column_names), None)
    try:
        yaw = None if named is None else table[named].cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        raise InputError(f"{path}: column '{named}' must hold degrees.") from None
    return LabelledFaces(tuple(map(str, table[key].to_pylist())), landmarks, weights, yaw=yaw)


def _is_code(table: pa.Table) -> bool:
    """Whether the weights are AFLW's codes of visibility rather than numbers to weigh with."""
    return "weights" not in table.column_names


def _read_table(path: Path) -> pa.Table:
    if path.suffix.lower() in (".csv", ".tsv"):
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        return pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter))
    names = pq.read_schema(path).names
    wanted = {*_KEY_COLUMNS, *_POINT_COLUMNS, *_WEIGHT_COLUMNS, *_YAW_COLUMNS}
    return pq.read_table(path, columns=[name for name in names if name in wanted])


def _first(path: Path, table: pa.Table, names: tuple[str, ...], what: str) -> str:
    for name in names:
        if name in table.column_names:
            return name
    raise InputError(f"{path} has no column with {what}; it may be called {', '.join(names)}.")


def _list_column(path: Path, table: pa.Table, names: tuple[str, ...]) -> F64 | None:
    """The first of the columns that is there, as an array (N, n); None if none is."""
    name = next((n for n in names if n in table.column_names), None)
    if name is None:
        return None
    rows = table[name].to_pylist()
    lengths = {len(row) for row in rows if row is not None}
    if len(lengths) > 1:
        raise InputError(
            f"{path}: the lists of column '{name}' have different lengths ({min(lengths)} … {max(lengths)})."
        )
    width = lengths.pop() if lengths else 2 * MARKUPS[0]
    missing = [np.nan] * width
    with contextlib.suppress(TypeError, ValueError):
        return np.array([row or missing for row in rows], np.float64).reshape(len(rows), width)
    raise InputError(f"{path}: column '{name}' must hold lists of numbers.")


def _wide_columns(path: Path, table: pa.Table) -> F64:
    """x0, y0 (, z0), x1, … as CSV files have them, (N, n)."""
    names = set(table.column_names)
    axes = [axis for axis in "xyz" if f"{axis}0" in names]
    count = sum(f"x{i}" in names for i in range(max(MARKUPS)))
    wanted = [f"{axis}{i}" for i in range(count) for axis in axes]
    if axes[:2] != ["x", "y"] or not set(wanted) <= names:
        raise InputError(f"{path} has no points: neither a column {', '.join(_POINT_COLUMNS)} nor x0, y0, x1, y1, …")
    try:
        return np.stack([table[name].cast(pa.float64()).to_numpy() for name in wanted], axis=1)
    except pa.ArrowInvalid:
        raise InputError(f"{path}: the columns x0, y0, … must hold numbers.") from None
