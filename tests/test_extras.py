"""The main job needs none of the packages that an extra brings, and what needs one says which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import command_line
import pytest
import small_model

from ddfa_batch.schemas.extras import EXTRAS, from_extra

#: Runs commands, one a line of standard input, as where nothing that an extra brings is installed.
WITHOUT = f"""
import io, shlex, sys
for package in {(*EXTRAS, "matplotlib")!r}:
    sys.modules[package] = None
from ddfa_batch import cli
for line in sys.stdin.read().splitlines():
    sys.argv = ["ddfa-batch", *shlex.split(line)]
    try:
        cli.main()
    except SystemExit as end:
        print("CODE", end.code or 0, file=sys.stderr)
"""


def without_extras(*commands: str, models: Path, folder: Path) -> tuple[list[int], str]:
    """Exit codes of commands, and everything they wrote to standard error."""
    small_model.pictures(folder / "in", [1, 2])
    environment = command_line.environment(models, "small")
    command = [sys.executable, "-c", WITHOUT]
    answer = subprocess.run(
        command, input="\n".join(commands), capture_output=True, text=True, check=True, env=environment, cwd=folder
    )
    said = answer.stderr.splitlines()
    return [int(line.split()[1]) for line in said if line.startswith("CODE")], answer.stderr


def test_the_main_job_needs_no_extra(models: Path, tmp_path: Path) -> None:
    codes, said = without_extras(
        "process in out --quiet",
        "process in mirrored --average mirror --quiet",
        "status out",
        "verify out",
        "compact out one",
        "to-webdataset out tars --quiet",
        "fit out/faces/000000.parquet fits --help",
        "evaluate --help",
        "models list",
        models=models,
        folder=tmp_path,
    )
    assert codes == [0] * 9, said


def test_what_needs_an_extra_says_which_in_one_sentence(models: Path, tmp_path: Path) -> None:
    (tmp_path / "checkout/weights").mkdir(parents=True)
    (tmp_path / "checkout/weights/mb1_120x120.pth").touch()
    codes, said = without_extras(
        "process in out --quiet",
        "render out pictures",
        "export out meshes",
        "report out",
        "synth-videos in clips",
        "process in again --preview 1",
        "models import 3ddfa-v2 checkout",
        "train out trained",
        models=models,
        folder=tmp_path,
    )
    assert codes == [0, *[1] * 7]
    told = [line for line in said.splitlines() if line.startswith("Error")]
    drawing = "Error: Drawing faces and giving them other poses needs numba, which is not installed here: "
    assert told[:5] == [drawing + "pip install 'ddfa-batch[render]'."] * 5
    assert told[5].endswith("needs onnx, which is not installed here: pip install 'ddfa-batch[official]'.")
    assert told[6].endswith("needs torch, which is not installed here: pip install 'ddfa-batch[train]'.")
    assert not (tmp_path / "again").exists()


def test_a_fault_within_an_installed_package_is_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        from_extra("numba")
