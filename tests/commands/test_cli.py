"""The command line as a user meets it: words, exit codes, and what is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_model
import upstream_files

from ddfa_batch.tasks.bundles.model_bundle import Bundle

COMMAND = str(Path(sys.executable).with_name("ddfa-batch"))


def run(*words: object, models: Path | None = None, model: str | None = "small") -> subprocess.CompletedProcess[str]:
    """Run a command where `models` is the models folder, and `model` the one the environment names, if any."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DDFA_BATCH")}
    named = {"DDFA_BATCH_MODELS": models and str(models), "DDFA_BATCH_MODEL": models and model}
    environment |= {name: value for name, value in named.items() if value}
    return subprocess.run([COMMAND, *map(str, words)], capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def done(photos: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    out = tmp_path_factory.mktemp("cli") / "out"
    answer = run("process", photos, out, models=models)
    assert answer.returncode == 0, answer.stderr
    return out, answer.stdout, answer.stderr


def test_process_says_what_it_will_do_and_what_it_did(done: tuple[Path, str, str], photos: Path) -> None:
    out, said, progress = done
    assert said.startswith(f"12 images in {photos}; model small, detector yunet, 1 refinement; 1 shard of up to 128.")
    assert "Dense meshes: 14.8 kB a face, 177 kB for one face per image" in said
    assert "12 images: 19 faces, 2 without a face, 0 errors." in said
    assert f'ddfa_batch.open("{out}")' in said
    assert "100%  12/12 images, 19 faces" in progress
    assert "\r" not in progress  # plain lines where no terminal is


def test_one_line_says_which_model_is_used(done: tuple[Path, str, str], bundle: Bundle) -> None:
    progress = done[2].splitlines()
    assert progress[0] == f"Model: small ({bundle.folder}, 62 parameters, 1,230 vertices, detector yunet)"
    assert len([line for line in progress if line.startswith("Model:")]) == 1


def test_the_same_command_again_has_nothing_to_do(done: tuple[Path, str, str], photos: Path, models: Path) -> None:
    answer = run("process", photos, done[0], models=models)
    assert answer.returncode == 0
    assert "Resuming: 12 images are done already." in answer.stdout
    assert "Nothing was left to do." in answer.stdout


def test_other_options_are_refused_by_name(done: tuple[Path, str, str], photos: Path, models: Path) -> None:
    answer = run("process", photos, done[0], "--refine", 0, models=models)
    assert answer.returncode == 1
    assert "differs in refine (there 1, asked for 0)" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_status_adds_up(done: tuple[Path, str, str]) -> None:
    answer = run("status", done[0])
    assert answer.returncode == 0
    assert "images:  12 of 12\n         10 with faces, 2 without, 0 errors\nmade:    19 faces" in answer.stdout
    assert "Every finished shard adds up" in answer.stdout


def test_status_of_a_damaged_run_fails(done: tuple[Path, str, str], tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(done[0], tmp_path / "copy"))
    (copy / "faces/000000.parquet").unlink()
    answer = run("status", copy)
    assert answer.returncode == 1
    assert "wrong:   faces/000000.parquet is missing" in answer.stderr


def test_dry_run_writes_nothing(photos: Path, models: Path, tmp_path: Path) -> None:
    answer = run("process", photos, tmp_path / "out", "--dry-run", models=models)
    assert answer.returncode == 0
    assert "12 images" in answer.stdout
    assert "Nothing was written" in answer.stdout
    assert not (tmp_path / "out").exists()


def test_quiet_is_quiet(photos: Path, models: Path, tmp_path: Path) -> None:
    answer = run("process", photos, tmp_path / "out", "--quiet", models=models)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 3)])
