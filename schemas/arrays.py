"""Names for the array types the project passes around, and the one check of their shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ddfa_batch.schemas.errors import ShapeError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


def check_shape(name: str, array: npt.NDArray[Any], *expected: int | None) -> None:
    """Raise `ShapeError` unless `array` has the expected shape; None stands for any length."""
    actual = array.shape
    if actual == expected:
        return
    if len(actual) == len(expected):
        for length, asked in zip(actual, expected, strict=True):  # a loop, for this is asked forty times a picture
            if asked is not None and length != asked:
                break
        else:
            return
    wanted = "(" + ", ".join("any" if e is None else str(e) for e in expected) + ")"
    raise ShapeError(f"{name} must have shape {wanted}, but has {actual}.")
