"""Landmarks from files: every format gives the same points, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pts_files import pts
from scipy.io import savemat

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files.landmark_files import read_landmarks

POINTS = np.random.default_rng(0).uniform(0, 200, (3, 68, 2)).round(3)
KEYS = ("a", "b", "c")


def write(folder: Path, kind: str) -> Path:
    if kind == "pts":
        for key, points in zip(KEYS, POINTS, strict=True):
            (folder / f"{key}.pts").write_text(pts(points))
        return folder
    if kind == "mat":
        for key, points in zip(KEYS, POINTS, strict=True):
            savemat(folder / f"{key}.mat", {"pt2d": points.T + 1})
        return folder
    if kind == "parquet":
        rows = pa.FixedSizeListArray.from_arrays(pa.array(POINTS.ravel()), 136)
        pq.write_table(pa.table({"name": KEYS, "pts68": rows}), folder / "t.parquet")
    else:
        columns = {f"{axis}{i}": POINTS[:, i, c] for i in range(68) for c, axis in enumerate("xy")}
        pyarrow.csv.write_csv(pa.table({"path": KEYS, **columns}), folder / "t.csv")
    return folder / f"t.{kind}"


@pytest.mark.parametrize("kind", ["pts", "mat", "parquet", "csv"])
def test_every_format_gives_the_same_points(tmp_path: Path, kind: str) -> None:
    found = read_landmarks(write(tmp_path, kind))
    assert found.keys == KEYS
    np.testing.assert_allclose(found.landmarks, POINTS, atol=1e-4)
    assert (found.weights == 1).all()
    assert not found.problems


def test_aflw2000_has_three_dimensions(tmp_path: Path) -> None:
    solid = np.random.default_rng(1).uniform(0, 200, (68, 3))
    savemat(tmp_path / "image1.mat", {"pt3d_68": solid.T + 1, "pt2d": np.full((2, 21), -1.0)})
    found = read_landmarks(tmp_path / "image1.mat")
    assert found.keys == ("image1",)
    np.testing.assert_allclose(found.landmarks[0], solid)


def test_codes_of_visibility_weigh_one_or_nothing(tmp_path: Path) -> None:
    rows = pa.FixedSizeListArray.from_arrays(pa.array(POINTS.ravel()), 136)
    codes = np.tile(np.arange(68) % 3, 3).astype(np.int8)
    seen = pa.FixedSizeListArray.from_arrays(pa.array(codes), 68)
    pq.write_table(pa.table({"name": KEYS, "pts68": rows, "vis68": seen}), tmp_path / "t.parquet")
    np.testing.assert_array_equal(read_landmarks(tmp_path / "t.parquet").weights.ravel(), codes > 0)


def test_a_bad_file_in_a_folder_is_a_row(tmp_path: Path) -> None:
    write(tmp_path, "pts")
    (tmp_path / "b.pts").write_text("nothing")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/d.pts").write_text(pts(POINTS[0]))
    found = read_landmarks(tmp_path)
    assert found.keys == ("a", "b", "c", "sub/d")
    assert np.isnan(found.landmarks[1]).all()
    assert np.isfinite(found.landmarks[[0, 2, 3]]).all()
    assert "b.pts" in found.problems["b"]


def table(folder: Path, content: dict[str, object]) -> Path:
    pq.write_table(pa.table(content), folder / "t.parquet")
    return folder / "t.parquet"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda d: d / "missing.pts", "cannot be read"),
        (lambda d: d, "no .pts"),
        (lambda d: table(d, {"pts68": [[1.0] * 136]}), "no column"),
        (lambda d: table(d, {"name": ["a"]}), "no points"),
        (lambda d: table(d, {"name": ["a"], "pts68": [[1.0] * 134]}), "134 numbers"),
        (lambda d: table(d, {"name": ["a", "b"], "pts68": [[1.0] * 136, [1.0] * 42]}), "different lengths"),
        (lambda d: table(d, {"name": ["a"], "pts68": [["x"] * 136]}), "lists of numbers"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, make: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_landmarks(make(tmp_path))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pts", b"{\n1 2 3\n}"),
        ("a.pts", b"\xff{"),
        ("a.mat", b"no"),
        ("a.txt", b""),
        ("a.csv", b""),
        ("a.parquet", b"PAR1"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_landmarks(tmp_path / name)


def test_mixed_markups_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pts").write_text(pts(POINTS[0]))
    (tmp_path / "b.pts").write_text(pts(POINTS[0][:21]))
    with pytest.raises(InputError, match="mixes"):
        read_landmarks(tmp_path)


def test_the_yaw_of_a_mat_file_is_told_in_degrees(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"pt2d": POINTS[0].T + 1, "Pose_Para": [[0.1, np.pi / 3, 0.0]]})
    savemat(tmp_path / "b.mat", {"pt2d": POINTS[1].T + 1})
    np.testing.assert_allclose(read_landmarks(tmp_path).yaw, [60, np.nan])
    np.testing.assert_allclose(read_landmarks(tmp_path / "a.mat").yaw, [60])


def test_points_that_are_minus_one_are_missing(tmp_path: Path) -> None:
    points = POINTS[0].T + 1
    points[:, 3] = -1
    savemat(tmp_path / "a.mat", {"pt2d": points})
    assert np.flatnonzero(np.isnan(read_landmarks(tmp_path / "a.mat").landmarks[0]).all(axis=1)).tolist() == [3]


def flat(n: int = 1) -> list[list[float]]:
    return POINTS[:n].reshape(n, -1).tolist()


def test_weights_are_taken_as_they_are_and_never_negative(tmp_path: Path) -> None:
    weights = [[0.5, -1.0, None, *[2.0] * 65]]
    found = read_landmarks(table(tmp_path, {"name": ["a"], "pts68": flat(), "weights": weights, "vis68": [[0] * 68]}))
    np.testing.assert_array_equal(found.weights[0], [0.5, 0, 0, *[2] * 65])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"weights": [[1.0] * 21]}, "column 'weights' must have 68 numbers a face"),
        ({"weights": ["heavy"]}, "column 'weights' must hold lists of numbers"),
        ({"yaw": ["left"]}, "column 'yaw' must hold numbers, but row 1 has 'left'"),
        ({"name": [None]}, "row 1 has no 'name'"),
        ({"name": [1.5]}, "column 'name' must hold text"),
        ({"pts68": [None]}, "column 'pts68' is empty"),
        ({"pts68": ["1 2 3"]}, "column 'pts68' must hold lists of numbers, not string"),
        ({"name": [], "pts68": []}, "has no rows"),
    ],
)
def test_columns_of_another_type_are_named(tmp_path: Path, columns: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_landmarks(table(tmp_path, {"name": ["a"], "pts68": flat()} | columns))


def test_columns_that_are_no_numbers_in_a_csv_are_named(tmp_path: Path) -> None:
    names = [f"{axis}{i}" for i in range(68) for axis in "xy"]
    (tmp_path / "t.csv").write_text(",".join(["name", *names]) + "\n" + ",".join(["a", "left", *["1"] * 135]) + "\n")
    with pytest.raises(InputError, match="column 'x0' must hold numbers, but row 1 has 'left'"):
        read_landmarks(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text(",".join(["name", *names[:-1]]) + "\n" + ",".join(["a", *["1"] * 135]) + "\n")
    with pytest.raises(InputError, match="no points"):
        read_landmarks(tmp_path / "t.csv")
