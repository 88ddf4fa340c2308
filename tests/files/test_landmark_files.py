"""Landmarks from files: every format gives the same points, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from scipy.io import savemat

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files.landmark_files import read_landmarks

POINTS = np.random.default_rng(0).uniform(0, 200, (3, 68, 2)).round(3)
KEYS = ("a", "b", "c")


def pts(points: np.ndarray) -> str:
    lines = "\n".join(f"{x + 1:.6f} {y + 1:.6f}" for x, y in points)
    return f"version: 1\nn_points:  {len(points)}\n{{\n{lines}\n}}\n"


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


@pytest.mark.parametrize(("name", "content"), [("a.pts", b"{\n1 2 3\n}"), ("a.pts", b"\xff{"), ("a.mat", b"no"),
                                               ("a.txt", b""), ("a.csv", b""), ("a.parquet", b"PAR1")])  # fmt: skip
def test_files_of_another_kind_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_landmarks(tmp_path / name)


def test_mixed_markups_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pts").write_text(pts(POINTS[0]))
    (tmp_path / "b.pts").write_text(pts(POINTS[0][:21]))
    with pytest.raises(InputError, match="mixes"):
        read_landmarks(tmp_path)
