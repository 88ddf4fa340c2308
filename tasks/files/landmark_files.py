"""Landmarks on disk: Parquet and CSV tables, iBUG's .pts, and the .mat files of AFLW2000-3D and 300W-LP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from ddfa_batch.schemas.arrays import F64, I64, check_shape
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files import table_columns
from ddfa_batch.tasks.files.mat_files import read_variables
from ddfa_batch.tasks.files.point_layout import MARKUPS, points_of

#: Columns taken for the picture's name and for the points, in this order.
_KEY_COLUMNS = ("key", "path", "image", "file", "filename", "file_name", "image_path", "name")
_POINT_COLUMNS = ("landmarks68", "pts68", "landmarks", "pts21", "landmarks21")
#: Those taken first where points of one markup are wanted.
_COLUMNS_OF_MARKUP = {68: ("landmarks68", "pts68"), 21: ("pts21", "landmarks21")}
#: The column of weights, one number a point, and those of visibility, where all above 0 count alike: `vis68` of the
#: AFLW labels has 1 for seen, 2 for covered, 0 for without a position.
_WEIGHTS, _VISIBILITY_COLUMNS = "weights", ("vis68", "landmarks68_visible")
_YAW_COLUMNS = ("yaw", "yaw_deg")
#: Columns that tell of which video a picture is a frame, and its number there.
_VIDEO, _FRAME = "video", "frame"
#: .pts and .mat count pixels from 1, as MATLAB does.
_MATLAB_ORIGIN = 1.0
#: A .pts file larger than this holds no landmarks of one face.
_MAX_BYTES = 1 << 20
#: Variables of .mat files with points: AFLW2000-3D's, then 300W-LP's.
_MAT_POINTS = ("pt3d_68", "pt2d")


@dataclass(frozen=True)
class LabelledFaces:
    """Landmarks of faces, one row each."""

    #: The pictures' keys, (N,).
    keys: tuple[str, ...]
    #: (N, 68 or 21, 2 or 3) in image pixels, y down, NaN where missing.
    landmarks: F64
    #: (N, 68 or 21), not negative.
    weights: F64
    #: What is wrong with a key's file, whose row is NaN.
    problems: dict[str, str] = field(default_factory=dict)
    #: Degrees (N,), where the labels tell it.
    yaw: F64 | None = None
    #: The video that each picture is a frame of, (N,), where the labels tell it.
    video: tuple[str, ...] | None = None
    #: The number of each frame in its video, (N,), where the labels tell it.
    frame: I64 | None = None

    def __post_init__(self) -> None:
        check_shape("landmarks", self.landmarks, len(self.keys), None, None)
        check_shape("weights", self.weights, len(self.keys), self.landmarks.shape[1])
        if self.landmarks.shape[1] not in MARKUPS or self.landmarks.shape[2] not in (2, 3):
            raise InputError(f"Landmarks must be 68 or 21 points in 2 or 3 dimensions, not {self.landmarks.shape[1:]}.")


@dataclass(frozen=True)
class _FileFace:
    """What one .pts or .mat file tells."""

    #: (68 or 21, 2 or 3), counted from 0.
    points: F64
    #: Degrees; NaN where the file does not tell it.
    yaw: float = float("nan")


def read_landmarks(path: Path, n_points: int | None = None) -> LabelledFaces:
    """Read a table, one .pts or .mat file, or a folder of either kind of file (searched to its depths).

    Of a table that has several markups, the one of `n_points` is read. A table without keys, whose rows name a video
    and a frame, has keys VIDEO#FRAME.
    Raises `InputError` naming the file for what cannot be used at all; a bad file in a folder is a row of NaN.
    """
    if path.is_dir():
        return _folder(path)
    suffix = path.suffix.lower()
    if suffix in table_columns.TABLES:
        return _table(path, n_points)
    if suffix in _READERS:
        return _rows([path.stem], [_READERS[suffix](path)], {})
    raise InputError(f"{path} holds no landmarks: give a folder, or a .parquet, .csv, .pts or .mat file.")


def _folder(folder: Path) -> LabelledFaces:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _READERS)
    if not files:
        raise InputError(f"{folder} holds no .pts and no .mat files.")
    keys = [file.relative_to(folder).with_suffix("").as_posix() for file in files]
    found: list[_FileFace | None] = []
    problems: dict[str, str] = {}
    for key, file in zip(keys, files, strict=True):
        try:
            found.append(_READERS[file.suffix.lower()](file))
        except InputError as fault:
            problems[key] = str(fault)
            found.append(None)
    missing = _FileFace(np.full(_one_shape(folder, found, problems), np.nan))
    return _rows(keys, [face or missing for face in found], problems)


def _one_shape(folder: Path, found: Sequence[_FileFace | None], problems: dict[str, str]) -> tuple[int, ...]:
    """The shape of every file's points."""
    shapes = sorted({face.points.shape for face in found if face is not None})
    if not shapes:
        raise InputError(f"No file of {folder} holds landmarks: {next(iter(problems.values()))}")
    if len(shapes) > 1:
        raise InputError(f"{folder} mixes markups: {', '.join(map(str, shapes))}; separate them.")
    return shapes[0]


