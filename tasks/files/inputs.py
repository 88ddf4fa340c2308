"""What there is to process: folders, single files, text lists, manifests and tables of boxes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ddfa_batch.schemas.arrays import F32, F64, I32
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.schemas.tables import matrix
from ddfa_batch.tasks.bundles.model_bundle import sha256
from ddfa_batch.tasks.files.images import SUFFIXES

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


class Given(Protocol):
    """What the user brings for each input, by its key; it goes into the plan, so workers need nothing else."""

    @property
    def digest(self) -> str:
        """Tells one file of the user's from another."""
        ...

    def keys(self) -> Collection[str]:
        """The inputs there is something for."""
        ...

    def plan_columns(self, key: str) -> dict[str, Any]:
        """The plan's columns for one input."""
        ...

    def absence(self, n: int) -> str:
        """What to tell the user of `n` inputs there is nothing for."""
        ...


@dataclass(frozen=True)
class GivenBoxes:
    """The user's own boxes: `by_key` image key → (n, 5) x0, y0, x1, y1, score; `digest` of the file."""

    by_key: dict[str, F32]
    digest: str

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


@dataclass(frozen=True)
class GivenFaces:
    """Parameters of faces: `by_key` image key → (face_index (n,), params (n, P), rois (n, 4)), best first."""

    by_key: dict[str, tuple[I32, F32, F64]]
    digest: str

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


def read_faces(path: Path, n_params: int, model_digest: str, max_faces: int) -> GivenFaces:
    """Read parameters from the folder of a run, or from a Parquet table with key, params and roi.

    Where there is a score, the best faces of an image come first; `max_faces` of them are kept. Without a face_index
    the faces of an image are numbered as they come. Raises `InputError` if they are another model's, not parameters
    at all, or two faces of an image have one number.
    """
    files = sorted((path / "faces").glob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise InputError(f"{path} holds no parameters; give the folder of a run, or a Parquet table of faces.")
    rows: list[tuple[str, float, int | None, F32, F64]] = []
    sha = hashlib.sha256()
    for file in files:
        table = _faces_table(file, n_params, model_digest)
        params, rois = (matrix(table[name]) for name in ("params", "roi"))
        if not (np.isfinite(params).all() and np.isfinite(rois).all() and (rois[:, 2:] > rois[:, :2]).all()):
            raise InputError(f"{file} has parameters that are not finite, or a roi that is no square.")
        scores = table["score"].to_pylist() if "score" in table.column_names else [0.0] * len(table)
        index = table["face_index"].to_pylist() if "face_index" in table.column_names else [None] * len(table)
        rows += zip(table["key"].to_pylist(), scores, index, params.astype(np.float32), rois, strict=True)
        sha.update(sha256(file).encode())
    grouped: dict[str, list[tuple[float, int, F32, F64]]] = {}
    for key, score, number, params_of_face, roi in rows:
        faces = grouped.setdefault(key, [])
        faces.append((score, len(faces) if number is None else number, params_of_face, roi))
    _refuse_twins(path, {key: [number for _, number, *_ in faces] for key, faces in grouped.items()})
    by_key = {}
    for key, faces in grouped.items():
        best = sorted(faces, key=lambda face: (-face[0], face[1]))[: max_faces or None]
        by_key[key] = (np.array([f[1] for f in best], np.int32), np.stack([f[2] for f in best]),
                       np.stack([f[3] for f in best]).astype(np.float64))  # fmt: skip
    return GivenFaces(by_key, sha.hexdigest())


def _refuse_twins(path: Path, indices: dict[str, list[int]]) -> None:
    """Raise `InputError` where two faces of one image have one index: clips are named by it."""
    for key, numbers in indices.items():
        number, times = Counter(numbers).most_common(1)[0]
        if times > 1:
            raise InputError(
                f"{path}: {times} faces of {key} have face_index {number}; number the faces of an image, or leave "
                "the column out."
            )


def _faces_table(file: Path, n_params: int, model_digest: str) -> pa.Table:
    try:
        schema = pq.read_schema(file)
        if missing := [name for name in ("key", "params", "roi") if name not in schema.names]:
            raise InputError(f"{file} has no column {', '.join(missing)}; it is no table of faces.")
        made_with = (schema.metadata or {}).get(b"ddfa_batch.digest", model_digest.encode()).decode()
        if made_with != model_digest:
            raise InputError(
                f"{file} was made with another model (digest {made_with[:12]}…, not {model_digest[:12]}…); name that "
                "model with --model, or process the images with this one."
            )
        have = [name for name in ("key", "params", "roi", "score", "face_index") if name in schema.names]
        table = pq.read_table(file, columns=have)
    except (OSError, pa.ArrowException) as fault:
        raise InputError(f"{file} is not a readable Parquet file ({fault}).") from None
    for name, length in (("params", n_params), ("roi", 4)):
        lengths = pc.unique(pc.list_value_length(table[name])).to_pylist()
        if lengths not in ([length], []):
            raise InputError(f"{file}: {name} must have {length} numbers a face, but has {lengths}.")
    return table


def without_suffix(key: str) -> str:
    """A key as labels often have it: the picture's path without its ending."""
    return PurePosixPath(key).with_suffix("").as_posix()


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
    return GivenBoxes({name: np.stack(found) for name, found in by_key.items()}, sha256(path))


def _check_boxes(path: Path, rows: Any) -> None:
    sound = np.isfinite(rows).all(axis=1) & (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])
    if not sound.all():
        row = int(np.argmin(sound))
        raise InputError(f"{path}: row {row + 1} is not a box (x0 < x1, y0 < y1, all finite): {rows[row].tolist()}.")
