"""Conditions in words: what they pick, as DuckDB would, and what is said of those that are none."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from ddfa_batch.schemas.errors import OptionError
from ddfa_batch.tasks.files.row_filters import columns_of, row_filter

TABLE = pa.table(
    {
        "n": pa.array(range(12), pa.int64()),
        "yaw": pa.array([-60.0, -41, -40, -5, 0, 0.5, 3, 40, 41, 60, 89, None], pa.float32()),
        "score": pa.array([0.9, 0.91, 0.5, 0.95, 1, 0.2, 0.99, 0.9, 0.91, 0.7, 0.92, 0.93], pa.float32()),
        "key": pa.array([f"{c}/é's {i}.jpg" for i, c in enumerate("aabbccddeeff")]),
        "track_id": pa.array([None, 0, 1, None, 0, 1, 2, 2, 2, None, None, 5], pa.int64()),
        "seen": pa.array([True, False] * 6),
        "box": pa.array([[1.0, 2.0]] * 12, pa.list_(pa.float32(), 2)),
    }
)

CONDITIONS = [
    "yaw > 40 and score > 0.9",
    "abs(yaw) > 40",
    "not (yaw > 0 or score < .9)",
    "yaw between -41 and 41 and n <> 4",
    "yaw not between -41 and 41",
    "track_id in (0, 2)",
    "track_id not in (0, 2) and track_id is not null",
    "track_id is null",
    "key like 'b/%'",
    "key not like '%''s 1_.jpg'",
    "key = 'c/é''s 4.jpg'",
    "n * 2 + 1 >= 9 and n / 2 < 4.5",
    "-yaw > 40 or yaw = -5",
    '"yaw" < -(40 + 0.5)',
    "seen = true and n != 2",
    "yaw < 1e1 and yaw > -1.5e+1",
    "n > 3 and n < 9 or n = 11",
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_picks_what_duckdb_picks(condition: str) -> None:
    rows = TABLE
    expected = duckdb.sql(f"select n from rows where {condition}").fetchall()
    found = ds.dataset(TABLE).to_table(filter=row_filter(condition, TABLE.schema))
    assert [(n,) for n in found["n"].to_pylist()] == expected
    assert len(rows) == 12


FAULTS = {
    "yow > 3": "no column 'yow'; there are n, yaw, .* Did you mean 'yaw'",
    "box > 3": "holds a list in each row",
    "yaw >": "ends early",
    "yaw > 3 score": "'score' is not expected",
    "yaw > 3)": "is not expected",
    "(yaw > 3": "ends early",
    "": "empty",
    "   ": "empty",
    "3 + 2": "names no column",
    "yaw ; drop": "is not understood",
    "yaw > 'far'": "no condition",
    "key > 3": "no condition",
    "__import__('os')": "calls __import__",
    "exp(yaw) > 1": "only function is abs",
    "yaw > 1 / 0": "divides by zero",
    "yaw": "no condition",
    "yaw not": "ends early",
    "track_id in ()": "is not expected",
    "key like yaw": "is not expected",
    "(" * 5000 + "yaw": "5,003 characters",
    "(" * 90 + "yaw" + ")" * 90: "nests deeper",
    "not " * 90 + "seen": "nests deeper",
    "-" * 90 + "yaw > 1": "nests deeper",
}


@pytest.mark.parametrize("condition", FAULTS)
def test_what_is_no_condition_is_told_in_a_sentence(condition: str) -> None:
    with pytest.raises(OptionError, match=FAULTS[condition]) as caught:
        row_filter(condition, TABLE.schema)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "?"))


def test_the_columns_of_a_condition_are_those_it_names() -> None:
    assert columns_of(" ") == set()
    assert columns_of("abs(yaw) > 1 and \"key\" like 'score' or nonsense is not null") == {"yaw", "key", "nonsense"}
