"""Model bundles: what is missing, altered or not understood is named before it is used."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_model

from ddfa_batch.schemas.bundle import parse_manifest
from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.tasks.bundles import model_bundle
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.inference.detectors import make_detector


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.folder, tmp_path / "copy"))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_bundle_survives_being_written_and_read(bundle: Bundle) -> None:
    again = model_bundle.load_morphable(bundle)
    for name in ("mean", "basis", "triangles", "landmarks"):
        np.testing.assert_array_equal(getattr(again, name), getattr(small_model.head(), name))
    assert parse_manifest(bundle.manifest.to_json(), "x") == bundle.manifest


def test_a_card_is_for_people_and_no_part_of_the_model(copy: Path, bundle: Bundle) -> None:
    assert bundle.card is None
    (copy / "CARD.md").write_text("What it is.")
    carded = model_bundle.load_bundle(copy)
    assert carded.card == copy / "CARD.md"
    assert (carded.digest, carded.manifest) == (bundle.digest, bundle.manifest)


@pytest.mark.parametrize("file", ["regressor.onnx", "morphable.npz", "detectors/yunet.onnx"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_a_damaged_file_is_named(copy: Path, file: str, damage: str) -> None:
    path = copy / file
    raw = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw[:-1] if damage == "truncated" else raw)
    with pytest.raises(BundleError, match=file):
        model_bundle.load_bundle(copy)


FCOS = {"kind": "fcos", "file": "a", "min_score": 0, "fit": [64, 64]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "something else"}, "not the model.json"),
        ({"format_version": 99}, "format version 99"),
        ({"surprise": 1}, "surprise"),
        ({"param_mean": [0.0]}, "param_mean has 1 numbers"),
        ({"param_mean": "abc"}, "does not describe a model"),
        ({"input_size": 10**9}, "input_size"),
        ({"name": "../evil"}, "cannot be a model's name"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "is not a file inside the bundle"),
        ({"files": {"/etc/passwd": "0" * 64}}, "is not a file inside the bundle"),
        ({"files": {}}, "gives no sha256 for detectors/yunet.onnx, morphable.npz, regressor.onnx"),
        ({"detectors": {"x": {"kind": "magic", "file": "a", "min_score": 0, "fit": [64, 64]}}}, "unknown kind"),
        ({"detectors": {"x": {**FCOS, "trust": -1}}}, "detector 'x' needs a trust of 0 or more .* not -1 and"),
        ({"detectors": {"x": {**FCOS, "trust": float("nan")}}}, "needs a trust of 0 or more"),
        ({"detectors": {"x": {**FCOS, "candidate_score": 1.5}}}, r"candidate_score in 0\.\.1"),
        (
            {"detectors": {"x": {**FCOS, "again": [1]}}},
            r"detector 'x' may have up to 4 numbers .* in again, not \[1",
        ),
        ({"detectors": {"x": {**FCOS, "again": [0.9] * 5}}}, "may have up to 4 numbers between 0 and 1"),
        ({"detectors": {"x": {**FCOS, "again": 0.5}}}, "does not describe a model"),
        ({"detectors": {"x": {**FCOS, "turned": [45]}}}, r"detector 'x' may have 90, -90, 180 in turned, not \[45\]"),
        ({"detectors": {"x": {**FCOS, "turned": [90, 90]}}}, "may have 90, -90, 180 in turned"),
        ({"detectors": {"x": {**FCOS, "sure": 1.5}}}, "detector 'x' needs a sure between 0 and 1, not 1.5"),
        ({"detectors": {"x": {**FCOS, "turned": [[90]]}}}, "does not describe a model"),
        ({"default_detector": "nobody"}, "nobody"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_reason(copy: Path, changes: dict[str, Any], message: str) -> None:
    edit(copy, **changes)
    with pytest.raises(BundleError, match=message):
        model_bundle.load_bundle(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\0"])
def test_arbitrary_text_is_no_manifest(copy: Path, text: str) -> None:
    (copy / "model.json").write_text(text)
    with pytest.raises(BundleError, match=r"model\.json"):
        model_bundle.load_bundle(copy)


def reseal(folder: Path) -> Bundle:
    """Give the manifest the hashes of what is there now, as an attacker would."""
    manifest = json.loads((folder / "model.json").read_text())
    edit(folder, files={name: model_bundle.sha256(folder / name) for name in manifest["files"]})
    return model_bundle.load_bundle(folder)


def test_pickled_arrays_in_the_npz_are_not_loaded(copy: Path) -> None:
    arrays = dict(np.load(copy / "morphable.npz"))
    arrays["mean"] = np.array([{"not": "plain"}], dtype=object)
    np.savez(copy / "morphable.npz", **arrays)
    with pytest.raises(BundleError, match="morphable"):
        model_bundle.load_morphable(reseal(copy))


def test_a_zip_bomb_is_not_unpacked(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_bundle, "_MAX_NPZ_BYTES", 10**6)
    with zipfile.ZipFile(copy / "morphable.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mean.npy", b"\0" * 5_000_000)
    assert (copy / "morphable.npz").stat().st_size < 10_000
    with pytest.raises(BundleError, match="unpacks to more"):
        model_bundle.load_morphable(reseal(copy))


@pytest.mark.parametrize("change", ["fewer coefficients", "landmark outside", "no triangles", "bad shape"])
def test_a_face_model_that_does_not_fit_is_refused(copy: Path, change: str) -> None:
    arrays = dict(np.load(copy / "morphable.npz"))
    if change == "fewer coefficients":
        arrays["shape_basis"] = arrays["shape_basis"][:-1]
    elif change == "landmark outside":
        arrays["landmarks"] = arrays["landmarks"] + 10**6
    elif change == "no triangles":
        del arrays["triangles"]
    else:
        arrays["mean"] = arrays["mean"][:, :2]
    np.savez(copy / "morphable.npz", **arrays)
    with pytest.raises(BundleError, match="morphable"):
        model_bundle.load_morphable(reseal(copy))


def test_a_regressor_that_is_no_network_is_named(copy: Path) -> None:
    (copy / "regressor.onnx").write_bytes(b"not a network")
    broken = reseal(copy)
    with pytest.raises(BundleError, match=r"regressor\.onnx is not a network"):
        model_bundle.loaded_model(str(broken.folder), broken.digest)


def test_a_model_that_changed_after_planning_is_noticed(copy: Path) -> None:
    with pytest.raises(BundleError, match="not the one this run was planned with"):
        model_bundle.loaded_model(str(copy), "0" * 64)


def test_any_yunet_can_be_added(copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(small_model.detector())
    grown = model_bundle.add_detector(model_bundle.load_bundle(copy), "second", "yunet", path)
    assert set(grown.manifest.detectors) == {"yunet", "second"}
    assert grown.manifest.default_detector == "yunet"
    assert grown.digest != model_bundle.load_bundle(copy.parent / "copy").digest or grown.folder == copy


def test_a_detector_of_the_projects_own_can_be_added(copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(small_model.fcos_detector())
    grown = model_bundle.add_detector(model_bundle.load_bundle(copy), "own", "fcos", path)
    spec = grown.manifest.detectors["own"]
    assert (spec.kind, spec.file) == ("fcos", "detectors/own.onnx")
    assert spec.roi_scale < 1.58  # its boxes are the landmarks', not a head's
    loaded = model_bundle.loaded_model(str(grown.folder), grown.digest)
    found = make_detector(spec, loaded.detector_session(spec), spec.min_score, None)(small_model.picture(2))
    assert len(found.scores) == 2


def test_a_family_nobody_knows_is_refused_with_those_there_are(copy: Path) -> None:
    with pytest.raises(BundleError, match=r"'magic' is not a family .* there are: yunet, fcos"):
        model_bundle.add_detector(model_bundle.load_bundle(copy), "second", "magic", copy / "regressor.onnx")


@pytest.mark.parametrize("family", ["yunet", "fcos"])
@pytest.mark.parametrize("what", ["missing", "no network", "another network"])
def test_what_is_of_another_family_is_not_added(copy: Path, tmp_path: Path, what: str, family: str) -> None:
    path = tmp_path / "mine.onnx"
    if what != "missing":
        path.write_bytes(small_model.regressor() if what == "another network" else b"nonsense")
    before = (copy / "model.json").read_bytes()
    with pytest.raises(BundleError, match=r"mine\.onnx"):
        model_bundle.add_detector(model_bundle.load_bundle(copy), "second", family, path)
    assert (copy / "model.json").read_bytes() == before


def test_models_are_found_by_name_and_by_folder(models_folder: Path) -> None:
    assert model_bundle.find_bundle("small", models_folder).manifest.name == "small"
    assert model_bundle.find_bundle(str(models_folder / "small"), Path("/nowhere")).manifest.name == "small"
    with pytest.raises(BundleError, match=r"No model called 'large'.*there is: builtin, small"):
        model_bundle.find_bundle("large", models_folder)


@pytest.fixture
def models_folder(bundle: Bundle) -> Path:
    return bundle.folder.parent
