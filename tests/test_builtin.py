"""The model that comes with the package: what it is, that it is the default, and that it finds faces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import portraits
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_model
from command_line import call

import ddfa_batch
from ddfa_batch.schemas.bundle import REGRESSOR
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.tasks.bundles import model_bundle as bundles
from ddfa_batch.tasks.bundles.loaded_model import load_morphable, loaded_model
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import images
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.inference.detectors import make_detector
from ddfa_batch.tasks.inference.regressor import Regressor, combined_scores


@pytest.fixture(scope="module")
def builtin(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.find_bundle(BUILTIN, tmp_path_factory.mktemp("no models"))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the two portraits and a picture without a face, with no model named."""
    folder = tmp_path_factory.mktemp("builtin")
    (folder / "in").mkdir()
    for path in (portraits.astronaut(), portraits.hopper()):
        shutil.copy(path, folder / "in")
    small_model.pictures(folder / "in", [0])
    answer = call("process", folder / "in", folder / "out", "--vertices", "none", models=folder, model=None)
    assert answer.code == 0, answer.stderr
    assert answer.stderr.startswith("Model: builtin (ddfa_batch/models/builtin, 62 parameters, ")
    return folder / "out"


# --------------------------------------------------------------------------------------------- what it is


def test_it_is_whole_and_says_its_terms(builtin: Bundle) -> None:
    manifest = builtin.manifest
    assert (manifest.name, manifest.topology, manifest.layout.size) == (BUILTIN, "builtin_v2", 62)
    assert manifest.default_detector in manifest.detectors
    assert "research" in manifest.licence
    assert "AFLW" in manifest.licence
    assert builtin.card is not None
    model = loaded_model(str(builtin.folder), builtin.digest)
    assert model.morphable.uv is not None
    model.detector_session(builtin.detector(None)[1])


def test_the_portraits_come_out_as_a_person_marked_them(out: Path) -> None:
    faces = {face["key"]: face for face in ddfa_batch.open(out).faces().to_pylist()}
    assert sorted(faces) == ["astronaut.png", "grace_hopper.jpg"]
    for key, parts in (("astronaut.png", portraits.ASTRONAUT), ("grace_hopper.jpg", portraits.HOPPER)):
        assert portraits.strays(np.reshape(faces[key]["landmarks68"], (68, 3)), parts) == []
        assert abs(faces[key]["yaw"]) < 20


