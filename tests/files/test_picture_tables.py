"""Pictures in Parquet tables: which column, what rows are called, what becomes of rows without."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import packed_pictures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddfa_batch.schemas.errors import ImageError, InputError
from ddfa_batch.tasks.files.input_reader import read_input
from ddfa_batch.tasks.files.inputs import Ignored, Input, SourceOptions, list_inputs, resolve_sources

FILES = {f"{i}.jpg": f"picture {i}".encode() for i in range(12)}


def inputs(path: Path, **columns: str) -> list[Input]:
    source = resolve_sources([str(path)], SourceOptions(**columns))  # type: ignore[arg-type]
    return list(list_inputs(source, Path("/nowhere"), Ignored()))


def fault(item: Input) -> str:
    with pytest.raises(ImageError) as raised:
        read_input("", item)
    return raised.value.kind


@pytest.mark.parametrize("struct", [False, True])
def test_rows_are_read_in_any_order(tmp_path: Path, struct: bool) -> None:
    items = inputs(packed_pictures.table(tmp_path / "part.parquet", FILES, struct=struct))
    assert [item.key for item in items] == [f"part.parquet#{i:06d}" for i in range(12)]
    for order in (items, items[::-1], items[3:9:2], items[::5]):
        assert [read_input("", item) for item in order] == [FILES[f"{items.index(item)}.jpg"] for item in order]


@pytest.mark.parametrize(("struct", "column"), [(False, "key"), (True, "image.path")])
def test_a_column_may_name_the_rows(tmp_path: Path, struct: bool, column: str) -> None:
    path = packed_pictures.table(tmp_path / "part.parquet", FILES, struct=struct)
    assert [item.key for item in inputs(path, key_column=column)] == [f"part.parquet#{name}" for name in FILES]


def test_names_that_repeat_are_told_apart(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [7, 7], "jpg": [b"a", b"b"]}), tmp_path / "p.parquet")
    assert [item.key for item in inputs(tmp_path / "p.parquet", key_column="n")] == ["p.parquet#7", "p.parquet#7#2"]


@pytest.mark.parametrize(
    ("columns", "options", "sentence"),
    [
        ({"jpg": [b"x"]}, {"image_column": "photo"}, r"has no column photo \(it has: jpg\)"),
        ({"jpg": [1]}, {"image_column": "jpg"}, "'jpg' must hold bytes, or structs with 'bytes' in them, not int64"),
        ({"jpg": [{"path": "x"}]}, {"image_column": "jpg"}, "must hold bytes"),
        ({"jpg": [b"x"]}, {"key_column": "name"}, "has no column name"),
        ({"jpg": [b"x"], "name": [1.5]}, {"key_column": "name"}, "row 1 has no text in 'name'"),
        ({"jpg": [b"x"], "name": ["a"]}, {"key_column": "name.x"}, "has no column name.x"),
    ],
)
def test_columns_that_do_not_fit_are_named(
    tmp_path: Path, columns: dict[str, list[object]], options: dict[str, str], sentence: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    with pytest.raises(InputError, match=sentence):
        inputs(tmp_path / "p.parquet", **options)


def test_a_table_of_paths_stays_a_manifest(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.jpg"], "embedding": [b"\0\1"]}), tmp_path / "m.parquet")
    assert [(item.key, item.place) for item in inputs(tmp_path / "m.parquet")] == [("a.jpg", None)]


def test_rows_without_a_picture_are_errors(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": b"x", "path": "1"}, None, {"bytes": None, "path": "photos/3.jpg"}, {"bytes": b"", "path": "4"}]
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "p.parquet")
    items = inputs(tmp_path / "p.parquet")
    assert [fault(item) for item in items[1:]] == ["missing", "missing", "empty"]
    assert read_input("", items[0]) == b"x"


def test_a_table_that_is_damaged_is_an_error_of_its_rows(tmp_path: Path) -> None:
    path = packed_pictures.table(tmp_path / "p.parquet", FILES)
    items, raw = inputs(path), bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(1).dictionary_page_offset
    raw[start : start + 30] = b"\xff" * 30
    path.write_bytes(raw)
    assert {fault(item) for item in items[5:10]} == {"unreadable"}
    assert read_input("", items[0]) == FILES["0.jpg"]
    path.write_bytes(b"nothing")
    assert fault(items[0]) == "unreadable"
    path.unlink()
    assert fault(items[0]) == "missing"


def test_a_large_row_group_is_not_held_in_memory(tmp_path: Path) -> None:
    pictures = pa.table({"image": [bytes([i]) * 1_000_000 for i in range(60)]})
    pq.write_table(pictures, tmp_path / "p.parquet", write_batch_size=1, use_dictionary=False)  # pages of a picture
    items = inputs(tmp_path / "p.parquet")
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        for i, item in enumerate(items):
            assert read_input("", item)[:1] == bytes([i])
            assert pa.total_allocated_bytes() - before < 20e6
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_text_that_is_no_utf8_is_told_of(tmp_path: Path) -> None:
    """Arrow takes a file's word for it, and trips over it later."""
    names = pa.array([b"a.png", b"\xe9.png"], pa.binary()).view(pa.string())
    pictures = pa.StructArray.from_arrays([pa.array([b"a", b"b"]), names], ["bytes", "path"])
    pq.write_table(pa.table({"image": pictures, "path": names}), tmp_path / "p.parquet")
    first, second = inputs(tmp_path / "p.parquet")
    assert read_input("", first) == b"a"
    assert fault(second) == "unreadable"
    with pytest.raises(InputError, match="not a readable Parquet file"):
        inputs(tmp_path / "p.parquet", key_column="path")
    pq.write_table(pa.table({"path": names}), tmp_path / "list.parquet")
    with pytest.raises(InputError, match=r"list\.parquet"):
        inputs(tmp_path / "list.parquet")


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_column_whose_name_is_no_utf8_is_told_of(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"list.{ending}").write_bytes(b"p\x80th,label\na.png,1\n")
    with pytest.raises(InputError, match="no UTF-8"):
        inputs(tmp_path / f"list.{ending}")
