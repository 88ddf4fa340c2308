"""Listing inputs: every kind of source, in a fixed order, nothing twice and nothing lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files.given_boxes import GivenBoxes
from ddfa_batch.tasks.files.inputs import Ignored, list_inputs, resolve_path, resolve_source, unmatched


def keys(path: Path, out: Path = Path("/nowhere"), column: str | None = None) -> list[str]:
    return [item.key for item in list_inputs(resolve_source(path, column), out, Ignored())]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b/2.JPG",
        "b/1.png",
        "a.webp",
        "b/notes.txt",
        ".hidden/x.jpg",
        "._a.jpg",
        "out/overlay.png",
        "c d/é.avif",
    ):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "tree"


def test_a_folder_is_searched_in_byte_order(tree: Path) -> None:
    assert keys(tree) == ["a.webp", "b/1.png", "b/2.JPG", "c d/é.avif", "out/overlay.png"]


def test_the_output_folder_is_no_input(tree: Path) -> None:
    assert "out/overlay.png" not in keys(tree, out=tree / "out")


def test_what_is_left_out_is_said(tree: Path) -> None:
    ignored = Ignored()
    list(list_inputs(resolve_source(tree, None), Path("/nowhere"), ignored))
    assert ignored.sentence() == "3 files are no image by name and left out (2 hidden, 1 .txt)."


def test_links_are_followed_but_not_in_circles(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/z.png").touch()
    (tree / "linked").symlink_to(tmp_path / "elsewhere")
    (tree / "b/up").symlink_to(tree)
    assert keys(tree).count("linked/z.png") == 1
    assert len(keys(tree)) == 6


def test_names_that_are_no_utf8_are_found_again(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(raw, "wb"):  # noqa: PTH123 - a path of bytes
        pass
    (item,) = list_inputs(resolve_source(tmp_path, None), Path("/nowhere"), Ignored())
    assert item.key == "caf\\xe9.png"
    assert resolve_path(tmp_path, item).exists()


def test_a_text_list_keeps_every_line_but_empty_ones(tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text("a.jpg\r\nb c.jpg\n\n/abs/d.jpg\na.jpg\n")
    assert keys(listing) == ["a.jpg", "b c.jpg", "/abs/d.jpg", "a.jpg"]
    items = list(list_inputs(resolve_source(listing, None), Path("/nowhere"), Ignored()))
    assert resolve_path(tmp_path, items[0]) == tmp_path / "a.jpg"
    assert resolve_path(tmp_path, items[2]) == Path("/abs/d.jpg")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_manifest_names_its_paths_in_a_column(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"id": [1, 2, 3], "path": ["x.jpg", "y,z.jpg", "x.jpg"], "photo": ["p", "q", "r"]})
    path = tmp_path / f"m{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    assert keys(path) == ["x.jpg", "y,z.jpg", "x.jpg"]
    assert keys(path, column="photo") == ["p", "q", "r"]
    with pytest.raises(InputError, match=r"no column nothing \(it has: id, path, photo\)"):
        keys(path, column="nothing")


def test_numbers_as_names_stay_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path\n007\n1e5\n")
    assert keys(tmp_path / "m.csv") == ["007", "1e5"]


def test_an_empty_path_is_an_input_too(tmp_path: Path) -> None:
    pd.DataFrame({"path": ["a.jpg", None]}).to_parquet(tmp_path / "m.parquet")
    assert keys(tmp_path / "m.parquet") == ["a.jpg", ""]


@pytest.mark.parametrize("name", ["nothing", "broken.parquet", "broken.csv", "empty.csv"])
def test_a_source_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    if name.startswith("broken"):
        (tmp_path / name).write_bytes(b"\x00\xff\xfe broken")
    elif name == "empty.csv":
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=name):
        keys(tmp_path / name)


@pytest.mark.parametrize("name", ["notes", "clip.ogv"])
def test_what_is_neither_picture_nor_list_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\0\0\0 ftypisom and more of it")
    with pytest.raises(InputError, match=rf"{name} is neither a picture nor a video; give a folder, a picture, "):
        resolve_source(tmp_path / name, None)


def test_a_picture_may_be_called_anything(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.tmp", "PNG")
    assert keys(tmp_path / "picture.tmp") == ["picture.tmp"]


def test_a_broken_picture_is_an_input_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"broken")
    assert keys(tmp_path / "a.jpg") == ["a.jpg"]


def test_what_is_given_for_no_input_is_counted_and_named() -> None:
    boxes = GivenBoxes({name: np.zeros((1, 5), np.float32) for name in "abcdef"}, "")
    assert unmatched(boxes, {"a", "b", "c", "d", "e", "f", "g"}) is None
    assert unmatched(boxes, {"a", "b", "c", "d", "e"}) == "Boxes of 1 pictures that are no inputs are left out ('f')."
    said = "Boxes of 5 pictures that are no inputs are left out ('b', 'c', 'd', …)."
    assert unmatched(boxes, {"a"}) == said
