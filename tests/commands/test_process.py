"""`process` and `status` as a user meets them: what is said, and exit codes."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import small_model
from command_line import Answer, call

from ddfa_batch.tasks.bundles.model_bundle import Bundle


@pytest.fixture(scope="module")
def done(photos: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    out = tmp_path_factory.mktemp("cli") / "out"
    answer = call("process", photos, out, models=models)
    assert answer.code == 0, answer.stderr
    return out, answer


def test_process_says_what_it_will_do_and_what_it_did(done: tuple[Path, Answer], photos: Path) -> None:
    out, answer = done
    expected = f"12 images in {photos}; model small, detector yunet, 1 refinement; 1 shard of up to 128."
    assert answer.stdout.startswith(expected)
    assert "Dense meshes: 14.8 kB a face, 177 kB for one face per image" in answer.stdout
    assert "12 images: 19 faces, 2 without a face, 0 errors." in answer.stdout
    assert f'ddfa_batch.open("{out}").faces(), an Arrow table' in answer.stdout
    assert "100%  12/12 images, 19 faces" in answer.stderr
    assert "\r" not in answer.stderr  # plain lines where no terminal is


def test_one_line_says_which_model_is_used(done: tuple[Path, Answer], bundle: Bundle) -> None:
    progress = done[1].stderr.splitlines()
    assert progress[0] == f"Model: small ({bundle.folder}, 62 parameters, 1,230 vertices, detector yunet)"
    assert len([line for line in progress if line.startswith("Model:")]) == 1


def test_the_same_command_again_has_nothing_to_do(done: tuple[Path, Answer], photos: Path, models: Path) -> None:
    answer = call("process", photos, done[0], models=models)
    assert answer.code == 0
    assert "Resuming: 12 images are done already." in answer.stdout
    assert "Nothing was left to do." in answer.stdout


def test_other_options_are_refused_by_name(done: tuple[Path, Answer], photos: Path, models: Path) -> None:
    answer = call("process", photos, done[0], "--refine", 0, models=models)
    assert answer.code == 1
    assert "differs in refine (there 1, asked for 0)" in answer.stderr


def test_averaging_is_said_and_another_run(photos: Path, models: Path, tmp_path: Path) -> None:
    answer = call("process", photos, tmp_path / "out", "--average", "mirror", "--vertices", "none", models=models)
    assert "1 refinement, averaged with the mirror image; 1 shard" in answer.stdout
    again = call("process", photos, tmp_path / "out", "--vertices", "none", models=models)
    assert again.code == 1
    assert "average" in again.stderr


def test_status_adds_up(done: tuple[Path, Answer]) -> None:
    answer = call("status", done[0])
    assert answer.code == 0
    assert "images:  12 of 12\n         10 with faces, 2 without, 0 errors\nmade:    19 faces" in answer.stdout
    assert "Every finished shard adds up" in answer.stdout


def test_status_of_a_damaged_run_fails(done: tuple[Path, Answer], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(done[0], tmp_path / "copy"))
    (copy / "faces/000000.parquet").unlink()
    answer = call("status", copy)
    assert answer.code == 1
    assert "wrong:   faces/000000.parquet is missing" in answer.stderr


def test_dry_run_writes_nothing(photos: Path, models: Path, tmp_path: Path) -> None:
    answer = call("process", photos, tmp_path / "out", "--dry-run", models=models)
    assert answer.code == 0
    assert "12 images" in answer.stdout
    assert "Nothing was written" in answer.stdout
    assert not (tmp_path / "out").exists()


def test_quiet_is_quiet(photos: Path, models: Path, tmp_path: Path) -> None:
    answer = call("process", photos, tmp_path / "out", "--quiet", models=models)
    assert answer == Answer(0, "", "")


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 3)])
def test_error_rows_end_a_run_with_0_or_3_if_strict(
    models: Path, tmp_path: Path, strict: tuple[str, ...], code: int
) -> None:
    folder = small_model.pictures(tmp_path / "in", [1])
    (folder / "broken.jpg").write_text("nothing")
    (folder / "notes.txt").write_text("no image")
    answer = call("process", folder, tmp_path / "out", *strict, models=models)
    assert answer.code == code
    assert "1 error (1 not_an_image)" in answer.stdout
    assert "1 file is no image by name and left out (1 .txt)." in answer.stdout
    assert "not_an_image: the bytes are not those of a supported image format" in answer.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--refine", "9"), 2, "9 is not in the range 0<=x<=5"),
        (("--detector", "magic"), 1, "has no detector 'magic' (it has: yunet)"),
        (("--model", "none"), 1, "No model called 'none'"),
        (("--boxes", "nowhere.csv"), 1, "nowhere.csv does not exist"),
        (("--boxes", "boxes.csv", "--detector", "yunet"), 2, "--boxes replaces the detector"),
        (("--scheduler", "tcp"), 1, "'tcp' is no scheduler"),
        (("--scheduler", "in-process", "--workers", "2"), 2, "has one worker"),
        (("--quiet", "--verbose"), 2, "exclude each other"),
        (("--overwrite", "--extend"), 2, "leave out --extend"),
        (("--overwrite", "--retry-failed"), 2, "leave out --retry-failed"),
        (("--retry-failed", "truncated,bad"), 2, "'bad' is no kind of error; give all, or some of missing, unreadable"),
        (("--retry-failed", ""), 2, "'' is no kind of error"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_that_cannot_be_are_one_sentence(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    small_model.pictures(tmp_path / "in", [1])
    answer = call("process", "in", "out", *words, models=models)
    assert (answer.code, said in answer.stderr) == (code, True), answer.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("process", "nowhere", "out"), "nowhere does not exist"),
        (("process", "in", "in/000.png"), "is a file; choose a folder"),
        (("status", "in"), "holds no run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_places_that_cannot_be_are_one_sentence(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    small_model.pictures(tmp_path / "in", [1])
    answer = call(*words, models=models)
    assert answer.code == 1
    assert said in answer.stderr


def test_a_preview_shows_every_input(models: Path, tmp_path: Path) -> None:
    photos = small_model.pictures(tmp_path / "in", [2, 0])
    (photos / "broken.png").write_text("nothing")
    answer = call("process", photos, tmp_path / "out", "--preview", 9, models=models)
    assert answer.code == 0, answer.stderr
    assert f"Look at {tmp_path / 'out/preview.png'}" in answer.stdout
    assert (tmp_path / "out/preview.png").stat().st_size > 10_000


def test_the_bundle_can_be_given_as_a_folder(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    answer = call("process", photos / "000.png", tmp_path / "out", "--model", bundle.folder, models=tmp_path)
    assert answer.code == 0, answer.stderr
    assert "1 image: 1 face, 0 without a face" in answer.stdout


@pytest.fixture
def partly(models: Path, tmp_path: Path) -> Path:
    """A run of two pictures and three files that are none, in tmp_path/out."""
    folder = small_model.pictures(tmp_path / "in", [1, 2])
    (folder / "=1+1.jpg").write_text("nothing")
    (folder / "esc\x1b[1m.jpg").write_text("nothing")
    (folder / "cut.png").write_bytes(b"")
    assert call("process", folder, tmp_path / "out", models=models).code == 0
    return tmp_path / "out"


def test_failed_inputs_are_done_again_and_added_ones_taken_up(models: Path, partly: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copy(folder / "001.png", folder / "cut.png")
    shutil.copy(folder / "000.png", folder / "new.png")
    refused = call("process", folder, partly, models=models)
    assert refused.code == 1
    assert "inputs (planned 5, now 6, or other names). Use --extend to take up what was added" in refused.stderr
    answer = call("process", folder, partly, "--extend", "--retry-failed", models=models)
    assert answer.code == 0, answer.stderr
    assert "6 images in" in answer.stdout
    assert "2 shards of up to 128" in answer.stdout
    assert "Extended: 1 image taken up that was added." in answer.stdout
    assert "Retried: 3 images done again that were error rows." in answer.stdout
    assert "Resuming: 2 images are done already." in answer.stdout
    assert "6 images: 6 faces, 0 without a face, 2 errors (2 not_an_image)." in answer.stdout
    told = call("status", partly).stdout
    assert "Extended: 1 image taken up that was added (0" in told
    assert "history: 2" in told
    again = call("process", folder, partly, "--retry-failed", "empty,truncated", models=models)
    assert "Nothing was left to do." in again.stdout


def test_status_lists_what_failed(partly: Path, tmp_path: Path) -> None:
    answer = call("status", partly, "--errors", "--errors-csv", tmp_path / "errors.csv")
    assert answer.code == 0
    lines = answer.stdout.splitlines()
    start = lines.index("empty: the file has no bytes")
    assert lines[start + 1].startswith("  cut.png: ")
    assert lines[start + 2] == "not_an_image: the bytes are not those of a supported image format"
    assert lines[start + 3].startswith("  =1+1.jpg: ")
    assert lines[start + 4].startswith("  esc\\x1b[1m.jpg: ")
    assert f"3 failed inputs in {tmp_path / 'errors.csv'}" in answer.stdout
    with (tmp_path / "errors.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["key", "error_kind", "error_message"]
    assert [row[:2] for row in rows[1:]] == [
        ["cut.png", "empty"],
        ["'=1+1.jpg", "not_an_image"],
        ["esc\x1b[1m.jpg", "not_an_image"],
    ]


def test_status_lists_nothing_where_nothing_failed(done: tuple[Path, Answer], tmp_path: Path) -> None:
    answer = call("status", done[0], "--errors", "--errors-csv", tmp_path / "errors.csv")
    assert "0 failed inputs in" in answer.stdout
    assert (tmp_path / "errors.csv").read_text() == "key,error_kind,error_message\n"
