"""What `bench` measures adds up, and it leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_model
from command_line import call

KERNELS = ("decode", "detect", "regress", "dense", "write")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = small_model.pictures(tmp_path / "in", [1, 2, 0])
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff but no more")
    return folder


def test_stages_add_up_to_the_run_and_kernels_are_a_part_of_it(photos: Path, models: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = ("--rounds", 2, "--scratch", scratch, "--json", "--beside", "vertices=none")
    answer = call("bench", photos, *words, models=models)
    assert answer.code == 0, answer.stderr
    measured = json.loads(answer.stdout)
    assert list(measured) == ["as asked", "vertices=none"]
    whole, without = measured.values()
    assert (whole["inputs"], whole["faces"], whole["errors"]) == (4, 3, 1)
    assert sum(whole["stages"].values()) == pytest.approx(1e3 / whole["rate"], rel=1e-6)
    assert all(whole["kernels"][kernel] > 0 for kernel in KERNELS)
    assert without["kernels"]["dense"] == without["kernels"]["write"] == 0
    assert whole["bytes_per_face"] > without["bytes_per_face"]
    assert whole["core_hours_per_million"] == pytest.approx(1e6 / whole["rate"] / 3600)
    assert not list(scratch.iterdir())


def test_a_table_for_people_tells_the_same(photos: Path, models: Path) -> None:
    answer = call("bench", photos, "--rounds", 1, "--workers", 1, models=models)
    assert answer.code == 0, answer.stderr
    for said in ("as asked: 4 inputs, 3 faces, 1 error", "crop and regress", "1 local worker", "core hours"):
        assert said in answer.stdout
    assert "bare kernels …" in answer.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--beside", "refine"), "--beside takes one of detector=…"),
        (("--beside", "colour=red"), "--beside takes one of detector=…"),
        (("--beside", "refine=many"), "--beside refine=… takes a number"),
        (("--beside", "refine=99"), "refine is from 0 to 5"),
    ],
)
def test_misuse_is_told_before_anything_is_measured(
    words: tuple[str, ...], said: str, models: Path, photos: Path
) -> None:
    answer = call("bench", photos, "--quiet", *words, models=models)
    assert answer.code != 0
    assert said in answer.stderr