def _rows(keys: Sequence[str], faces: Sequence[_FileFace], problems: dict[str, str]) -> LabelledFaces:
    points = np.stack([face.points for face in faces])
    yaw = np.array([face.yaw for face in faces])
    return LabelledFaces(
        tuple(keys), points, np.ones(points.shape[:2]), problems, yaw if np.isfinite(yaw).any() else None
    )


def _pts(path: Path) -> _FileFace:
    """Points (L, 2) of an iBUG .pts file."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is far too large for the landmarks of one face.")
        body = path.read_bytes().decode("utf-8").split("{", 1)[1].split("}", 1)[0]
        points = np.array([[float(x) for x in line.split()] for line in body.splitlines() if line.strip()])
    except OSError as fault:
        raise InputError(f"{path} cannot be read ({fault.strerror}).") from None
    except (UnicodeDecodeError, IndexError, ValueError):
        raise InputError(f"{path} is no .pts file: it has no lines of numbers between braces.") from None
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"{path} must have two numbers in each line, but has an array of {points.shape}.")
    return _FileFace(_counted_from_0(path, points))


def _mat(path: Path) -> _FileFace:
    """Points (68, 3) of an AFLW2000-3D file (`pt3d_68`), or (68, 2) of a 300W-LP file (`pt2d`), and its yaw.

    Their z grows towards the viewer, as the model's. Pose_Para is pitch, yaw, roll in radians, and more.
    """
    found = read_variables(path, [*_MAT_POINTS, "Pose_Para"])
    name = next((name for name in _MAT_POINTS if name in found), None)
    if name is None:
        raise InputError(f"{path} has neither pt3d_68 nor pt2d.")
    points = found[name]
    if points.ndim != 2 or points.shape[0] not in (2, 3):
        raise InputError(f"{path}: {name} must have 2 or 3 rows, but has shape {points.shape}.")
    pose = np.ravel(found.get("Pose_Para", []))
    yaw = float(np.degrees(pose[1])) if len(pose) >= 3 else float("nan")
    return _FileFace(_counted_from_0(path, points.T), yaw)


_READERS: dict[str, Callable[[Path], _FileFace]] = {".pts": _pts, ".mat": _mat}


def _counted_from_0(path: Path, points: F64) -> F64:
    if len(points) not in MARKUPS:
        raise InputError(f"{path} has {len(points)} points; 68 or 21 are understood.")
    # AFLW2000-3D writes −1 for a point that is not labelled; no point of a picture lies there exactly.
    unlabelled = (points[:, :2] == -1).all(axis=1, keepdims=True)
    return np.where(unlabelled, np.nan, points - _MATLAB_ORIGIN)


def _table(path: Path, n_points: int | None) -> LabelledFaces:
    have = table_columns.column_names(path)
    named_by = _naming_columns(path, have)
    wanted = (*_COLUMNS_OF_MARKUP.get(n_points or 0, ()), *_POINT_COLUMNS)
    named = next((name for name in wanted if name in have), None)
    columns = [named] if named else _wide_columns(path, have)
    extra = [name for name in (_WEIGHTS, *_VISIBILITY_COLUMNS, *_YAW_COLUMNS, _VIDEO, _FRAME) if name in have]
    table = table_columns.read_columns(path, list(dict.fromkeys([*named_by, *columns, *extra])), text=named_by)
    if not len(table):
        raise InputError(f"{path} has no rows.")
    video = tuple(table_columns.texts(path, table, _VIDEO)) if _VIDEO in have else None
    frame = _frame_numbers(path, table) if _FRAME in have else None
    keys = tuple(map("#".join, zip(*(table_columns.texts(path, table, name) for name in named_by), strict=True)))
    if named is None:
        values = np.stack([table_columns.numbers(path, table, name) for name in columns], axis=1)
        landmarks = values.reshape(len(values), -1, len(_axes(have)))
    else:
        landmarks = _listed_points(path, table, named)
    yaw = next((table_columns.numbers(path, table, name) for name in _YAW_COLUMNS if name in have), None)
    weights = _weights(path, table, landmarks)
    return LabelledFaces(keys, landmarks, weights, yaw=yaw, video=video, frame=frame)


def _naming_columns(path: Path, have: Sequence[str]) -> list[str]:
    """The column with the picture's name, else those of video and frame."""
    if _VIDEO in have and _FRAME in have and not set(_KEY_COLUMNS) & set(have):
        return [_VIDEO, _FRAME]
    return [table_columns.choose_column(path, have, _KEY_COLUMNS, "rename the one with the picture's name")]


