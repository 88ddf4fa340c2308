"""What a disturbed run lost, has twice or has otherwise than its undisturbed twin."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq

#: Files that tell of how a run was made; verify compares them with what they tell of.
_ACCOUNTS = ("run.json", "seal.json")
#: Columns that are others in every run: times, and the paths of copies of the sources.
_TIMES, _PATHS = "_ms", ("path", "source", "run_folder")


@dataclass(frozen=True)
class Difference:
    """How a run differs from its undisturbed twin."""

    #: Inputs without a row, inputs with more rows than one, and files that hold anything else.
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    #: What the first difference is.
    detail: str = ""


def compare(out: Path, expected: Path, but: frozenset[int] = frozenset()) -> Difference:
    """Compare two runs; `but`: image_ids whose rows may be others, for their inputs were."""
    lost, duplicated = _inputs(out, expected)
    names, wanted = _names(out), _names(expected)
    found = (
        [f"{name} is {'there' if name in names else 'missing'}" for name in sorted(names ^ wanted)] if not but else []
    )
    found += [f"{name} differs" for name in sorted(names & wanted) if not _same(out / name, expected / name, but)]
    return Difference(lost, duplicated, len(found), "; ".join(found[:3]))


def _inputs(out: Path, expected: Path) -> tuple[int, int]:
    here, there = (_image_ids(folder) for folder in (out, expected))
    return len(there.keys() - here.keys()), sum(n > 1 for n in here.values())


def _image_ids(folder: Path) -> Counter[int]:
    return Counter(image for path in sorted(folder.glob("images/*.parquet")) for image in _column(path, "image_id"))


def _column(path: Path, name: str) -> list[Any]:
    return list(pq.read_table(path, columns=[name])[name].to_pylist())


def _names(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in (*_ACCOUNTS, ".lock"))
    return {path.relative_to(folder).as_posix() for path in files if not _is_account(path)}


def _is_account(path: Path) -> bool:
    """Whether a file tells of other files' checksums, and so of times."""
    return path.parent.name == "shards" or (path.parent.name == "videos" and path.suffix == ".json")


def _same(path: Path, other: Path, but: frozenset[int]) -> bool:
    if path.suffix == ".parquet":
        return _same_tables(_table(path, but), _table(other, but))
    if path.suffix == ".h5":
        return bool(but) or _same_arrays(path, other)
    return bool(but) or path.read_bytes() == other.read_bytes()


def _same_tables(table: Any, other: Any) -> bool:
    """Whether two tables are equal, what is not a number being equal to itself."""
    return table.schema.equals(other.schema) and repr(table.to_pylist()) == repr(other.to_pylist())


def _table(path: Path, but: frozenset[int]) -> Any:
    table = pq.ParquetFile(path).read()
    table = table.drop_columns([c for c in table.column_names if c.endswith(_TIMES) or c in _PATHS])
    if but and "image_id" in table.column_names:
        table = table.filter(~np.isin(table["image_id"].to_numpy(), list(but)))
    return table


def _same_arrays(path: Path, other: Path) -> bool:
    with h5py.File(path) as a, h5py.File(other) as b:
        return set(a) == set(b) and all(np.array_equal(a[name][()], b[name][()]) for name in a)
