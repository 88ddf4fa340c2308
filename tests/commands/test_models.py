"""`models` as a user meets it: import, list, show, verify, add-detector."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_model
import upstream_files
from command_line import call


def test_import_list_show_verify_and_add_detector(tmp_path: Path) -> None:
    checkout = upstream_files.checkout(tmp_path / "3DDFA_V2")
    folder = tmp_path / "models"
    imported = call("models", "import", "3ddfa-v2", checkout, models=folder)
    assert imported.code == 0, imported.stderr
    assert "Imported 3ddfa-v2-mb05" in imported.stdout
    assert "research use only" in imported.stdout
    assert "3ddfa-v2-mb05" in call("models", "list", models=folder).stdout
    shown = call("models", "show", "3ddfa-v2-mb05", models=folder).stdout
    assert "parameters: 62 = 12 pose + 40 shape + 10 expression" in shown
    (tmp_path / "y.onnx").write_bytes(small_model.detector())
    added = call("models", "add-detector", "3ddfa-v2-mb05", "yunet", tmp_path / "y.onnx", models=folder)
    assert "faceboxes, yunet" in added.stdout
    assert call("models", "verify", "3ddfa-v2-mb05", models=folder).code == 0
    (folder / "3ddfa-v2-mb05/regressor.onnx").write_bytes(b"altered")
    broken = call("models", "verify", "3ddfa-v2-mb05", models=folder)
    assert broken.code == 1
    assert "regressor.onnx is truncated or was altered" in broken.stderr
    photos = small_model.pictures(tmp_path / "in", [1, 2])
    answer = call("process", photos, tmp_path / "out", models=folder, model="3ddfa-v2-mb05")
    assert "altered" in answer.stderr


def test_an_imported_model_processes_pictures(tmp_path: Path) -> None:
    """The whole way from a checkout to tables; the weights are random, so only the form is judged."""
    folder, checkout = tmp_path / "models", upstream_files.checkout(tmp_path / "3DDFA_V2")
    call("models", "import", "3ddfa-v2", checkout, "--name", "mine", models=folder)
    (tmp_path / "y.onnx").write_bytes(small_model.detector())
    call("models", "add-detector", "mine", "yunet", tmp_path / "y.onnx", models=folder)
    photos = small_model.pictures(tmp_path / "in", [1, 2, 0])
    answer = call("process", photos, tmp_path / "out", "--detector", "yunet", "--model", "mine", models=folder)
    assert answer.code == 0, answer.stderr
    assert "3 images: 3 faces, 1 without a face, 0 errors" in answer.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "none"), 1, "No model called 'none'"),
        (("import", "3ddfa-v2", "in"), 1, "is it a checkout of 3DDFA_V2?"),
        (("import", "3ddfa-v2", "in", "--name", "builtin"), 1, "is the name of the model that comes with"),
        (("import", "4ddfa", "in"), 2, "'4ddfa' is not '3ddfa-v2'"),
        (("add-detector", "small", "yunet", "nowhere.onnx"), 1, "nowhere.onnx cannot be read"),
        (("add-detector", "builtin", "yunet", "nowhere.onnx"), 1, "is part of the installation and stays as it is"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_one_sentence(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    small_model.pictures(tmp_path / "in", [1])
    answer = call("models", *words, models=models)
    assert answer.code == code
    assert said in answer.stderr


def test_weights_that_a_checkout_lacks_are_named(tmp_path: Path) -> None:
    checkout = upstream_files.checkout(tmp_path / "3DDFA_V2")
    answer = call("models", "import", "3ddfa-v2", checkout, "--weights", "mb1", models=tmp_path / "models")
    assert answer.code == 1
    assert "has no weights called mb1 (it has: mb05)" in answer.stderr


def test_a_broken_model_is_listed_as_broken(models: Path, tmp_path: Path) -> None:
    (tmp_path / "models/half").mkdir(parents=True)
    (tmp_path / "models/half/model.json").write_text("{}")
    answer = call("models", "list", models=tmp_path / "models")
    assert answer.code == 0
    assert "half                      broken: " in answer.stdout
    assert "used where no model is named" in answer.stdout


def test_a_model_that_bears_the_built_in_ones_name_is_told(bundle_folder: Path) -> None:
    answer = call("models", "list", models=bundle_folder)
    assert f"Hidden by its name: {bundle_folder / 'builtin'}" in answer.stdout


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    """A models folder whose only model is called as the built-in one."""
    small_model.bundle(tmp_path)
    return (tmp_path / "small").rename(tmp_path / "builtin").parent
