"""Parquet tables that hold pictures: a column of bytes, or of `{bytes, path}` as Hugging Face writes it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.schemas.errors import ImageError, InputError
from ddfa_batch.tasks.files.table_columns import sound
from ddfa_batch.tasks.files.tar_members import Member

#: Columns taken for pictures, in this order, where none is named: those of Hugging Face and img2dataset, and ours.
_PICTURES = ("image", "img", "picture", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
#: What a struct calls the picture in it.
_BYTES = "bytes"
#: Bytes of a column that are read at once: rows are decoded one by one, so that memory stays small.
_BUFFER = 1 << 20


def picture_column(path: Path, named: str | None) -> str | None:
    """The column of pictures a Parquet file has; None for a file of other things, where none is `named`.

    Raises `InputError` for a column that is not there or holds something else, and for a file that is no Parquet.
    """
    schema = _schema(path)
    if named is None:
        usual = (name for name in _PICTURES if name in schema.names)
        return next((name for name in usual if _holds_bytes(schema.field(name).type)), None)
    if named not in schema.names:
        raise InputError(f"{path} has no column {named} (it has: {', '.join(schema.names[:12])}).")
    if not _holds_bytes(kind := schema.field(named).type):
        raise InputError(f"{path}: column '{named}' must hold bytes, or structs with 'bytes' in them, not {kind}.")
    return named


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as fault:
        raise InputError(f"{path} is not a readable Parquet file ({str(fault).splitlines()[0][:200]}).") from None


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index(_BYTES)
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return any(is_kind(kind) for is_kind in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def picture_rows(path: Path, key_column: str | None) -> Iterator[Member]:
    """A member for every row, called as its `key_column` says, or by its number: row group and place in it."""
    try:
        with pq.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            places = ((group, row) for group, size in enumerate(sizes) for row in range(size))
            names = (f"{n:06d}" for n in range(sum(sizes))) if key_column is None else _names(path, file, key_column)
            for name, place in zip(names, places, strict=True):
                yield Member(name.encode("utf-8", "surrogateescape"), place)
    except (OSError, pa.ArrowException) as fault:
        raise InputError(f"{path} is not a readable Parquet file ({str(fault).splitlines()[0][:200]}).") from None


def _names(path: Path, file: pq.ParquetFile, column: str) -> Iterator[str]:
    """The keys of all rows; `column` may be one of a struct's: image.path."""
    _, *inner = column.split(".")
    leaves = {file.schema.column(i).path for i in range(len(file.schema))}
    if column not in leaves:
        raise InputError(f"{path} has no column {column} (it has: {', '.join(sorted(leaves)[:12])}).")
    row = 0
    for batch in map(sound, file.iter_batches(columns=[column])):
        for value in batch.column(0).to_pylist():
            for name in inner:
                value = value.get(name) if isinstance(value, dict) else None  # noqa: PLW2901 - down into the struct
            row += 1
            if not isinstance(value, str | int) or value == "":
                raise InputError(f"{path}: row {row} has no text in '{column}', which names it.")
            yield str(value)


def read_picture(container: bytes, place: tuple[int, ...], column: str) -> bytes:
    """The picture of a row; raises `ImageError`. Rows that follow each other are read in one go."""
    group, row = place
    reader = _reader_of(os.fsdecode(container), column)
    value = reader.value(group, row)
    if isinstance(value, dict):
        path = value.get("path")
        value = value.get(_BYTES)
        if value is None and path is not None:
            raise ImageError("missing", f"The table holds no picture in this row, only its name '{path}'.")
    if value is None:
        raise ImageError("missing", "The table holds no picture in this row.")
    if not value:
        raise ImageError("empty", "The picture has 0 bytes.")
    return bytes(value)


#: The reader of each thread: the rows of a shard stand one after the other.
_local = threading.local()


def _reader_of(path: str, column: str) -> _Reader:
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        raise ImageError("missing", f"There is no {path} any more.") from None
    except OSError as fault:
        raise ImageError("unreadable", f"{path} cannot be read: {fault.strerror}.") from None
    identity = (path, column, found.st_mtime_ns, found.st_size)
    reader: _Reader | None = getattr(_local, "reader", None)
    if reader is None or reader.identity != identity:
        if reader is not None:
            reader.close()
        reader = _local.reader = _Reader(identity)
    return reader


class _Reader:
    """Reads the values of one column forwards, a row at a time, and begins a row group anew to go backwards."""

    def __init__(self, identity: tuple[str, str, int, int]) -> None:
        self.identity = identity
        self._path, self._column = identity[:2]
        self._file: pq.ParquetFile | None = None
        self._rows: Iterator[Any] = iter(())
        self._group, self._next = -1, 0
        self._fault: str | None = None

    def value(self, group: int, row: int) -> Any:
        """The value of a row; raises `ImageError`."""
        if group != self._group or row < self._next:
            self._begin(group)
        if self._fault is None:
            try:
                for _ in range(row - self._next + 1):
                    batch = next(self._rows)
                    self._next += 1
                return batch.column(0)[0].as_py()
            except UnicodeDecodeError:
                raise ImageError("unreadable", "The row's text is no UTF-8; write the table anew.") from None
            except StopIteration:
                self._fault = "it has fewer rows than when it was listed"
            except (OSError, pa.ArrowException, MemoryError) as fault:
                self._fault = (str(fault).splitlines() or ["out of memory"])[0][:200]
        raise ImageError("unreadable", f"Row group {group} cannot be read from row {self._next} on: {self._fault}.")

    def _begin(self, group: int) -> None:
        self._group, self._next, self._fault = group, 0, None
        try:
            if self._file is None:
                self._file = pq.ParquetFile(self._path, buffer_size=_BUFFER, pre_buffer=False)
            self._rows = self._file.iter_batches(1, row_groups=[group], columns=[self._column], use_threads=False)
        except (OSError, pa.ArrowException, IndexError, ValueError) as fault:
            self._fault = str(fault).splitlines()[0][:200]

    def close(self) -> None:
        """Let go of the file."""
        self._rows = iter(())
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
