"""What there is to process: folders, single files, text lists, manifests and tables of boxes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ddfa_batch.schemas.arrays import F32
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.images import SUFFIXES

_LISTS = frozenset({".txt", ".lst"})
_TABLES = frozenset({".csv", ".tsv", ".parquet", ".pq"})
#: Columns taken for the path, in this order, when none is named.
_PATH_COLUMNS = ("path", "image", "file", "filename", "file_name", "image_path", "key")
_KEY_COLUMNS = ("key", *_PATH_COLUMNS[:-1])
_BOX_COLUMNS = ("x0", "y0", "x1", "y1")
#: What a box without a score column is given.
_GIVEN_SCORE = 1.0


@dataclass(frozen=True)
class Source:
    """Where the inputs come from. `root`: the folder their keys are relative to."""

    path: Path
    kind: str
    root: Path
    column: str | None = None


@dataclass(frozen=True)
class Input:
    """One input: its key (text), and its path in bytes where the key cannot be turned back into it."""

    key: str
    path: bytes | None = None


@dataclass
class Ignored:
    """What a folder holds besides images: counts by file ending, and hidden entries."""

    by_suffix: Counter[str] = field(default_factory=Counter)

    def sentence(self) -> str | None:
        """Say it, or None where nothing was passed over."""
        if not self.by_suffix:
            return None
        what = ", ".join(f"{count} {suffix}" for suffix, count in self.by_suffix.most_common(5))
        total = sum(self.by_suffix.values())
        return f"{total} {'file is' if total == 1 else 'files are'} no image by name and left out ({what})."


def resolve_source(path: Path, column: str | None) -> Source:
    """Find out what `path` is; raises `InputError` if it is nothing that lists images."""
    if path.is_dir():
        return Source(path, "folder", path.resolve())
    if not path.exists():
        raise InputError(f"{path} does not exist; give a folder, an image, a text list or a manifest.")
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        return Source(path, "manifest", path.resolve().parent, _path_column(path, column))
    kind = "list" if suffix in _LISTS else "file"
    return Source(path, kind, path.resolve().parent)


def list_inputs(source: Source, leave_out: Path, ignored: Ignored) -> Iterator[Input]:
    """Yield every input in a fixed order, one at a time.

    `leave_out` (the output folder) is skipped inside a folder; `ignored` is filled with what else was.
    """
    if source.kind == "folder":
        seen = frozenset([_identity(source.root)])
        yield from _walk(source.root, "", leave_out.resolve(), seen, ignored)
    elif source.kind == "file":
        yield _input(os.fsencode(source.path.name))
    elif source.kind == "list":
        with source.path.open("rb") as file:
            for line in file:
                if name := line.rstrip(b"\r\n"):
                    yield _input(name)
    else:
        for batch in _batches(source.path, [str(source.column)]):
            for value in batch.column(0):
                text = value.as_py()
                yield Input("" if text is None else str(text))


def resolve_path(root: Path, item: Input) -> Path:
    """The file an input stands for."""
    return root / (os.fsdecode(item.path) if item.path is not None else item.key)


def _input(raw: bytes) -> Input:
    try:
        return Input(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return Input(raw.decode("utf-8", "backslashreplace"), raw)


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _walk(
    folder: Path, prefix: str, leave_out: Path, above: frozenset[tuple[int, int]], ignored: Ignored
) -> Iterator[Input]:
    """Depth first, names in byte order, links followed unless they lead back up."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as fault:
        raise InputError(f"{folder} cannot be listed ({fault.strerror}).") from None
    for entry in entries:
        name = prefix + entry.name
        if entry.name.startswith("."):
            ignored.by_suffix["hidden"] += 1
        elif entry.is_dir():
            below = Path(entry.path)
            identity = _identity(below)
            if identity in above or below.resolve() == leave_out:
                continue
            yield from _walk(below, name + "/", leave_out, above | {identity}, ignored)
        elif (suffix := Path(entry.name).suffix.lower()) in SUFFIXES:
            yield _input(os.fsencode(name))
        else:
            ignored.by_suffix[suffix or "without ending"] += 1


def _path_column(path: Path, wanted: str | None) -> str:
    return _one_of(path, _columns(path), [wanted] if wanted else _PATH_COLUMNS, "--path-column NAME")


def _one_of(path: Path, have: Iterable[str], names: Iterable[str | None], remedy: str) -> str:
    columns = list(have)
    for name in names:
        if name in columns:
            return str(name)
    raise InputError(
        f"{path} has no column {' or '.join(str(n) for n in names)} (it has: {', '.join(columns)}); "
        f"rename one, or name it with {remedy}."
    )


def _columns(path: Path) -> list[str]:
    if path.suffix.lower() in (".parquet", ".pq"):
        try:
            return list(pq.read_schema(path).names)
        except (OSError, pa.ArrowException) as fault:
            raise InputError(f"{path} is not a readable Parquet file ({fault}).") from None
    for batch in _csv_batches(path, None):
        return list(batch.schema.names)
    return []


def _csv_batches(path: Path, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    text = {name: pa.string() for name in columns or [] if name not in (*_BOX_COLUMNS, "score")}
    try:
        yield from pyarrow.csv.open_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=columns or [], column_types=text, strings_can_be_null=False
            ),
        )
    except (OSError, pa.ArrowException) as fault:
        raise InputError(f"{path} is not a readable CSV file ({fault}).") from None


def _batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if path.suffix.lower() not in (".parquet", ".pq"):
        yield from _csv_batches(path, columns)
        return
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(columns=columns)
    except (OSError, pa.ArrowException) as fault:
        raise InputError(f"{path} is not a readable Parquet file ({fault}).") from None


@dataclass(frozen=True)
class GivenBoxes:
    """The user's own boxes: `by_key` image key → (n, 5) x0, y0, x1, y1, score; `digest` of the file."""

    by_key: dict[str, F32]
    digest: str


def read_boxes(path: Path) -> GivenBoxes:
    """Read boxes from a CSV or Parquet table with a key column and x0, y0, x1, y1[, score].

    Raises `InputError` naming the first row whose box is not one.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; --boxes takes a CSV or Parquet file.")
    have = _columns(path)
    key = _one_of(path, have, _KEY_COLUMNS, "the column 'key'")
    if missing := [c for c in _BOX_COLUMNS if c not in have]:
        raise InputError(f"{path} has no column {', '.join(missing)}; boxes need key, x0, y0, x1, y1[, score].")
    numbers = [*_BOX_COLUMNS, *(["score"] if "score" in have else [])]
    table = pa.Table.from_batches(list(_batches(path, [key, *numbers])))
    try:
        values = [np.asarray(pc.cast(table[c], pa.float32()).to_numpy(zero_copy_only=False)) for c in numbers]
    except pa.ArrowException as fault:
        raise InputError(f"{path}: a box has a value that is no number ({fault}).") from None
    rows = np.stack([*values, *([np.full(len(table), _GIVEN_SCORE)] * (5 - len(values)))], axis=1)
    _check_boxes(path, rows)
    by_key: dict[str, list[Any]] = {}
    for name, row in zip(table[key].to_pylist(), rows.astype(np.float32), strict=True):
        by_key.setdefault(str(name), []).append(row)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return GivenBoxes({name: np.stack(found) for name, found in by_key.items()}, digest)


def _check_boxes(path: Path, rows: Any) -> None:
    sound = np.isfinite(rows).all(axis=1) & (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])
    if not sound.all():
        row = int(np.argmin(sound))
        raise InputError(f"{path}: row {row + 1} is not a box (x0 < x1, y0 < y1, all finite): {rows[row].tolist()}.")
