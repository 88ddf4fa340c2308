"""`train` from a run's folder to a bundle that `process --model` accepts; and what stops it with a sentence."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from conftest import wanted as asked_process
from training_faces import MODEL, faces

pytest.importorskip("torch")

import torch
from clip_requests import clip_request as asked_clips

from ddfa_batch import cli
from ddfa_batch.pipeline import training_set
from ddfa_batch.pipeline.fit import fit_landmarks
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.pipeline.synthesize import synthesize
from ddfa_batch.pipeline.train import TrainingRequest, TrainingStart, train
from ddfa_batch.schemas.bundle import REGRESSOR
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import InputError, RunFolderError, TrainingError
from ddfa_batch.tasks.bundles.model_bundle import Bundle, load_bundle, write_bundle
from ddfa_batch.tasks.files.given_faces import read_faces
from ddfa_batch.tasks.training import export
from ddfa_batch.tasks.training.architectures import Architecture
from ddfa_batch.tasks.training.clips import is_validation
from ddfa_batch.tasks.training.mini_batches import MiniBatch
from ddfa_batch.tasks.training.options import Sampling, TrainConfig
from ddfa_batch.tasks.training.state import Record
from ddfa_batch.tasks.training.tensor_batch import TensorBatch
from ddfa_batch.tasks.training.thawing import thawed

HERE = Execution("in-process")
CONFIG = TrainConfig(look_ahead=2, iterations=3, warmup=2, stages=((0.5, 32),), sampling=Sampling(2, 2, size=120))
N = 10


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> tuple[Path, Bundle]:
    """A fit of ten pictures whose landmark 30 is a white dot, and the model it was made with."""
    folder = tmp_path_factory.mktemp("labelled")
    manifest = replace(bundle.manifest, name="symmetric", param_std=(*bundle.manifest.param_std[:12], *[1.0] * 50))
    files = {
        "regressor.onnx": (bundle.folder / "regressor.onnx").read_bytes(),
        "detectors/yunet.onnx": (bundle.folder / "detectors/yunet.onnx").read_bytes(),
    }
    model = write_bundle(folder / "model", manifest, files, MODEL)
    pictures, labels = faces(N, seed=8)
    (folder / "images").mkdir()
    for i, (picture, points) in enumerate(zip(pictures, labels, strict=True)):
        cv2.imwrite(str(folder / f"images/{i}.png"), picture)
        rows = "\n".join(f"{x + 1} {y + 1}" for x, y in points)
        (folder / f"images/{i}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
    fit_landmarks(folder / "images", folder / "fit", model, folder / "images")
    return folder, model


def request(labelled: tuple[Path, Bundle], out: Path, **changes: object) -> TrainingRequest:
    folder, model = labelled
    asked = TrainingRequest(
        folder / "fit", out, model, Architecture(width=0.0625), CONFIG, validation=0.3, device="cpu", every=1
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


def test_a_fit_of_pictures_knows_where_they_lie(labelled: tuple[Path, Bundle]) -> None:
    run = open_run(labelled[0] / "fit")
    assert run.images()["key"].to_pylist() == [f"{i}.png" for i in range(N)]
    assert Path(run.run.root) == (labelled[0] / "images").resolve()


def test_what_is_read_is_cut_around_the_face_with_its_labels(labelled: tuple[Path, Bundle]) -> None:
    found = training_set.read(labelled[0] / "fit", None, None, labelled[1])
    assert found.notes == ()
    clips = found.clips
    assert clips.images.shape == (N, 1, training_set.CUT, training_set.CUT, 3)
    for image, points in zip(clips.images[:, 0], clips.landmarks[:, 0, 0], strict=True):
        weight = image[..., 0].astype(float)
        rows, columns = np.indices(weight.shape)
        dot = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        assert np.abs(dot - points[30]).max() < 0.75
    np.testing.assert_allclose(clips.rois[:, 0].mean(axis=0), [12, 12, 132, 132], atol=4)


def test_reading_pictures_in_threads_leaves_standard_error_alone(
    labelled: tuple[Path, Bundle], capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(10):
        training_set.read(labelled[0] / "fit", None, None, labelled[1])
    os.write(2, b"still heard\n")
    assert "still heard" in capfd.readouterr().err


def test_a_training_ends_in_a_model_that_process_accepts(labelled: tuple[Path, Bundle], tmp_path: Path) -> None:
    told: list[TrainingStart] = []
    heard: list[Record] = []
    outcome = train(request(labelled, tmp_path / "out"), told.append, heard.append)
    held = int(is_validation([f"{i}.png" for i in range(N)], 0.3).sum())
    assert (told[0].n_training, told[0].n_validation) == (N - held, held)
    assert [record.pixels for record in heard] == [32, 32, 120]
    assert outcome.iteration == 3
    history = json.loads((tmp_path / "out/history.json").read_text())["history"]
    assert [row["selected"] for row in history] == [record.selected for record in heard]
    assert outcome.validation == heard[-1].validation == history[-1]["validation"]
    trained = load_bundle(outcome.model)
    assert "seed 0" in trained.manifest.provenance
    assert trained.manifest.detectors == labelled[1].manifest.detectors
    _, totals = process(asked_process(labelled[0] / "images", tmp_path / "run", trained, vertices="none"), HERE)
    assert totals.images == N


def test_a_killed_training_goes_on(labelled: tuple[Path, Bundle], tmp_path: Path) -> None:
    whole = train(request(labelled, tmp_path / "whole"))

    def dies(record: Record) -> None:
        if record.iteration == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(request(labelled, tmp_path / "killed"), report=dies)
    told: list[TrainingStart] = []
    again = train(request(labelled, tmp_path / "killed"), told.append)
    assert told[0].resumed == 2
    one, other = (folder / "regressor.onnx" for folder in (whole.model, again.model))
    assert one.read_bytes() == other.read_bytes()


def test_a_training_can_begin_with_anothers_weights(labelled: tuple[Path, Bundle], tmp_path: Path) -> None:
    train(request(labelled, tmp_path / "one"))
    start = tmp_path / "one/best.pt"
    outcome = train(request(labelled, tmp_path / "two", start=start, config=replace(CONFIG, seed=4)))
    assert load_bundle(outcome.model).manifest.param_mean == load_bundle(tmp_path / "one/model").manifest.param_mean


def test_a_training_knows_the_distractors_it_was_begun_with(labelled: tuple[Path, Bundle], tmp_path: Path) -> None:
    for folder, shades in (("some", (0, 255)), ("others", (0,))):
        (tmp_path / folder).mkdir()
        for shade in shades:
            cv2.imwrite(str(tmp_path / folder / f"{shade}.png"), np.full((120, 120, 3), shade, np.uint8))
    told = replace(CONFIG, iterations=2, face_weight=0.3)
    train(request(labelled, tmp_path / "one", distractors=tmp_path / "some", config=told))
    with pytest.raises(RunFolderError, match="distractors"):
        train(request(labelled, tmp_path / "one", distractors=tmp_path / "others", config=told))


def test_a_training_can_begin_with_a_models_network(labelled: tuple[Path, Bundle], tmp_path: Path) -> None:
    """Its normalisations are folded; what is made of it answers as it does before it learns."""
    train(request(labelled, tmp_path / "one"))
    model = load_bundle(tmp_path / "one/model")
    images = np.random.default_rng(0).integers(0, 255, (16, 120, 120, 3), dtype=np.uint8)
    batch = TensorBatch.of(MiniBatch(images, *(np.zeros(0, np.float32),) * 3), "cpu")
    crops = batch.crops
    begun = thawed(model, Architecture(width=0.0625), CONFIG, batch)
    assert export.largest_gap(begun.net, (model.folder / REGRESSOR).read_bytes(), 120) < 1e-4
    assert all((norm.running_var >= 0).all() for norm in begun.net.modules() if isinstance(norm, torch.nn.BatchNorm2d))
    # In training the norms see other statistics than their running ones, and the answer stays about the same.
    with torch.no_grad():
        learning, answering = begun.net.train()(crops)[0], begun.net.eval()(crops)[0]
    assert (learning - answering).abs().max() < 0.2 * answering.abs().max() + 0.1
    outcome = train(request(labelled, tmp_path / "two", start=model, config=replace(CONFIG, seed=4)))
    assert outcome.iteration == CONFIG.iterations
    with pytest.raises(TrainingError, match="is no Architecture"):
        thawed(model, Architecture(width=0.125), CONFIG, batch)


def test_other_options_are_refused_by_name(labelled: tuple[Path, Bundle], tmp_path: Path) -> None:
    train(request(labelled, tmp_path / "out"))
    with pytest.raises(RunFolderError, match=r"config\.beta \(there 0\.5, asked for 0\.25\)"):
        train(request(labelled, tmp_path / "out", config=replace(CONFIG, beta=0.25)))
    with pytest.raises(RunFolderError, match=r"validation\.share"):
        train(request(labelled, tmp_path / "out", validation=0.2))
    with pytest.raises(RunFolderError, match="holds a run"):
        train(request(labelled, labelled[0] / "fit"))


def test_moved_pictures_are_found_and_missing_ones_counted(labelled: tuple[Path, Bundle], tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    for i in range(1, N):
        (tmp_path / f"moved/{i}.png").write_bytes((labelled[0] / f"images/{i}.png").read_bytes())
    found = training_set.read(labelled[0] / "fit", tmp_path / "moved", None, labelled[1])
    assert len(found.clips) == N - 1
    assert "1 of 10 faces" in found.notes[0]
    assert "0.png" in found.notes[0]
    with pytest.raises(InputError, match="None of the 10 faces"):
        training_set.read(labelled[0] / "fit", tmp_path, None, labelled[1])


def test_labels_of_another_model_are_refused(labelled: tuple[Path, Bundle], bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="made with the model symmetric"):
        train(request((labelled[0], bundle), tmp_path / "out"))


def test_a_device_that_is_not_there_is_named(labelled: tuple[Path, Bundle], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no device 'moon'"):
        train(request(labelled, tmp_path / "out", device="moon"))


@pytest.fixture(scope="module")
def clips(labelled: tuple[Path, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of the labelled faces, without noise and in-plane motion."""
    folder, model = labelled
    out = tmp_path_factory.mktemp("clips") / "out"
    given = read_faces(folder / "fit", 62, model.digest, 1)
    asked = asked_clips(
        folder / "images",
        out,
        model,
        noise=(0.0, 0.0),
        blur=(0.0, 0.0),
        detector="boxes",
        min_score=0.0,
        params_digest=given.digest,
    )
    synthesize(replace(asked, given=given), HERE)
    return out