@pytest.mark.parametrize("degrees", [180, 90, -90, 60, -35])
def test_a_portrait_that_leans_or_lies_comes_out_as_upright(degrees: float, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    parts = portraits.leaning(tmp_path / "in/leaning.png", degrees)
    (face,) = ddfa_batch.open(_processed(tmp_path / "in", tmp_path / "out", "builtin")).faces().to_pylist()
    assert portraits.strays(np.reshape(face["landmarks68"], (68, 3)), parts) == []
    assert abs((face["roll"] - degrees + 180) % 360 - 180) < 8
    assert abs(face["yaw"]) < 20


def test_detector_and_regressor_together_tell_what_is_a_face(out: Path, builtin: Bundle, tmp_path: Path) -> None:
    name, spec = builtin.detector(None)
    model = loaded_model(str(builtin.folder), builtin.digest)
    detect = make_detector(spec, model.detector_session(spec), spec.candidate_threshold, None)
    regress = Regressor(model.regressor, builtin.manifest)
    asked = 0
    for path in (out.parent / "in").iterdir():
        image = images.decode(path.read_bytes(), 10**8)
        found = detect(image)
        asked += len(found.scores)
        if not len(found.scores):
            continue
        rois = crop.roi_from_boxes(found.boxes, spec.roi_scale, spec.roi_shift)
        _, face = regress.with_faces(np.stack([crop.crop(image, roi, regress.size) for roi in rois]))
        scores = np.sort(combined_scores(found.scores, face, spec.detector_weight))[::-1]
        rows = [row for row in ddfa_batch.open(out).faces().to_pylist() if row["key"] == path.name]
        np.testing.assert_allclose([row["score"] for row in rows], scores[scores > spec.face_threshold], rtol=1e-5)
    assert asked > 2  # what looks like a face to the detector, such as a badge, and is none to both

    alone = tmp_path / "alone"
    shutil.copytree(builtin.folder, alone)
    content = json.loads((alone / "model.json").read_text())
    content["detectors"][name] |= {"detector_weight": 0.0, "score_threshold": spec.candidate_threshold, "passes": [{}]}
    (alone / "model.json").write_text(json.dumps(content))
    lax = ddfa_batch.open(_processed(out.parent / "in", tmp_path / "lax", alone))
    assert len(lax.faces()) == asked
    one = ddfa_batch.open(_processed(out.parent / "in", tmp_path / "one", alone, "--max-faces", "1"))
    assert max(one.images()["n_faces"].to_pylist()) == 1
    none = ddfa_batch.open(_processed(out.parent / "in", tmp_path / "none", builtin.folder, "--min-score", "1"))
    assert set(none.images()["status"].to_pylist()) == {"no_face"}
    assert set(none.images()["n_faces"].to_pylist()) == {0}


def _processed(photos: Path, out: Path, model: Path | str, *more: str) -> Path:
    answer = call("process", photos, out, "--model", model, "--vertices", "none", *more)
    assert answer.code == 0, answer.stderr
    return out


def test_its_face_looks_at_the_viewer(builtin: Bundle) -> None:
    model = load_morphable(builtin)
    landmarks = model.mean[model.landmarks]
    assert landmarks[30, 2] > landmarks[[36, 45], 2].max()  # the nose is before the eyes
    assert landmarks[36, 0] < landmarks[45, 0]
    assert landmarks[27, 1] > landmarks[8, 1]


def test_list_and_show_tell_what_it_is(builtin: Bundle, models: Path) -> None:
    listed = call("models", "list", models=models).stdout
    assert listed.startswith("builtin  ")
    assert "used where no model is named" in listed.splitlines()[0]
    assert builtin.manifest.licence in listed.splitlines()[1]
    assert "small  " in listed
    shown = call("models", "show", "builtin", models=models).stdout
    for said in (builtin.manifest.licence, builtin.digest, "builtin_v2", "(default)", f"card: {builtin.card}"):
        assert said in shown
    assert call("models", "verify", "builtin").code == 0


# ------------------------------------------------------------------------------------------- what its name means


def test_the_name_means_the_packaged_one_whatever_else_bears_it(
    builtin: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = small_model.bundle(tmp_path, BUILTIN)
    monkeypatch.chdir(tmp_path)
    assert bundles.find_bundle(BUILTIN, tmp_path) == builtin
    assert bundles.find_bundle("./builtin", tmp_path).digest == other.digest
    listed = call("models", "list", models=tmp_path, model=None).stdout
    assert f"Hidden by its name: {tmp_path / BUILTIN}" in listed


def test_it_takes_no_detector(tmp_path: Path) -> None:
    (tmp_path / "y.onnx").write_bytes(small_model.detector())
    answer = call("models", "add-detector", "builtin", "yunet", tmp_path / "y.onnx")
    assert answer.code == 1
    assert "is part of the installation" in answer.stderr


def test_a_training_cannot_take_its_name(tmp_path: Path) -> None:
    answer = call("train", tmp_path, tmp_path / BUILTIN)
    assert answer.code == 1
    assert "'builtin' is the name of the model that comes with the package" in answer.stderr


@pytest.mark.parametrize("damage", ["nothing there", "a file is altered"])
def test_an_installation_without_it_says_so_in_one_sentence(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    if damage == "a file is altered":
        shutil.copytree(bundle.folder, tmp_path / BUILTIN)
        (tmp_path / BUILTIN / REGRESSOR).write_bytes(b"altered")
    monkeypatch.setattr(bundles, "builtin_folder", lambda name: tmp_path / name)
    with pytest.raises(BundleError, match="The built-in model 'builtin' is not whole in this installation") as caught:
        bundles.find_bundle(BUILTIN, tmp_path)
    assert "install ddfa-batch again, or name another model" in str(caught.value)


# --------------------------------------------------------------------------------------- which model is used


def test_a_run_goes_on_with_the_model_it_was_planned_with(models: Path, tmp_path: Path) -> None:
    photos = small_model.pictures(tmp_path / "in", [1, 2])
    assert call("process", photos, tmp_path / "out", "--model", "small", models=models, model=None).code == 0
    again = call("process", photos, tmp_path / "out", models=models, model=None)
    assert again.code == 0, again.stderr
    assert "Nothing was left to do" in again.stdout
    assert f"; {tmp_path / 'out'} was made with it, though the default is builtin" in again.stderr
    named = call("process", photos, tmp_path / "out", "--model", "builtin", models=models, model=None)
    assert named.code == 1
    assert "differs in" in named.stderr
    assert "model (there " in named.stderr
    anew = call("process", photos, tmp_path / "out", "--overwrite", "--dry-run", models=models, model=None)
    assert anew.stderr.startswith("Model: builtin (")


def test_parameters_of_a_run_bring_their_model(models: Path, tmp_path: Path) -> None:
    photos = small_model.pictures(tmp_path / "in", [1])
    call("process", photos, tmp_path / "out", models=models)
    answer = call(
        "synth-videos",
        photos,
        tmp_path / "clips",
        "--params",
        tmp_path / "out",
        "--frames",
        2,
        models=models,
        model=None,
    )
    assert answer.code == 0, answer.stderr
    assert answer.stderr.startswith("Model: small (")
    assert "parameters given)" in answer.stderr


def test_fit_and_evaluate_say_it_too(out: Path, tmp_path: Path) -> None:
    faces = ddfa_batch.open(out).faces(["key", "landmarks68"]).to_pylist()
    rows = [
        {"key": face["key"], "pts68": np.reshape(face["landmarks68"], (68, 3))[:, :2].ravel().tolist()}
        for face in faces
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "labels.parquet")
    fitted = call("fit", tmp_path / "labels.parquet", tmp_path / "fit")
    assert "Model: builtin (ddfa_batch/models/builtin, 62 parameters, " in fitted.stderr
    assert "2 faces: 2 converged" in fitted.stdout
    words = ("evaluate", tmp_path / "labels.parquet", tmp_path / "scores", "--run", out)
    assert call(*words).stderr.startswith("Model: builtin (")
    assert call(*words, "--overwrite", "--quiet").stderr == ""


def test_a_run_whose_model_is_gone_says_which(tmp_path: Path) -> None:
    photos, folder = small_model.pictures(tmp_path / "in", [1]), tmp_path / "models"
    small_model.bundle(folder)
    call("process", photos, tmp_path / "out", models=folder)
    shutil.rmtree(folder)
    answer = call("process", photos, tmp_path / "out", models=folder, model=None)
    assert answer.code == 1
    assert f"{tmp_path / 'out'} was made with the model 'small', which cannot be used" in answer.stderr


def test_a_run_of_another_installation_is_read_with_the_model_of_this_one(out: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    about = json.loads((copy / "run.json").read_text())
    about["model"]["folder"] = "/nowhere/site-packages/ddfa_batch/models/builtin"
    (copy / "run.json").write_text(json.dumps(about))
    np.testing.assert_array_equal(ddfa_batch.open(copy).vertices(), ddfa_batch.open(out).vertices())
    again = call("process", out.parent / "in", copy, "--vertices", "none")
    assert "Nothing was left to do" in again.stdout, again.stderr
