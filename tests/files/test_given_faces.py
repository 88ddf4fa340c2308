"""Parameters that are given: grouped by image, best first, and refused where they are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files.given_faces import read_faces

P = 5
DIGEST = "d" * 64


def table(folder: Path, columns: dict[str, object], metadata: dict[str, str] | None = None) -> Path:
    made = pa.table(columns)
    pq.write_table(made.replace_schema_metadata(metadata), folder / "faces.parquet")
    return folder / "faces.parquet"


def columns(n: int, **more: object) -> dict[str, object]:
    params = np.arange(n * P, dtype=np.float32).reshape(n, P).tolist()
    return {"key": ["a"] * n, "params": params, "roi": [[0.0, 0.0, 9.0, 9.0]] * n, **more}


def test_the_best_faces_come_first_and_so_many_are_kept(tmp_path: Path) -> None:
    path = table(tmp_path, columns(3, score=[0.1, 0.9, 0.5], face_index=[7, 8, 9]))
    index, params, rois = read_faces(path, P, DIGEST, 2).by_key["a"]
    np.testing.assert_array_equal(index, [8, 9])
    np.testing.assert_array_equal(params[0], np.arange(P, 2 * P))
    assert (params.dtype, rois.shape) == (np.float32, (2, 4))


def test_without_a_score_the_smaller_number_comes_first(tmp_path: Path) -> None:
    path = table(tmp_path, columns(3, face_index=[2, 0, 1]))
    np.testing.assert_array_equal(read_faces(path, P, DIGEST, 0).by_key["a"][0], [0, 1, 2])


def test_faces_without_a_number_are_counted_by_image(tmp_path: Path) -> None:
    path = table(tmp_path, columns(3) | {"key": ["a", "b", "a"]})
    found = read_faces(path, P, DIGEST, 0).by_key
    assert {key: index.tolist() for key, (index, _, _) in found.items()} == {"a": [0, 1], "b": [0]}


def test_a_folder_of_a_run_is_all_its_tables(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for i, key in enumerate("ab"):
        pq.write_table(pa.table(columns(1) | {"key": [key]}), tmp_path / f"faces/{i:06d}.parquet")
    assert sorted(read_faces(tmp_path, P, DIGEST, 0).keys()) == ["a", "b"]


def test_a_table_without_rows_has_no_faces(tmp_path: Path) -> None:
    kinds = pa.schema([("key", pa.string()), ("params", pa.list_(pa.float32(), P)), ("roi", pa.list_(pa.float64(), 4))])
    pq.write_table(kinds.empty_table(), tmp_path / "faces.parquet")
    assert read_faces(tmp_path / "faces.parquet", P, DIGEST, 0).by_key == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"params": [[1.0] * 4]}, "params must have 5 numbers a face, but has 4"),
        ({"params": ["text"]}, "column 'params' must hold lists of numbers, not string"),
        ({"params": [["x"] * P]}, "column 'params' must hold lists of numbers"),
        ({"params": [[1.0] * 4 + [None]]}, "not finite"),
        ({"params": [None]}, "params must have 5 numbers a face, but has none"),
        ({"params": [[[1.0]] * P]}, "params must have 5 numbers a face, but has 5 × 1"),
        ({"roi": [[0.0, 0.0, 9.0]]}, "roi must have 4 numbers"),
        ({"roi": [[9.0, 0.0, 9.0, 9.0]]}, "no square"),
        ({"key": [None]}, "row 1 has no 'key'"),
        ({"key": [1.5]}, "column 'key' must hold text"),
        ({"score": ["high"]}, "column 'score' must hold numbers, but row 1 has 'high'"),
        ({"face_index": ["first"]}, "column 'face_index' must hold numbers"),
        ({"face_index": [-1]}, "face_index must be 0 or more"),
        ({"face_index": [None]}, "face_index must be 0 or more|must hold"),
    ],
)
def test_a_column_of_another_kind_is_named(tmp_path: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_faces(table(tmp_path, columns(1) | change), P, DIGEST, 0)


def test_a_misspelt_column_is_not_called_damage(tmp_path: Path) -> None:
    renamed = columns(1)
    renamed["parms"] = renamed.pop("params")
    with pytest.raises(InputError, match="has no column params"):
        read_faces(table(tmp_path, renamed), P, DIGEST, 0)


def test_two_faces_of_one_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 faces of a have face_index 3"):
        read_faces(table(tmp_path, columns(2, face_index=[3, 3])), P, DIGEST, 0)


def test_another_models_parameters_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, columns(1), {"ddfa_batch.digest": "e" * 64})
    with pytest.raises(InputError, match="made with another model"):
        read_faces(path, P, DIGEST, 0)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"key,params\n"])
def test_a_damaged_table_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "faces.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"faces\.parquet is not a readable Parquet file"):
        read_faces(tmp_path / "faces.parquet", P, DIGEST, 0)


def test_a_folder_without_faces_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no parameters"):
        read_faces(tmp_path, P, DIGEST, 0)
