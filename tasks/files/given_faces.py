"""Parameters of faces that are known already: those of a run, or of a table."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.schemas.arrays import F32, F64, I32, I64
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files import table_columns
from ddfa_batch.tasks.files.checksums import sha256

#: Columns a table of faces must have, and those it may have.
_NEEDED, _OPTIONAL = ("key", "params", "roi"), ("score", "face_index")
#: In place of a face_index: the faces of an image are numbered as they come.
_UNNUMBERED = -1


@dataclass(frozen=True)
class GivenFaces:
    """Parameters of faces, best first."""

    #: Image key → (face_index (n,), params (n, P) in the crop's frame, rois (n, 4) in image pixels).
    by_key: dict[str, tuple[I32, F32, F64]]
    #: sha256 over those of the files.
    digest: str
    #: What they are, for sentences.
    title: str = "parameters"

    def keys(self) -> Collection[str]:
        """The images with parameters."""
        return self.by_key.keys()

    def plan_columns(self, key: str) -> dict[str, Any]:
        """The faces of one image, flattened."""
        index, params, rois = self.by_key.get(key, (np.zeros(0, np.int32), np.zeros((0, 1)), np.zeros((0, 4))))
        return {"face_index": index.tolist(), "params": params.ravel().tolist(), "rois": rois.ravel().tolist()}

    def absence(self, n: int) -> str:
        """Inputs without parameters are error rows."""
        return f"{n:,} of the inputs have no parameters: error rows."


@dataclass(frozen=True)
class _Rows:
    """Faces as a table has them, one row each."""

    #: Key of the image.
    keys: list[str]
    #: Score (N,), 0 where the table has none.
    score: F64
    #: Number within the image (N,), `_UNNUMBERED` where the table has none.
    number: I64
    #: Parameters (N, P) in the crop's frame.
    params: F32
    #: x0, y0, x1, y1 (N, 4), image pixels.
    rois: F64


def read_faces(path: Path, n_params: int, model_digest: str, max_faces: int) -> GivenFaces:
    """Read parameters from the folder of a run, or from a Parquet table with key, params and roi.

    Where there is a score, the best faces of an image come first; `max_faces` of them are kept, 0 for all. Without a
    face_index the faces of an image are numbered as they come. Raises `InputError` if they are another model's, not
    parameters at all, or two faces of an image have one number.
    """
    files = sorted((path / "faces").glob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise InputError(f"{path} holds no parameters; give the folder of a run, or a Parquet table of faces.")
    rows = _joined([_read_rows(file, n_params, model_digest) for file in files])
    by_key = {}
    for key, of_image in table_columns.rows_by_key(rows.keys).items():
        numbers = _numbered(path, key, rows.number[of_image])
        best = np.lexsort((numbers, -rows.score[of_image]))[: max_faces or None]
        chosen = of_image[best]
        by_key[key] = (numbers[best].astype(np.int32), rows.params[chosen], rows.rois[chosen])
    digest = hashlib.sha256("".join(sha256(file) for file in files).encode()).hexdigest()
    return GivenFaces(by_key, digest)


def _joined(parts: list[_Rows]) -> _Rows:
    return _Rows(
        [key for part in parts for key in part.keys],
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.number for part in parts]),
        np.concatenate([part.params for part in parts]),
        np.concatenate([part.rois for part in parts]),
    )


def _numbered(path: Path, key: str, numbers: I64) -> I64:
    """The numbers (n,) of an image's faces, all different, for clips are named by them."""
    numbers = np.where(numbers == _UNNUMBERED, np.arange(len(numbers)), numbers)
    number, times = Counter(numbers.tolist()).most_common(1)[0]
    if times > 1:
        raise InputError(
            f"{path}: {times} faces of {key} have face_index {number}; number the faces of an image, or leave "
            "the column out."
        )
    return numbers


def _read_rows(file: Path, n_params: int, model_digest: str) -> _Rows:
    have = table_columns.column_names(file)
    if missing := [name for name in _NEEDED if name not in have]:
        raise InputError(f"{file} has no column {', '.join(missing)}; it is no table of faces.")
    _check_model(file, model_digest)
    table = table_columns.read_columns(file, [*_NEEDED, *(name for name in _OPTIONAL if name in have)])
    params, rois = _vectors(file, table, "params", n_params), _vectors(file, table, "roi", 4)
    if not (np.isfinite(params).all() and np.isfinite(rois).all() and (rois[:, 2:] > rois[:, :2]).all()):
        raise InputError(f"{file} has parameters that are not finite, or a roi that is no square.")
    score = table_columns.numbers(file, table, "score") if "score" in have else np.zeros(len(table))
    number = table_columns.numbers(file, table, "face_index") if "face_index" in have else None
    if number is None:
        number = np.full(len(table), _UNNUMBERED)
    elif not (number >= 0).all():
        raise InputError(f"{file}: face_index must be 0 or more in every row; without the column they are counted.")
    keys = table_columns.texts(file, table, "key")
    return _Rows(keys, score, number.astype(np.int64), params.astype(np.float32), rois)


def _check_model(file: Path, model_digest: str) -> None:
    """Raise `InputError` where the table tells that another model made it."""
    try:
        metadata = pq.read_schema(file).metadata or {}
    except (OSError, pa.ArrowException):
        raise InputError(f"{file} is no Parquet table of faces.") from None
    made_with = metadata.get(b"ddfa_batch.digest", model_digest.encode()).decode("utf-8", "replace")
    if made_with != model_digest:
        raise InputError(
            f"{file} was made with another model (digest {made_with[:12]}…, not {model_digest[:12]}…); name that "
            "model with --model, or process the images with this one."
        )


def _vectors(file: Path, table: pa.Table, name: str, length: int) -> F64:
    found = table_columns.number_lists(file, table, name)
    if found is None and not len(table):
        return np.zeros((0, length))
    if found is None or found.shape[1:] != (length,):
        have = "none" if found is None else " × ".join(map(str, found.shape[1:]))
        raise InputError(f"{file}: {name} must have {length} numbers a face, but has {have}.")
    return found
