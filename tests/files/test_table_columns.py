"""Columns of tables: the same values from Parquet and CSV, and faults that name file, column and row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files import table_columns

PATH = Path("t.parquet")


def lists(values: object, kind: pa.DataType | None = None) -> np.ndarray | None:
    return table_columns.number_lists(PATH, pa.table({"a": pa.array(values, kind)}), "a")


@pytest.mark.parametrize("kind", [None, pa.list_(pa.float32(), 2), pa.list_(pa.int8()), pa.large_list(pa.float64())])
def test_lists_of_one_length_are_an_array(kind: pa.DataType | None) -> None:
    np.testing.assert_array_equal(lists([[1, 2], [3, 4], [5, 6]], kind), [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize("kind", [None, pa.list_(pa.float32(), 2)])
def test_a_list_that_is_not_there_is_nan(kind: pa.DataType | None) -> None:
    np.testing.assert_array_equal(lists([[1, 2], None, [5, None]], kind), [[1, 2], [np.nan] * 2, [5, np.nan]])


def test_a_slice_of_a_column_is_only_the_slice() -> None:
    table = pa.table({"a": pa.array([[1.0], [2.0], None, [4.0]], pa.list_(pa.float64(), 1))})
    np.testing.assert_array_equal(table_columns.number_lists(PATH, table.slice(1), "a"), [[2], [np.nan], [4]])


def test_several_chunks_are_one_array() -> None:
    part = pa.table({"a": [[1.0, 2.0]]})
    joined = pa.concat_tables([part, part])
    np.testing.assert_array_equal(table_columns.number_lists(PATH, joined, "a"), [[1, 2], [1, 2]])


def test_lists_of_lists_keep_their_shape() -> None:
    found = lists([[[1, 2, 3], [4, 5, 6]], None])
    assert found is not None
    assert found.shape == (2, 2, 3)
    np.testing.assert_array_equal(found[0], [[1, 2, 3], [4, 5, 6]])
    assert np.isnan(found[1]).all()


def test_a_column_of_nothing_is_none() -> None:
    assert lists([None, None]) is None
    assert lists([None], pa.list_(pa.float32())) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1, 2], [3]], r"lists of column 'a' have different lengths \(1 … 2\)"),
        ([[[1], [2]], [[3], [4, 5]]], "different lengths"),
        ([["x"]], "column 'a' must hold lists of numbers"),
        ([1.0], "column 'a' must hold lists of numbers, not double"),
        ([[[[1.0]]]], "column 'a' must hold lists of numbers"),
    ],
)
def test_what_is_no_list_of_numbers_is_named(values: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        lists(values)


@pytest.mark.parametrize("values", [[1.5, None], pa.array([1.5, None], pa.float16()), ["1.5", None]])
def test_numbers_may_be_written_as_text(values: object) -> None:
    np.testing.assert_array_equal(table_columns.numbers(PATH, pa.table({"a": values}), "a"), [1.5, np.nan])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["1", "two"], "column 'a' must hold numbers, but row 2 has 'two'"),
        ([True], "column 'a' must hold numbers, not bool"),
        ([[1.0]], "column 'a' must hold numbers, not list"),
    ],
)
def test_what_is_no_number_is_named(values: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        table_columns.numbers(PATH, pa.table({"a": values}), "a")


def test_whole_numbers_are_keys_too() -> None:
    assert table_columns.texts(PATH, pa.table({"a": [7, 8]}), "a") == ["7", "8"]


@pytest.mark.parametrize(("values", "said"), [(["x", None], "row 2 has no 'a'"), ([[1]], "'a' must hold text")])
def test_what_is_no_text_is_named(values: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        table_columns.texts(PATH, pa.table({"a": values}), "a")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_misspelt_column_is_named_with_those_there_are(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"a": [1], "b": [2]}), path)
    else:
        path.write_text("a\tb\n1\t2\n" if suffix == ".tsv" else "a,b\n1,2\n")
    assert table_columns.read_columns(path, ["b"]).to_pydict() == {"b": [2]}
    with pytest.raises(InputError, match=r"has no column c \(it has: a, b\)"):
        table_columns.read_columns(path, ["a", "c"])
    with pytest.raises(InputError, match=r"has no column c or d \(it has: a, b\); rename one"):
        table_columns.choose_column(path, table_columns.column_names(path), ["c", "d"], "rename one")


@pytest.mark.parametrize(("name", "content"), [("t.csv", b""), ("t.parquet", b"PAR1"), ("t.csv", b"a\n\xff\xfe\n")])
def test_a_damaged_table_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is not a readable"):
        table_columns.read_columns(tmp_path / name, table_columns.column_names(tmp_path / name), ["a"])
