"""Names of inputs: patterns, and the folder that keys are relative to."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files.source_names import base_folder, common_folder, expand


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.tar", "a/2.tar", "b/c/3.tar", "b/.4.tar", "x[1].jpg", "é.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a/1.tar", ["a/1.tar"]),
        ("-", ["-"]),
        ("nothing", ["nothing"]),
        ("{00008..00011}.tar", ["00008.tar", "00009.tar", "00010.tar", "00011.tar"]),
        ("{8..11}.tar", ["8.tar", "9.tar", "10.tar", "11.tar"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{a,b}/{1..2}.tar", ["a/1.tar", "a/2.tar", "b/1.tar", "b/2.tar"]),
        ("x{,y}.jpg", ["x.jpg", "xy.jpg"]),
        ("a/*.tar", ["a/1.tar", "a/2.tar"]),
        ("**/*.tar", ["a/1.tar", "a/2.tar", "b/c/3.tar", "é.tar"]),
        ("{a,b/c}/?.tar", ["a/1.tar", "a/2.tar", "b/c/3.tar"]),
        ("x[1].jpg", ["x[1].jpg"]),
        ("{a}", ["{a}"]),
    ],
)
def test_a_pattern_stands_for_names(here: Path, pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names


@pytest.mark.parametrize("pattern", ["a/*.zip", "{a,c}/*.tar"])
def test_a_pattern_that_matches_nothing_is_named(here: Path, pattern: str) -> None:
    with pytest.raises(InputError, match="matches nothing"):
        expand(pattern)


@pytest.mark.parametrize("pattern", ["{0..99999999999}.tar", "{1..2000}{1..2000}"])
def test_a_pattern_that_stands_for_far_too_much_is_refused(here: Path, pattern: str) -> None:
    with pytest.raises(InputError, match="at most 1,000,000"):
        expand(pattern)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("a/1.tar", "a"), ("a", "."), ("a/*.tar", "a"), ("*/c/3.tar", "."), ("a/{1..2}.tar", "a"), ("-", "."), (".", ".")],
)
def test_keys_are_relative_to_the_fixed_beginning(here: Path, name: str, folder: str) -> None:
    assert Path(base_folder(name)) == (here / folder)


def test_keys_of_several_are_relative_to_what_holds_all(here: Path) -> None:
    assert common_folder(["a/1.tar", "a/2.tar"]) == str(here / "a")
    assert common_folder(["a/1.tar", "b/c/*.tar"]) == str(here)
