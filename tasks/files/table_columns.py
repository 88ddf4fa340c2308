"""Columns of the user's tables, Parquet and CSV, as text and numbers; what is wrong names the file, column and row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ddfa_batch.schemas.arrays import F64, I64
from ddfa_batch.schemas.errors import InputError

_PARQUET = frozenset({".parquet", ".pq"})
#: File endings of tables that are read.
TABLES = _PARQUET | {".csv", ".tsv"}


def column_names(path: Path) -> list[str]:
    """The columns a table has; raises `InputError` for a file that is none."""
    try:
        schema = pq.read_schema(path) if _is_parquet(path) else _csv_reader(path, [], ()).schema
        return list(schema.names)
    except UnicodeDecodeError:
        raise InputError(f"{path} has a column whose name is no UTF-8; write the table anew in UTF-8.") from None
    except (OSError, pa.ArrowException) as fault:
        raise _unreadable(path, fault) from None


def choose_column(path: Path, have: Sequence[str], names: Iterable[str], remedy: str) -> str:
    """The first of `names` that the table has; raises `InputError` with those it has and the `remedy`."""
    wanted = list(names)
    if found := next((name for name in wanted if name in have), None):
        return found
    raise InputError(f"{path} has no column {' or '.join(wanted)} (it has: {_listed(have)}); {remedy}.")


def batches(path: Path, columns: Sequence[str], text: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
    """The rows of these columns, some thousand at a time; of a CSV file, `text` is left as it is written."""
    have = column_names(path)
    if missing := [name for name in columns if name not in have]:
        raise InputError(f"{path} has no column {', '.join(missing)} (it has: {_listed(have)}).")
    try:
        if _is_parquet(path):
            with pq.ParquetFile(path) as file:
                yield from map(sound, file.iter_batches(columns=list(columns)))
        else:
            yield from _csv_reader(path, columns, text)
    except (OSError, pa.ArrowException) as fault:
        raise _unreadable(path, fault) from None


def sound(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows, if all is in them that their types promise: Arrow takes a file's word that its text is UTF-8."""
    batch.validate(full=True)
    return batch


def read_columns(path: Path, columns: Sequence[str], text: Sequence[str] = ()) -> pa.Table:
    """All rows of these columns."""
    parts = list(batches(path, columns, text))
    return pa.Table.from_batches(parts) if parts else pa.table({name: [] for name in columns})


def texts(path: Path, table: pa.Table, name: str) -> list[str]:
    """A column as text, whole numbers included; raises `InputError` for a row without any."""
    kind = table[name].type
    values = table[name].to_pylist()
    if not (pa.types.is_null(kind) or _is_text(kind) or pa.types.is_integer(kind)):
        raise InputError(f"{path}: column '{name}' must hold text, not {kind}.")
    if None in values:
        raise InputError(f"{path}: row {values.index(None) + 1} has no '{name}'.")
    return [str(value) for value in values]


def numbers(path: Path, table: pa.Table, name: str) -> F64:
    """A column of numbers (N,), NaN where there is none."""
    try:
        if pa.types.is_boolean(table[name].type):
            raise TypeError
        return np.asarray(pc.cast(table[name], pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    except (pa.ArrowException, TypeError, ValueError):
        raise InputError(f"{path}: column '{name}' must hold numbers{_first_wrong(table[name])}.") from None


def number_lists(path: Path, table: pa.Table, name: str) -> F64 | None:
    """A column of lists of one length (N, n), or of lists of lists of one length (N, m, n); NaN where there are none.

    None for a column without a single list. Raises `InputError` for other lengths and types.
    """
    column = table[name]
    if pa.types.is_null(column.type) or column.null_count == len(column):
        return None
    depth, flat = 0, column
    lengths: list[int] = []
    while _is_list(flat.type):
        found = pc.unique(pc.drop_null(pc.list_value_length(flat))).to_pylist()
        if len(found) != 1:
            raise InputError(
                f"{path}: the lists of column '{name}' have different lengths ({min(found)} … {max(found)})."
            )
        lengths, flat, depth = [*lengths, int(found[0])], _flattened(flat, int(found[0])), depth + 1
    if depth not in (1, 2) or not _is_number(flat.type):
        raise InputError(f"{path}: column '{name}' must hold lists of numbers, not {column.type}.")
    values = pc.cast(flat, pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float64).reshape(len(column), *lengths)


def rows_by_key(keys: Sequence[str]) -> dict[str, I64]:
    """The rows (n,) of each key, in the order of the table."""
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return {key: np.array(found, np.int64) for key, found in rows.items()}


def _flattened(column: Any, length: int) -> Any:
    """The lists' items one after the other, `length` nulls for a list that is null."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not whole.null_count:
        return pc.list_flatten(whole)
    nulls = pa.array([[None] * length], pa.list_(whole.type.value_type))
    return pc.list_flatten(pc.coalesce(pc.cast(whole, nulls.type), nulls[0]))


def _csv_reader(path: Path, columns: Sequence[str], text: Sequence[str]) -> pyarrow.csv.CSVStreamingReader:
    return pyarrow.csv.open_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(
            delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(text, pa.string()),
            strings_can_be_null=False,
        ),
    )


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in _PARQUET


def _is_text(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(plain) or pa.types.is_large_string(plain))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: pa.DataType) -> bool:
    plain = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    return any(is_kind(kind) for is_kind in plain)


def _first_wrong(column: pa.ChunkedArray) -> str:
    """The first value that is no number, for a sentence; empty where the column's type as a whole is wrong."""
    if not _is_text(column.type):
        return f", not {column.type}"
    for row, value in enumerate(column.to_pylist()):
        try:
            float(value)
        except (TypeError, ValueError):
            return f", but row {row + 1} has {value!r}"
    return ""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return f"{shown}, …" if len(names) > 12 else shown


def _unreadable(path: Path, fault: Exception) -> InputError:
    kind = "Parquet" if _is_parquet(path) else "CSV"
    return InputError(f"{path} is not a readable {kind} file ({str(fault).splitlines()[0][:200]}).")
