"""`synth-videos` as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_model
from command_line import call


def test_from_stills_to_a_preview(models: Path, tmp_path: Path) -> None:
    photos = small_model.pictures(tmp_path / "in", [1, 0])
    answer = call("synth-videos", photos, tmp_path / "out", "--frames", 3, "--preview", 1, models=models)
    assert answer.code == 0, answer.stderr
    assert "2 images: 1 clip, 3 frames, 1 without a face, 0 errors" in answer.stdout
    assert "detector yunet, 1 clip of 3 frames a face" in answer.stdout
    assert f'ddfa_batch.open("{tmp_path / "out"}").frames(), an Arrow table' in answer.stdout
    assert f"Look at {tmp_path / 'out/preview.png'}" in answer.stdout
    assert "made:    1 clip, 3 frames" in call("status", tmp_path / "out").stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--frames", "0"), 2, "0 is not in the range 1<=x<=1000"),
        (("--yaw-range", "-100", "0"), 1, "The range of yaw must rise and lie within"),
        (("--yaw-range", "20", "10"), 1, "The range of yaw must rise and lie within"),
        (("--noise", "3", "1"), 2, "--noise must rise and lie within 0..255"),
        (("--size", "huge"), 2, "--size is original or a number of pixels"),
        (("--size", "8"), 2, "--size is original or a number of pixels from 16 to 1024, but is '8'"),
        (("--params", "in"), 1, "in holds no parameters"),
        (("--params", "in", "--detector", "yunet"), 2, "--params replaces the detector"),
        (("--retry-failed",), 2, "synth-videos does not do error rows again"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_that_cannot_be_are_one_sentence(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    small_model.pictures(tmp_path / "in", [1])
    answer = call("synth-videos", "in", "out", *words, models=models)
    assert (answer.code, said in answer.stderr) == (code, True), answer.stderr
    assert not (tmp_path / "out").exists()
