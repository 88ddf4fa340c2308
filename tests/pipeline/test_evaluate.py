"""`evaluate` as a whole: requests, refusals, its folder and its command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from labelled_run import centred, table

from ddfa_batch import cli
from ddfa_batch.pipeline.evaluate import EvaluationRequest, evaluate
from ddfa_batch.pipeline.evaluation.protocols import PROTOCOLS
from ddfa_batch.pipeline.results import Results
from ddfa_batch.schemas import config
from ddfa_batch.schemas.errors import DdfaError, InputError
from ddfa_batch.tasks.bundles.model_bundle import Bundle


def test_refinement_looks_again_around_its_own_points(
    photos: Path, photo_run: Results, bundle: Bundle, tmp_path: Path
) -> None:
    keys, landmarks = centred(photo_run)
    labels = table(tmp_path / "l.parquet", keys, landmarks, yaw=np.zeros(len(keys)))
    once = EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "once", bundle=bundle, images=photos)
    twice = replace(once, out=tmp_path / "twice", refine=1)
    averaged = replace(once, out=tmp_path / "averaged", average=config.MIRROR)
    done = [evaluate(request) for request in (once, twice, averaged)]
    assert len({outcome.scores[0].mean for outcome in done}) == 3
    assert done[2].answers == "rois of the labels, 0 refinements, averaged with the mirror image"


@pytest.mark.parametrize(
    ("protocol", "n", "said"),
    [
        ("aflw", 68, "aflw takes 21"),
        ("aflw2000-3d", 21, "aflw2000-3d takes 68"),
        ("video", 21, "video takes 68"),
        ("florence", 68, "no folder"),
    ],
)
def test_labels_of_another_protocol_are_refused(
    photo_run: Results, tmp_path: Path, protocol: str, n: int, said: str
) -> None:
    labels = table(tmp_path / "l.parquet", ["000.png"], np.ones((1, n, 2)), f"pts{n}")
    with pytest.raises(DdfaError, match=said):
        evaluate(EvaluationRequest(protocol, (labels,), tmp_path / "o", run=photo_run.path))
    assert not (tmp_path / "o").exists()


def test_labels_of_other_pictures_are_refused(photo_run: Results, tmp_path: Path) -> None:
    labels = table(tmp_path / "l.parquet", ["elsewhere.png"], np.random.default_rng(0).uniform(0, 99, (1, 68, 2)))
    with pytest.raises(InputError, match="None of the 1 labelled faces"):
        evaluate(EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "o", run=photo_run.path))
    (tmp_path / "sub").mkdir()
    twin = table(tmp_path / "sub/l.parquet", ["a"], np.ones((1, 68, 2)))
    with pytest.raises(InputError, match="told apart"):
        evaluate(EvaluationRequest("aflw2000-3d", (labels, twin), tmp_path / "o", run=photo_run.path))
    other = table(tmp_path / "m.parquet", ["a"], np.ones((1, 68, 2)))
    with pytest.raises(InputError, match=r"'elsewhere\.png'"):
        evaluate(EvaluationRequest("aflw2000-3d", (labels, other), tmp_path / "o", run=photo_run.path))


def test_the_command_prints_a_table(photo_run: Results, photos: Path, models: Path, tmp_path: Path) -> None:
    keys, landmarks = centred(photo_run)
    labels = table(tmp_path / "truth.parquet", keys, landmarks, yaw=np.zeros(len(keys)))
    said = CliRunner().invoke(cli.cli, ["evaluate", str(labels), str(tmp_path / "o"), "--run", str(photo_run.path)])
    assert said.exit_code == 0, said.output
    assert "0–30°" in said.output
    assert f"{len(keys)} of {len(keys)} faces found" in said.output
    misuse = CliRunner().invoke(cli.cli, ["evaluate", str(labels), str(tmp_path / "p")])
    assert misuse.exit_code == 2
    assert "--run" in misuse.output


def test_a_folder_in_use_is_refused_and_left_as_it_is(photo_run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(photo_run)
    labels = table(tmp_path / "l.parquet", keys, landmarks, yaw=np.zeros(len(keys)))
    request = EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "o", run=photo_run.path)
    evaluate(request)
    before = (tmp_path / "o/summary.json").read_bytes()
    with pytest.raises(InputError, match=r"holds an evaluation already.*--overwrite"):
        evaluate(request)
    assert (tmp_path / "o/summary.json").read_bytes() == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files already"):
        evaluate(replace(request, out=tmp_path / "notes"))
    with pytest.raises(InputError, match="is a file"):
        evaluate(replace(request, out=labels))
    with pytest.raises(InputError, match="holds a run"):
        evaluate(replace(request, out=photo_run.path, overwrite=True))


def test_overwriting_replaces_an_evaluation_and_nothing_else(photo_run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(photo_run)
    labels = table(tmp_path / "l.parquet", keys, landmarks, yaw=np.zeros(len(keys)))
    request = EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "o", run=photo_run.path, overwrite=True)
    assert "worst.png" in evaluate(request).files
    (tmp_path / "o/mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    again = evaluate(replace(request, images=tmp_path / "empty"))
    assert "worst.png" not in again.files
    assert sorted(file.name for file in (tmp_path / "o").iterdir()) == sorted([*again.files, "mine.txt"])
    assert (tmp_path / "o/mine.txt").read_text() == "mine"


def test_a_failed_evaluation_leaves_the_one_before(photo_run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(photo_run)
    labels = table(tmp_path / "l.parquet", keys, landmarks, yaw=np.zeros(len(keys)))
    request = EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "o", run=photo_run.path, overwrite=True)
    evaluate(request)
    before = {file.name: file.read_bytes() for file in (tmp_path / "o").iterdir()}
    spots = table(tmp_path / "spots.parquet", keys, np.repeat(landmarks.mean(axis=1, keepdims=True), 68, axis=1))
    with pytest.raises(InputError, match="No face that was found has enough labels in spots"):
        evaluate(replace(request, labels=(spots,)))
    assert {file.name: file.read_bytes() for file in (tmp_path / "o").iterdir()} == before


def test_a_model_needs_its_pictures(photo_run: Results, bundle: Bundle, tmp_path: Path) -> None:
    keys, landmarks = centred(photo_run)
    labels = table(tmp_path / "l.parquet", keys, landmarks, yaw=np.zeros(len(keys)))
    with pytest.raises(InputError, match="--images"):
        evaluate(EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "o", bundle=bundle))
    with pytest.raises(InputError, match="a run, or a model"):
        evaluate(EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "o"))


def test_every_name_of_a_protocol_has_its_file() -> None:
    assert tuple(PROTOCOLS) == config.PROTOCOLS
