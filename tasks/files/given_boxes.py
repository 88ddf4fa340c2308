"""The user's own face boxes, in place of a detector's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files import table_columns
from ddfa_batch.tasks.files.checksums import sha256
from ddfa_batch.tasks.files.inputs import KEY_COLUMNS

_BOX_COLUMNS = ("x0", "y0", "x1", "y1")
#: What a box without a score column is given.
_GIVEN_SCORE = 1.0


@dataclass(frozen=True)
class GivenBoxes:
    """The user's own boxes."""

    #: Image key → (n, 5) x0, y0, x1, y1, score; pixels.
    by_key: dict[str, F32]
    #: sha256 of the file.
    digest: str
    #: What they are, for sentences.
    title: str = "boxes"

    def keys(self) -> Collection[str]:
        """The images with a box."""
        return self.by_key.keys()

    def plan_columns(self, key: str) -> dict[str, Any]:
        """The boxes of one image, flattened; none is an empty list, for nothing is detected."""
        found = self.by_key.get(key)
        return {"boxes": [] if found is None else found.ravel().tolist()}

    def absence(self, n: int) -> str:
        """Inputs without boxes are rows without faces."""
        return f"{n:,} of the inputs have no boxes: rows without faces."


def read_boxes(path: Path) -> GivenBoxes:
    """Read boxes from a CSV or Parquet table with a key column and x0, y0, x1, y1[, score].

    Raises `InputError` naming the first row whose box is not one.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; --boxes takes a CSV or Parquet file.")
    have = table_columns.column_names(path)
    key = table_columns.choose_column(path, have, KEY_COLUMNS, "rename one to 'key'")
    if missing := [name for name in _BOX_COLUMNS if name not in have]:
        raise InputError(f"{path} has no column {', '.join(missing)}; boxes need key, x0, y0, x1, y1[, score].")
    columns = [*_BOX_COLUMNS, *(["score"] if "score" in have else [])]
    table = table_columns.read_columns(path, [key, *columns], text=[key])
    values = [table_columns.numbers(path, table, name) for name in columns]
    scores = [] if "score" in have else [np.full(len(table), _GIVEN_SCORE)]
    rows = np.stack([*values, *scores], axis=1)
    _check_boxes(path, rows)
    boxes = rows.astype(np.float32)
    grouped = table_columns.rows_by_key(table_columns.texts(path, table, key))
    return GivenBoxes({name: boxes[of_image] for name, of_image in grouped.items()}, sha256(path))


def _check_boxes(path: Path, rows: F64) -> None:
    sound = np.isfinite(rows).all(axis=1) & (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])
    if not sound.all():
        row = int(np.argmin(sound))
        raise InputError(f"{path}: row {row + 1} is not a box (x0 < x1, y0 < y1, all finite): {rows[row].tolist()}.")
