"""Pictures are called by their number and what of a key is harmless, and lie in their folder whatever the key says."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddfa_batch.schemas.config import PICTURE_FORMATS
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.files.picture_files import encoded, ending, file_name

NAMES = {
    "a/b/portrait.JPG": "00000007-portrait.png",
    "../../etc/passwd": "00000007-passwd.png",
    "/abs/x.jpg": "00000007-x.png",
    "shard.tar#inner/../x.jpg": "00000007-x.png",
    "clip.mp4#000012": "00000007-clip.mp4_000012.png",
    "..": "00000007.png",
    "a/latin\\xe9.jpg": "00000007-latin.png",
    "": "00000007.png",
    ".hidden.png": "00000007-hidden.png",
    "été à Łódź.webp": "00000007-été_à_Łódź.png",
    "a\\..\\b\n\x1b[31m\0.jpg": "00000007-b_31m.png",
    "x" * 500 + ".jpg": "00000007-" + "x" * 60 + ".png",
}


@pytest.mark.parametrize("key", NAMES, ids=lambda key: repr(key[:20]))
def test_a_name_keeps_what_is_harmless(key: str) -> None:
    assert file_name(7, key, ".png") == NAMES[key]


@given(st.text())
def test_no_key_leads_out_of_the_folder(key: str) -> None:
    name = file_name(3, key, ".png")
    assert (Path("/out") / name).resolve().parent == Path("/out")
    assert len(name.encode("utf-8", "strict")) <= 255
    assert name.startswith("00000003")


def test_names_sort_as_inputs_do() -> None:
    names = [file_name(i, key, ".png") for i, key in enumerate(["z.jpg", "a.jpg", *["m.jpg"] * 200])]
    assert sorted(names) == names


@pytest.mark.parametrize("form", PICTURE_FORMATS)
def test_every_format_can_be_read_again(form: str) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 30:] = (40, 120, 220)
    read = cv2.imdecode(np.frombuffer(encoded(picture, form), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(read.astype(int) - picture)[:, [5, 50]].max() < 8
    assert ending(form).startswith(".")


def test_what_a_format_cannot_hold_is_told() -> None:
    with pytest.raises(ImageError, match="20000 × 1 pixels cannot be written as webp"):
        encoded(np.zeros((1, 20000, 3), np.uint8), "webp")
