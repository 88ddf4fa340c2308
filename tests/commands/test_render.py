"""`ddfa-batch render` says what it draws, where it lies, and what is wrong with a condition."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call
from conftest import wanted

from ddfa_batch.pipeline.process import process
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.model_bundle import Bundle


@pytest.fixture(scope="module")
def run(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("render") / "out"
    process(wanted(photos, out, bundle, vertices="none"), Execution("in-process"))
    return out


def test_a_render_tells_what_it_draws_and_is_accounted_for(run: Path, tmp_path: Path, models: Path) -> None:
    answer = call("render", run, tmp_path / "p", "--kind", "mesh", "--kind", "depth", models=models)
    assert answer.code == 0, answer.stderr
    assert "12 inputs of" in answer.stdout
    assert "mesh, depth as png" in answer.stdout
    assert "12 pictures with 19 faces" in answer.stdout
    assert f"Pictures in {tmp_path / 'p' / 'pictures'}" in answer.stdout
    status = call("status", tmp_path / "p", models=models)
    assert status.code == 0
    assert "Every finished shard adds up" in status.stdout
    again = call("render", run, tmp_path / "p", "--kind", "mesh", "--kind", "depth", models=models)
    assert "Nothing was left to do" in again.stdout


def test_nothing_is_written_in_a_dry_run(run: Path, tmp_path: Path, models: Path) -> None:
    answer = call("render", run, tmp_path / "p", "--dry-run", "--worst", 2, models=models)
    assert answer.code == 0
    assert "Nothing was written" in answer.stdout
    assert not (tmp_path / "p").exists()


MISUSE = {
    ("--where", "yow > 3"): (1, "There is no column 'yow'; there are face_id,"),
    ("--where", "yaw >"): (1, "it ends early"),
    ("--where", ""): (1, "The condition is empty"),
    ("--worst", "2", "--random", "3"): (2, "--worst and --random exclude each other"),
    ("--errors", "--worst", "2"): (2, "leave out --where"),
    ("--errors",): (1, "Nothing in"),
    ("--extend", "--worst", "2"): (1, "leave out --extend"),
    ("--kind", "uv"): (1, "leave out the kind uv"),
    ("--kind", "x-ray"): (2, "x-ray"),
    ("--kind", "pose", "--texture"): (1, "The kind mesh alone has a texture"),
}


@pytest.mark.parametrize("words", MISUSE, ids=" ".join)
def test_what_is_wrong_is_told_in_a_sentence(run: Path, tmp_path: Path, models: Path, words: tuple[str, ...]) -> None:
    code, sentence = MISUSE[words]
    answer = call("render", run, tmp_path / "p", *words, models=models)
    assert answer.code == code
    assert sentence in answer.stderr
    assert not (tmp_path / "p").exists()
