"""`fit`, `train`, `evaluate` and `labels` as a user meets them: what they refuse, and how."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import small_model
from command_line import call


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("fit", "in"), 2, "Missing argument 'OUT'"),
        (("labels", "import", "300w-lp", "in", "o.parquet"), 1, "are those of the Basel Face Model"),
        (("train", "in", "builtin"), 1, "choose another folder, which the new model is called after"),
        (("evaluate", "in", "scores"), 2, "Give --run, or --model with --images"),
        (("evaluate", "in", "scores", "--run", "in", "--refine", "1"), 2, "--refine is for --model"),
        (("evaluate", "in", "scores", "--run", "in", "--average", "mirror"), 2, "--average is for --model"),
        (("evaluate", "nowhere", "scores"), 2, "'nowhere' does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_one_sentence(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    small_model.pictures(tmp_path / "in", [1])
    answer = call(*words, models=models)
    assert (answer.code, said in answer.stderr) == (code, True), answer.stderr


def test_training_without_torch_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    answer = call("train", tmp_path / "labels", tmp_path / "out")
    assert answer.code == 1
    assert answer.stderr == (
        "Error: Training needs torch, which is not installed here: pip install 'ddfa-batch[train]'.\n"
    )
