"""`compact`, `select` and `merge` say what they make, and what is wrong with what they are given."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call
from conftest import wanted

from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.report_again import commands
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.model_bundle import Bundle


@pytest.fixture(scope="module")
def run(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("regroup") / "out"
    process(wanted(photos, out, bundle, vertices="none"), Execution("in-process"))
    return out


def test_they_tell_what_they_make_and_it_verifies(run: Path, tmp_path: Path, models: Path) -> None:
    answer = call("select", run, tmp_path / "a", "--where", "n_faces > 1", models=models)
    assert answer.code == 0, answer.stderr
    assert f"4 inputs of {run} in 1 file a table." in answer.stdout
    answer = call("compact", run, tmp_path / "b", "--sort", "yaw", models=models)
    assert "12 inputs of" in answer.stdout
    assert "12 images: 19 faces" in answer.stdout
    answer = call("merge", tmp_path / "a", tmp_path / "b", tmp_path / "c", models=models)
    assert f"4 of the inputs of {tmp_path / 'b'} are in a run named before" in answer.stdout
    for name in "abc":
        assert call("verify", tmp_path / name, models=models).code == 0
    assert "Nothing was left to do" in call("compact", run, tmp_path / "b", "--sort", "yaw", models=models).stdout
    again = commands(open_run(tmp_path / "a").run).splitlines()[0]
    assert again == f"ddfa-batch select {run} {tmp_path / 'a'} --where 'n_faces > 1'"


MISUSE = {
    ("select", "OUT", "NEW"): (1, "Say what is to be taken"),
    ("select", "OUT", "NEW", "--where", "yow > 3"): (1, "There is no column 'yow'"),
    ("select", "OUT", "NEW", "--where", "yaw > 360"): (1, "Nothing in"),
    ("compact", "OUT", "NEW", "--sort", "key"): (1, "cannot be sorted by 'key'"),
    ("compact", "OUT", "OUT"): (1, "is the run itself"),
    ("merge", "OUT", "NEW"): (1, "two runs or more"),
}


@pytest.mark.parametrize("words", MISUSE, ids=" ".join)
def test_what_is_wrong_is_told_in_a_sentence(run: Path, tmp_path: Path, models: Path, words: tuple[str, ...]) -> None:
    code, sentence = MISUSE[words]
    answer = call(*({"OUT": run, "NEW": tmp_path / "new"}.get(word, word) for word in words), models=models)
    assert answer.code == code
    assert sentence in answer.stderr
    assert not (tmp_path / "new").exists()
