"""Model bundles: what is missing, altered or not understood is named before it is used."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_model

from ddfa_batch.schemas.bundle import parse_manifest
from ddfa_batch.schemas.detectors import DetectionPass, DetectorSpec
from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.tasks.bundles import loaded_model, model_bundle, morphable_npz
from ddfa_batch.tasks.bundles.detector_families import add_detector
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files.checksums import sha256
from ddfa_batch.tasks.inference.detectors import make_detector


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.folder, tmp_path / "copy"))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_bundle_survives_being_written_and_read(bundle: Bundle) -> None:
    again = loaded_model.load_morphable(bundle)
    for name in ("mean", "basis", "triangles", "landmarks"):
        np.testing.assert_array_equal(getattr(again, name), getattr(small_model.head(), name))
    assert parse_manifest(bundle.manifest.to_json().encode(), "x") == bundle.manifest


def test_numbers_are_stored_in_the_smallest_type_that_loses_nothing(tmp_path: Path) -> None:
    head = small_model.head()
    halves = replace(head, basis=head.basis.astype(np.float16).astype(np.float32))
    for model, stored in ((halves, np.float16), (replace(head, basis=head.basis + np.float32(1e-5)), np.float32)):
        morphable_npz.write_morphable(tmp_path / "model.npz", model)
        with np.load(tmp_path / "model.npz") as npz:
            assert (npz["shape_basis"].dtype, npz["triangles"].dtype) == (stored, np.uint16)
        again = morphable_npz.read_morphable(tmp_path / "model.npz", model.layout)
        np.testing.assert_array_equal(again.basis, model.basis)
        np.testing.assert_array_equal(again.triangles, model.triangles)
        assert (again.basis.dtype, again.triangles.dtype) == (np.float32, np.int32)


def test_a_bundle_may_name_its_expressions(copy: Path, bundle: Bundle) -> None:
    names = [f"expression_{i}" for i in range(bundle.manifest.n_expression)]
    edit(copy, expression_names=names)
    assert model_bundle.load_bundle(copy).manifest.expression_names == tuple(names)
    assert bundle.manifest.expression_names == ()


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


FCOS = {"kind": "fcos", "file": "a", "score_threshold": 0, "fit": [64, 64]}


def fcos(**changes: Any) -> dict[str, Any]:
    return {"detectors": {"x": {**FCOS, **changes}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "something else"}, "is not of the format 'ddfa-batch model bundle'"),
        ({"format_version": 99}, "format version 99, and this ddfa-batch reads version 1 to 2"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"param_mean": [0.0]}, "param_mean has 1 numbers"),
        ({"param_mean": "abc"}, "wrong 'param_mean'"),
        ({"param_std": [1.0] * 61 + [-1.0]}, "param_std holds a number below 0"),
        ({"param_std": [1.0] * 61 + [1e300]}, "param_std holds a number beyond"),
        ({"param_mean": [float("nan")] * 62}, "not valid JSON"),
        ({"param_mean": [None] * 62}, "wrong 'param_mean'"),
        ({"n_shape": -1}, "n_shape and n_expression lie in"),
        ({"n_shape": 10**30}, "wrong 'n_shape'|not valid JSON"),
        ({"n_shape": 40.5}, "wrong 'n_shape'"),
        ({"input_std": 0}, "input_std 0.0 normalise no picture"),
        ({"input_std": -1}, "normalise no picture"),
        ({"input_std": "128"}, "wrong 'input_std'"),
        ({"input_mean": 1e300}, "normalise no picture"),
        ({"input_size": 10**9}, "input_size"),
        ({"licence": None}, "wrong 'licence'"),
        ({"name": "../evil"}, "cannot be a model's name"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "no file inside the bundle"),
        ({"files": {"/etc/passwd": "0" * 64}}, "no file inside the bundle"),
        ({"files": {"a": 7}}, "wrong 'files.a'"),
        ({"files": []}, "wrong 'files'"),
        ({"files": {}}, "gives no sha256 for detectors/yunet.onnx, morphable.npz, regressor.onnx"),
        ({"detectors": [1]}, "wrong 'detectors'"),
        ({"detectors": {"x": 1}}, "wrong 'detectors.x'"),
        (fcos(kind="magic"), "wrong 'detectors.x' .*of one of the kinds faceboxes, yunet, fcos, not 'magic'"),
        (fcos(surprise=1), "unknown key 'detectors.x.surprise'"),
        (fcos(fit=[64]), "wrong 'detectors.x.fit'"),
        (fcos(fit=[64, 10**6]), "fit is .height, width., each 32 to 16384"),
        (fcos(roi_scale=0), "roi_scale lies above 0"),
        (fcos(roi_shift=1e9), "roi_shift"),
        (fcos(detector_weight=-1), "detector_weight is 0 or more, not -1"),
        (fcos(candidate_threshold=1.5), r"candidate_threshold lies in 0\.\.1, not 1\.5"),
        (fcos(score_threshold=-0.1), "score_threshold lies in"),
        (fcos(stop_score=1.5), "stop_score lies in"),
        (fcos(passes=[]), "makes 1 to 8 passes, not 0"),
        (fcos(passes=[{}] * 9), "makes 1 to 8 passes, not 9"),
        (fcos(passes=0.5), "wrong 'detectors.x.passes'"),
        (fcos(passes=[{"scale": 0}]), r"wrong 'detectors.x.passes.0' \(a pass has a scale above 0"),
        (fcos(passes=[{"scale": 1.1}]), "scale above 0 and up to 1, not 1.1"),
        (fcos(passes=[{}, {"rotations": [45]}]), r"passes.1' .*some of 0, 90, -90, 180 as rotations, not \[45\]"),
        (fcos(passes=[{"rotations": [90, 90]}]), "as rotations"),
        (fcos(passes=[{"rotations": []}]), "as rotations"),
        (fcos(passes=[{"rotations": [[90]]}]), "wrong 'detectors.x.passes.0.rotations'"),
        (fcos(passes=[{"score_threshold": 2}]), "a pass's score_threshold lies in"),
        (fcos(passes=[{"doubt": 2}]), "a pass's doubt lies in"),
        (fcos(glance={"longest_side": 8, "least_size": 1, "doubt": 0.1}), "a glance's longest_side is 32 to 16384"),
        (fcos(glance={"longest_side": 99, "least_size": -1, "doubt": 0.1}), "a glance's least_size is 0 to 16384"),
        (fcos(glance={"longest_side": 99, "least_size": 1, "doubt": 7}), "a glance's doubt lies in"),
        (fcos(glance={"longest_side": 99}), "has no 'detectors.x.glance.least_size'"),
        (fcos(passes=[{"surprise": 2}]), "unknown key 'detectors.x.passes.0.surprise'"),
        ({"default_detector": "nobody"}, "'nobody' as default detector"),
        ({"expression_names": ["smile"]}, "expression_names are 10 different names, or none"),
        ({"expression_names": ["smile"] * 10}, "expression_names are 10 different names, or none"),
        ({"expression_names": [f"e{i}" for i in range(9)] + ["a b"]}, "small letters, digits and '_', not 'a b'"),
        ({"expression_names": 3}, "wrong 'expression_names'"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_reason(copy: Path, changes: dict[str, Any], message: str) -> None:
    edit(copy, **changes)
    with pytest.raises(BundleError, match=message):
        model_bundle.load_bundle(copy)


#: What version 1 said of the built-in detector, and what it means in version 2.
VERSION_1 = {
    "kind": "yunet",
    "file": "detectors/yunet.onnx",
    "min_score": 0.6,
    "fit": [720, 1080],
    "roi_scale": 1.433,
    "roi_shift": -0.008,
    "candidate_score": 0.25,
    "trust": 1.94,
    "face_score": 0.76,
    "again": [0.7, 0.5],
    "turned": [90, -90, 180],
    "sure": 0.98,
}
VERSION_2 = DetectorSpec(
    kind="yunet",
    file="detectors/yunet.onnx",
    score_threshold=0.6,
    fit=(720, 1080),
    roi_scale=1.433,
    roi_shift=-0.008,
    candidate_threshold=0.25,
    detector_weight=1.94,
    face_score=0.76,
    passes=(
        DetectionPass(1.0),
        DetectionPass(0.7),
        DetectionPass(0.5),
        DetectionPass(0.7, rotations=(90, -90, 180)),
    ),
    stop_score=0.98,
)


@pytest.mark.parametrize(
    ("dropped", "passes"),
    [
        ((), VERSION_2.passes),
        (("turned",), VERSION_2.passes[:3]),
        (("again",), (DetectionPass(), DetectionPass(1.0, rotations=(90, -90, 180)))),
        (("again", "turned"), (DetectionPass(),)),
    ],
)
def test_version_1_is_read_as_what_it_meant(
    copy: Path, dropped: tuple[str, ...], passes: tuple[DetectionPass, ...]
) -> None:
    old = {key: value for key, value in VERSION_1.items() if key not in dropped}
    edit(copy, format_version=1, detectors={"yunet": old})
    assert model_bundle.load_bundle(copy).manifest.detectors == {"yunet": replace(VERSION_2, passes=passes)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trust": "much"}, "wrong 'detectors.yunet.detector_weight'"),
        ({"again": [2]}, "wrong 'detectors.yunet.passes.1'"),
        ({"again": 0.5}, "wrong 'detectors.yunet.passes'"),
        ({"turned": [45]}, "as rotations"),
        ({"turned": [90, 90]}, "as rotations"),
    ],
)
def test_a_wrong_manifest_of_version_1_is_refused_too(copy: Path, changes: dict[str, Any], message: str) -> None:
    edit(copy, format_version=1, detectors={"yunet": {**VERSION_1, **changes}})
    with pytest.raises(BundleError, match=message):
        model_bundle.load_bundle(copy)


@pytest.mark.parametrize("detectors", [None, 3, {"yunet": 3}])
def test_version_1_without_detectors_is_refused(copy: Path, detectors: object) -> None:
    edit(copy, format_version=1, detectors=detectors)
    with pytest.raises(BundleError, match="wrong 'detectors"):
        model_bundle.load_bundle(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\0"])
def test_arbitrary_text_is_no_manifest(copy: Path, text: str) -> None:
    (copy / "model.json").write_text(text)
    with pytest.raises(BundleError, match=r"model\.json"):
        model_bundle.load_bundle(copy)


def reseal(folder: Path) -> Bundle:
    """Give the manifest the hashes of what is there now, as an attacker would."""
    manifest = json.loads((folder / "model.json").read_text())
    edit(folder, files={name: sha256(folder / name) for name in manifest["files"]})
    return model_bundle.load_bundle(folder)


def test_pickled_arrays_in_the_npz_are_not_loaded(copy: Path) -> None:
    arrays = dict(np.load(copy / "morphable.npz"))
    arrays["mean"] = np.array([{"not": "plain"}], dtype=object)
    np.savez(copy / "morphable.npz", **arrays)
    with pytest.raises(BundleError, match="morphable"):
        loaded_model.load_morphable(reseal(copy))


def test_a_zip_bomb_is_not_unpacked(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(morphable_npz, "_MAX_BYTES", 10**6)
    with zipfile.ZipFile(copy / "morphable.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mean.npy", b"\0" * 5_000_000)
    assert (copy / "morphable.npz").stat().st_size < 10_000
    with pytest.raises(BundleError, match="unpacks to more"):
        loaded_model.load_morphable(reseal(copy))


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
        loaded_model.load_morphable(reseal(copy))


def test_a_regressor_that_is_no_network_is_named(copy: Path) -> None:
    (copy / "regressor.onnx").write_bytes(b"not a network")
    broken = reseal(copy)
    with pytest.raises(BundleError, match=r"regressor\.onnx is not a network"):
        loaded_model.loaded_model(str(broken.folder), broken.digest)


def test_a_model_that_changed_after_planning_is_noticed(copy: Path) -> None:
    with pytest.raises(BundleError, match="not the one this run was planned with"):
        loaded_model.loaded_model(str(copy), "0" * 64)


def test_any_yunet_can_be_added(copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(small_model.detector())
    grown = add_detector(model_bundle.load_bundle(copy), "second", "yunet", path)
    assert set(grown.manifest.detectors) == {"yunet", "second"}
    assert grown.manifest.default_detector == "yunet"
    assert grown.digest != model_bundle.load_bundle(copy.parent / "copy").digest or grown.folder == copy


def test_a_detector_more_leaves_the_card_and_whatever_else_lies_there(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(small_model.detector())
    (copy / "CARD.md").write_text("What it is.")
    (copy / "notes").mkdir()
    (copy / "notes/terms.txt").write_text("Research.")
    grown = add_detector(model_bundle.load_bundle(copy), "second", "yunet", tmp_path / "mine.onnx")
    assert grown.card is not None
    assert grown.card.read_text() == "What it is."
    assert (copy / "notes/terms.txt").read_text() == "Research."
    assert not {"CARD.md", "notes/terms.txt"} & grown.manifest.files.keys()
    assert [path.name for path in copy.parent.iterdir() if path.name.startswith(".")] == []


def test_a_detector_of_the_projects_own_can_be_added(copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(small_model.fcos_detector())
    grown = add_detector(model_bundle.load_bundle(copy), "own", "fcos", path)
    spec = grown.manifest.detectors["own"]
    assert (spec.kind, spec.file) == ("fcos", "detectors/own.onnx")
    assert spec.roi_scale < 1.58  # its boxes are the landmarks', not a head's
    loaded = loaded_model.loaded_model(str(grown.folder), grown.digest)
    found = make_detector(spec, loaded.detector_session(spec), spec.score_threshold, None)(small_model.picture(2))
    assert len(found.scores) == 2


def test_a_family_nobody_knows_is_refused_with_those_there_are(copy: Path) -> None:
    with pytest.raises(BundleError, match=r"'magic' is not a family .* there are: yunet, fcos"):
        add_detector(model_bundle.load_bundle(copy), "second", "magic", copy / "regressor.onnx")


@pytest.mark.parametrize("family", ["yunet", "fcos"])
@pytest.mark.parametrize("what", ["missing", "no network", "another network"])
def test_what_is_of_another_family_is_not_added(copy: Path, tmp_path: Path, what: str, family: str) -> None:
    path = tmp_path / "mine.onnx"
    if what != "missing":
        path.write_bytes(small_model.regressor() if what == "another network" else b"nonsense")
    before = (copy / "model.json").read_bytes()
    with pytest.raises(BundleError, match=r"mine\.onnx"):
        add_detector(model_bundle.load_bundle(copy), "second", family, path)
    assert (copy / "model.json").read_bytes() == before


def test_models_are_found_by_name_and_by_folder(models_folder: Path) -> None:
    assert model_bundle.find_bundle("small", models_folder).manifest.name == "small"
    assert model_bundle.find_bundle(str(models_folder / "small"), Path("/nowhere")).manifest.name == "small"
    with pytest.raises(BundleError, match=r"No model called 'large'.*there is: builtin, builtin-large, small"):
        model_bundle.find_bundle("large", models_folder)


@pytest.fixture
def models_folder(bundle: Bundle) -> Path:
    return bundle.folder.parent
