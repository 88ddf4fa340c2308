"""Columns made of buffers are those that Arrow makes of the objects, one by one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddfa_batch.tasks.files.arrow_columns import column_of, table_of

KINDS = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"])),
    pa.binary(): st.binary(),
    pa.list_(pa.int64()): st.lists(st.integers(0, 9)),
}


@st.composite
def columns(draw: st.DrawFn) -> tuple[pa.DataType, list[Any]]:
    kind = draw(st.sampled_from(list(KINDS)))
    return kind, draw(st.lists(st.none() | KINDS[kind], max_size=20))


@given(columns())
def test_a_column_of_objects_is_arrows_own(column: tuple[pa.DataType, list[Any]]) -> None:
    kind, values = column
    made = column_of(values, kind, len(values))
    made.validate(full=True)
    slow = pa.array(values, kind)
    assert made.type == kind
    assert repr(made.to_pylist()) == repr(slow.to_pylist())  # NaN is NaN
    assert made.null_count == slow.null_count


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int32(), pa.bool_()])
def test_an_array_is_its_values(kind: pa.DataType) -> None:
    values = np.random.default_rng(1).integers(0, 2, (7, 3)).astype(kind.to_pandas_dtype())
    one, many = column_of(values[:, 1], kind, 7), column_of(values, pa.list_(kind, 3), 7)
    assert one.to_pylist() == values[:, 1].tolist()
    assert many.to_pylist() == values.tolist()


def test_an_array_that_would_lose_its_meaning_is_refused() -> None:
    with pytest.raises(TypeError, match="same_kind"):
        column_of(np.array([0.5]), pa.int32(), 1)


def test_a_table_of_no_rows_has_its_columns() -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.list_(pa.float32(), 2))])
    assert table_of({"a": [], "b": np.zeros((0, 2), np.float32)}, schema).schema == schema


def test_no_column_imports_pandas() -> None:
    code = (
        "import sys, numpy as np, pyarrow as pa\n"
        "from ddfa_batch.tasks.files.arrow_columns import column_of\n"
        "column_of(['a', None], pa.string(), 2)\n"
        "column_of([1, None], pa.int64(), 2)\n"
        "column_of(np.zeros((2, 3)), pa.list_(pa.float64(), 3), 2)\n"
        "print('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