def _frame_numbers(path: Path, table: pa.Table) -> I64:
    numbers = table_columns.numbers(path, table, _FRAME)
    if not (np.isfinite(numbers) & (numbers == np.round(numbers))).all():
        raise InputError(f"{path}: column '{_FRAME}' must hold the numbers of frames, whole ones.")
    return numbers.astype(np.int64)


def _listed_points(path: Path, table: pa.Table, name: str) -> F64:
    found = table_columns.number_lists(path, table, name)
    if found is None:
        raise InputError(f"{path}: column '{name}' is empty.")
    return points_of(path, name, found)


def _axes(have: Sequence[str]) -> list[str]:
    return [axis for axis in "xyz" if f"{axis}0" in have]


def _wide_columns(path: Path, have: Sequence[str]) -> list[str]:
    """x0, y0 (, z0), x1, … as CSV files have them."""
    axes, count = _axes(have), sum(f"x{i}" in have for i in range(max(MARKUPS)))
    wanted = [f"{axis}{i}" for i in range(count) for axis in axes]
    if axes[:2] != ["x", "y"] or count not in MARKUPS or not set(wanted) <= set(have):
        raise InputError(
            f"{path} has no points: neither a column {', '.join(_POINT_COLUMNS)} nor x0, y0, x1, y1, … of 68 or 21 "
            "points."
        )
    return wanted


def _weights(path: Path, table: pa.Table, landmarks: F64) -> F64:
    """Weights (N, L) as the table has them; by visibility 1 or 0; else 1."""
    n_points = landmarks.shape[1]
    if _WEIGHTS in table.column_names:
        found = table_columns.number_lists(path, table, _WEIGHTS)
        if found is not None and found.shape[1:] != (n_points,):
            raise InputError(f"{path}: column '{_WEIGHTS}' must have {n_points} numbers a face, one for each point.")
        return np.ones(landmarks.shape[:2]) if found is None else np.where(found > 0, found, 0.0)
    for name in _VISIBILITY_COLUMNS:
        codes = table_columns.number_lists(path, table, name) if name in table.column_names else None
        if codes is not None and codes.shape[1:] == (n_points,):
            return np.where(codes > 0, 1.0, 0.0)
    return np.ones(landmarks.shape[:2])