@pytest.mark.parametrize("source", ["labels and clips", "clips alone"])
def test_frames_of_clips_carry_the_labels_of_every_frame(
    labelled: tuple[Path, Bundle], clips: Path, source: str
) -> None:
    folder, model = labelled
    both = source == "labels and clips"
    found = training_set.read(folder / "fit" if both else clips, None, clips if both else None, model).clips
    assert found.frames == 4
    assert len(found) >= N - 2  # the small model cannot take every mirrored shape
    moved = 0.0
    for image, points in zip(
        found.images.reshape(-1, *found.images.shape[2:]), found.landmarks[:, 0].reshape(-1, 68, 2), strict=True
    ):
        weight = np.where(image[..., 0] > 128, image[..., 0], 0).astype(float)
        if weight.sum() < 255 * 30:  # the dot has turned away
            continue
        rows, columns = np.indices(weight.shape)
        dot = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        assert np.abs(dot - points[30]).max() < 4
        moved = max(moved, float(np.abs(dot - found.landmarks[0, 0, 0, 30]).max()))
    assert moved > 3


def test_labels_that_begin_depth_elsewhere_move_the_same(
    labelled: tuple[Path, Bundle], clips: Path, tmp_path: Path
) -> None:
    folder, model = labelled
    faces = open_run(folder / "fit").faces(columns=["key", "landmarks68"])
    deep = np.stack(faces["landmarks68"].to_numpy()).reshape(-1, 68, 3) + np.array([0.0, 0.0, 60.0])
    rows = pa.FixedSizeListArray.from_arrays(pa.array(deep.ravel()), 68 * 3)
    pq.write_table(pa.table({"key": faces["key"], "landmarks": rows}), tmp_path / "deep.parquet")
    fit_landmarks(tmp_path / "deep.parquet", tmp_path / "fit", model, folder / "images")
    flat, solid = (training_set.read(run, None, clips, model).clips for run in (folder / "fit", tmp_path / "fit"))
    assert flat.names == solid.names
    np.testing.assert_allclose(flat.landmarks[:, 0], solid.landmarks[:, 0], atol=1.0)


def test_the_command_trains_and_says_what_next(labelled: tuple[Path, Bundle], tmp_path: Path) -> None:
    folder, model = labelled
    options = (
        "--width 0.0625 --look-ahead 1 --iterations 2 --stills 2 --device cpu --validation 0.3 --stage 0.5 32 "
        "--rotation 25"
    )
    words = ["train", str(folder / "fit"), str(tmp_path / "out"), "--model", str(model.folder), *options.split()]
    said = CliRunner().invoke(cli.cli, words)
    assert said.exit_code == 0, said.output
    assert "held out; 8 samples on cpu" in said.output
    assert "M as the paper counts" in said.output
    assert said.stderr.count("vertex error") == 2  # an iteration, a line
    assert f"--model {tmp_path / 'out/model'}" in said.output
    identity = json.loads((tmp_path / "out/train.json").read_text())
    assert identity["config"]["augmentation"]["rotation"] == 25
    bad = CliRunner().invoke(cli.cli, [*words, "--stage", "0.2", "64"])
    assert bad.exit_code != 0
    assert isinstance(bad.exception, TrainingError)
