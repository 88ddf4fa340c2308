"""The user's boxes: read by image, refused by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files.given_boxes import read_boxes


def boxes(tmp_path: Path, **columns: list[object]) -> Path:
    path = tmp_path / "boxes.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_boxes_are_grouped_by_image(tmp_path: Path) -> None:
    path = boxes(tmp_path, key=["a", "b", "a"], x0=[0, 1, 2], y0=[0, 1, 2], x1=[9, 8, 7], y1=[9, 8, 7])
    found = read_boxes(path).by_key
    np.testing.assert_array_equal(found["a"], [[0, 0, 9, 9, 1], [2, 2, 7, 7, 1]])
    assert found["b"].shape == (1, 5)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"key": ["a"], "x0": [0], "y0": [0], "x1": [1]}, "no column y1"),
        ({"x0": [0], "y0": [0], "x1": [1], "y1": [1]}, "no column key or"),
        ({"key": ["a", "b"], "x0": [0, 5], "y0": [0, 0], "x1": [1, 5], "y1": [1, 1]}, "row 2 is not a box"),
        ({"key": ["a"], "x0": [0], "y0": [0], "x1": [float("inf")], "y1": [1]}, "row 1 is not a box"),
        (
            {"key": ["a"], "x0": ["left"], "y0": [0], "x1": [1], "y1": [1]},
            "column 'x0' must hold numbers, but row 1 has 'left'",
        ),
        ({"key": ["a"], "x0": [0], "y0": [0], "x1": [1], "y1": [1], "score": ["high"]}, "'score' must hold numbers"),
    ],
)
def test_boxes_that_are_none_are_refused(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_boxes(boxes(tmp_path, **columns))


def test_parquet_boxes_of_another_type_are_refused(tmp_path: Path) -> None:
    columns = {"key": ["a"], "x0": [[0.0]], "y0": [0], "x1": [1], "y1": [1]}
    pd.DataFrame(columns).to_parquet(tmp_path / "boxes.parquet")
    with pytest.raises(InputError, match="column 'x0' must hold numbers, not list"):
        read_boxes(tmp_path / "boxes.parquet")


def test_a_box_of_no_image_is_named(tmp_path: Path) -> None:
    columns = {"key": ["a", None], "x0": [0, 0], "y0": [0, 0], "x1": [1, 1], "y1": [1, 1]}
    pd.DataFrame(columns).to_parquet(tmp_path / "boxes.parquet")
    with pytest.raises(InputError, match="row 2 has no 'key'"):
        read_boxes(tmp_path / "boxes.parquet")


def test_a_table_without_rows_gives_no_boxes(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("key,x0,y0,x1,y1\n")
    assert read_boxes(tmp_path / "boxes.csv").by_key == {}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist"):
        read_boxes(tmp_path / "nowhere.csv")
