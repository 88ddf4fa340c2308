"""`ddfa-batch report` says where the page is; what a page cannot be made of is told in a sentence."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from command_line import call
from conftest import wanted

import ddfa_batch
from ddfa_batch.pipeline.process import process
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.model_bundle import Bundle


@pytest.fixture(scope="module")
def run(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out"
    process(wanted(photos, out, bundle, vertices="none"), Execution("in-process"))
    return out


def test_the_page_is_in_the_run_and_the_run_stays_whole(run: Path, models: Path) -> None:
    answer = call("report", run, models=models)
    assert answer.code == 0, answer.stderr
    assert answer.stdout.startswith(f"{run / 'report.html'} (")
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    assert call("verify", run, models=models).code == 0


def test_the_page_can_lie_elsewhere_and_be_without_meshes_to_turn(run: Path, models: Path, tmp_path: Path) -> None:
    answer = call("report", run, "--page", tmp_path / "p.html", "--no-viewer", models=models)
    assert answer.code == 0, answer.stderr
    assert "<canvas" not in (tmp_path / "p.html").read_text()


def test_python_makes_the_same_page(run: Path, models: Path, tmp_path: Path) -> None:
    call("report", run, "--page", tmp_path / "a.html", models=models)
    assert ddfa_batch.report(run, tmp_path / "b.html") == tmp_path / "b.html"
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_page_of_a_run_behind_a_url_goes_there(run: Path, models: Path) -> None:
    stored = fsspec.filesystem("memory")
    stored.put(str(run), "/reported", recursive=True)
    answer = call("report", "memory://reported", "--no-viewer", models=models)
    assert answer.code == 0, answer.stderr
    assert answer.stdout.startswith("memory://reported/report.html (")
    assert stored.cat("/reported/report.html").startswith(b"<!doctype html>")
    assert call("verify", "memory://reported", models=models).code == 0
    stored.rm("/reported", recursive=True)


def test_what_is_wrong_is_told_in_a_sentence(run: Path, models: Path, tmp_path: Path) -> None:
    for words, sentence in (
        ([tmp_path], "holds no run"),
        ([run, "--page", "s3://bucket/p.html"], "URL"),
    ):
        answer = call("report", *words, models=models)
        assert answer.code == 1
        assert sentence in answer.stderr
