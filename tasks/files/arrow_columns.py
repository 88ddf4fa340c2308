"""Arrays, and lists of what Python has, as Arrow's columns, made of their buffers.

`pa.array` does as much, but looks at every object, and whether it is one of pandas': the first call imports pandas
where that is installed, for which a short run waits longer than for its pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

#: NumPy's types of Arrow's numbers.
_NUMBERS: Mapping[pa.DataType, type[np.generic]] = {
    pa.int8(): np.int8,
    pa.int16(): np.int16,
    pa.int32(): np.int32,
    pa.int64(): np.int64,
    pa.float32(): np.float32,
    pa.float64(): np.float64,
}


def table_of(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """A table of columns given as arrays (n,) or (n, k), sequences with None for null, or None for all nulls."""
    n = len(columns[schema.names[0]])
    return pa.Table.from_arrays([column_of(columns[f.name], f.type, n) for f in schema], schema=schema)


def column_of(values: Any, kind: pa.DataType, n: int) -> pa.Array:
    """A column of n values; arrays are not changed where they are cast to less precision, as `pa.array` would."""
    if values is None:
        return pa.nulls(n, kind)
    if isinstance(values, np.ndarray) and values.ndim == 2:
        flat = column_of(np.ascontiguousarray(values).ravel(), kind.value_type, values.size)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    if isinstance(values, np.ndarray):
        plain = kind in _NUMBERS or pa.types.is_boolean(kind)
        return _plain(values, kind) if plain else pa.array(np.ascontiguousarray(values)).cast(kind)
    if all(value is None for value in values):
        return pa.nulls(n, kind)
    return _of_objects(values, kind)


def _of_objects(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    there = np.array([value is not None for value in values])
    if kind in _NUMBERS:
        return _plain(np.array([0 if value is None else value for value in values], _NUMBERS[kind]), kind, there)
    if pa.types.is_boolean(kind):
        return _plain(np.array([bool(value) for value in values]), kind, there)
    if pa.types.is_string(kind):
        return _texts([b"" if value is None else value.encode() for value in values], kind, there)
    if pa.types.is_binary(kind):
        return _texts([value or b"" for value in values], kind, there)
    return pa.array(values, kind)


def _plain(values: NDArray[Any], kind: pa.DataType, there: NDArray[np.bool_] | None = None) -> pa.Array:
    if pa.types.is_boolean(kind):
        data = np.packbits(values, bitorder="little")
    else:
        data = np.ascontiguousarray(values).astype(_NUMBERS[kind], casting="same_kind", copy=False)
    return pa.Array.from_buffers(kind, len(values), [_validity(there), pa.py_buffer(data)])


def _texts(values: list[bytes], kind: pa.DataType, there: NDArray[np.bool_]) -> pa.Array:
    ends = np.cumsum([0, *map(len, values)], dtype=np.int64)
    if ends[-1] > np.iinfo(np.int32).max:
        raise OverflowError(f"{ends[-1]:,} bytes of text are more than one column can hold")
    buffers = [_validity(there), pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _validity(there: NDArray[np.bool_] | None) -> pa.Buffer | None:
    return None if there is None or there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