def test_error_rows_end_a_run_with_0_or_3_if_strict(
    models: Path, tmp_path: Path, strict: tuple[str, ...], code: int
) -> None:
    folder = small_model.pictures(tmp_path / "in", [1])
    (folder / "broken.jpg").write_text("nothing")
    (folder / "notes.txt").write_text("no image")
    answer = run("process", folder, tmp_path / "out", *strict, models=models)
    assert answer.returncode == code
    assert "1 error (1 not_an_image)" in answer.stdout
    assert "1 file is no image by name and left out (1 .txt)." in answer.stdout
    assert "not_an_image: the bytes are not those of a supported image format" in answer.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("process",), 2, "Missing argument 'IMAGES'"),
        (("process", "in", "out", "--refine", "9"), 2, "9 is not in the range 0<=x<=5"),
        (("process", "in", "out", "--detector", "magic"), 1, "has no detector 'magic' (it has: yunet)"),
        (("process", "in", "out", "--model", "none"), 1, "No model called 'none'"),
        (("process", "nowhere", "out"), 1, "nowhere does not exist"),
        (("process", "in", "in/000.png"), 1, "is a file; choose a folder"),
        (("process", "in", "out", "--boxes", "nowhere.csv"), 1, "nowhere.csv does not exist"),
        (("process", "in", "out", "--scheduler", "tcp"), 1, "'tcp' is no scheduler"),
        (("process", "in", "out", "--scheduler", "in-process", "--workers", "2"), 2, "has one worker"),
        (("process", "in", "out", "--quiet", "--verbose"), 2, "exclude each other"),
        (("status", "in"), 1, "holds no run"),
        (("synth-videos", "in", "out", "--frames", "0"), 2, "0 is not in the range 1<=x<=1000"),
        (("synth-videos", "in", "out", "--yaw-range", "-100", "0"), 1, "The range of yaw must rise and lie within"),
        (("synth-videos", "in", "out", "--yaw-range", "20", "10"), 1, "The range of yaw must rise and lie within"),
        (("synth-videos", "in", "out", "--noise", "3", "1"), 2, "--noise must rise and lie within 0..255"),
        (("synth-videos", "in", "out", "--size", "huge"), 2, "--size is original or a number of pixels"),
        (("synth-videos", "in", "out", "--params", "in"), 1, "in holds no parameters"),
        (("synth-videos", "in", "out", "--params", "in", "--detector", "yunet"), 2, "--params replaces the detector"),
        (("labels", "import", "300w-lp", "in", "o.parquet"), 1, "are those of the Basel Face Model"),
        (("fit", "in"), 2, "Missing argument 'OUT'"),
        (("models", "show", "none"), 1, "No model called 'none'"),
        (("models", "import", "3ddfa-v2", "in"), 1, "is it a checkout of 3DDFA_V2?"),
        (("models", "import", "3ddfa-v2", "in", "--name", "builtin"), 1, "is the name of the model that comes with"),
        (("models", "import", "4ddfa", "in"), 2, "'4ddfa' is not '3ddfa-v2'"),
        (("models", "add-detector", "small", "yunet", "nowhere.onnx"), 1, "nowhere.onnx cannot be read"),
    ],
)
def test_misuse_is_one_sentence_and_a_code(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    small_model.pictures(tmp_path / "in", [1])
    answer = run(*words, models=models)
    assert answer.returncode == code
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_import_list_show_verify_and_add_detector(tmp_path: Path) -> None:
    checkout = upstream_files.checkout(tmp_path / "3DDFA_V2")
    folder = tmp_path / "models"
    imported = run("models", "import", "3ddfa-v2", checkout, models=folder)
    assert imported.returncode == 0, imported.stderr
    assert "Imported 3ddfa-v2-mb05" in imported.stdout
    assert "research use only" in imported.stdout
    assert "3ddfa-v2-mb05" in run("models", "list", models=folder).stdout
    shown = run("models", "show", "3ddfa-v2-mb05", models=folder).stdout
    assert "parameters: 62 = 12 pose + 40 shape + 10 expression" in shown
    (tmp_path / "y.onnx").write_bytes(small_model.detector())
    added = run("models", "add-detector", "3ddfa-v2-mb05", "yunet", tmp_path / "y.onnx", models=folder)
    assert "faceboxes, yunet" in added.stdout
    assert run("models", "verify", "3ddfa-v2-mb05", models=folder).returncode == 0
    (folder / "3ddfa-v2-mb05/regressor.onnx").write_bytes(b"altered")
    broken = run("models", "verify", "3ddfa-v2-mb05", models=folder)
    assert broken.returncode == 1
    assert "regressor.onnx is truncated or was altered" in broken.stderr
    photos = small_model.pictures(tmp_path / "in", [1, 2])
    answer = run("process", photos, tmp_path / "out", models=folder, model="3ddfa-v2-mb05")
    assert "altered" in answer.stderr


def test_an_imported_model_processes_pictures(tmp_path: Path) -> None:
    """The whole way from a checkout to tables; the weights are random, so only the form is judged."""
    folder = tmp_path / "models"
    run("models", "import", "3ddfa-v2", upstream_files.checkout(tmp_path / "3DDFA_V2"), "--name", "mine", models=folder)
    (tmp_path / "y.onnx").write_bytes(small_model.detector())
    run("models", "add-detector", "mine", "yunet", tmp_path / "y.onnx", models=folder)
    photos = small_model.pictures(tmp_path / "in", [1, 2, 0])
    answer = run("process", photos, tmp_path / "out", "--detector", "yunet", "--model", "mine", models=folder)
    assert answer.returncode == 0, answer.stderr
    assert "3 images: 3 faces, 1 without a face, 0 errors" in answer.stdout


COMMANDS = [
    (), ("process",), ("status",), ("models",), ("models", "import"), ("models", "list"), ("models", "show"),
    ("models", "verify"), ("models", "add-detector"), ("synth-videos",), ("labels",), ("labels", "import"), ("fit",),
]  # fmt: skip


def test_a_preview_shows_every_input(models: Path, tmp_path: Path) -> None:
    photos = small_model.pictures(tmp_path / "in", [2, 0])
    (photos / "broken.png").write_text("nothing")
    answer = run("process", photos, tmp_path / "out", "--preview", 9, models=models)
    assert answer.returncode == 0, answer.stderr
    assert f"Look at {tmp_path / 'out/preview.png'}" in answer.stdout
    assert (tmp_path / "out/preview.png").stat().st_size > 10_000


def test_synth_videos_from_stills_to_a_preview(models: Path, tmp_path: Path) -> None:
    photos = small_model.pictures(tmp_path / "in", [1, 0])
    answer = run("synth-videos", photos, tmp_path / "out", "--frames", 3, "--preview", 1, models=models)
    assert answer.returncode == 0, answer.stderr
    assert "2 images: 1 clip, 3 frames, 1 without a face, 0 errors" in answer.stdout
    assert f"Look at {tmp_path / 'out/preview.png'}" in answer.stdout
    assert "made:    1 clip, 3 frames" in run("status", tmp_path / "out").stdout


@pytest.mark.parametrize("words", COMMANDS)
def test_help_teaches_with_an_example(words: tuple[str, ...]) -> None:
    answer = run(*words, "--help")
    assert answer.returncode == 0
    if words not in ((), ("models",), ("labels",)):
        assert "Example" in answer.stdout
        assert f"ddfa-batch {' '.join(words)}" in answer.stdout


def test_the_bundle_can_be_given_as_a_folder(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    answer = run("process", photos / "000.png", tmp_path / "out", "--model", bundle.folder, models=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "1 image: 1 face, 0 without a face" in answer.stdout


def test_ctrl_c_keeps_what_is_finished(models: Path, tmp_path: Path) -> None:
    import signal
    import time

    photos = small_model.pictures(tmp_path / "in", [1] * 300)
    command = [COMMAND, "process", photos, tmp_path / "out", "--shard-size", "2", "--scheduler", "in-process"]
    environment = {**os.environ, "DDFA_BATCH_MODELS": str(models), "DDFA_BATCH_MODEL": "small"}
    running = subprocess.Popen(
        [str(w) for w in command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list((tmp_path / "out/shards").glob("[0-9]*"))) < 5:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "run the same command again to resume" in errors
    assert "Traceback" not in errors
