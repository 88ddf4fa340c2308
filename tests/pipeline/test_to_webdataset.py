"""Samples of a run are what the model saw and said, in tars; the docs' example has the webdataset package read them."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
from conftest import wanted

import ddfa_batch
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.pipeline.verification import verify_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import OptionError
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.geometry.crop import crop
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points


@pytest.fixture(scope="module")
def run(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("samples") / "out"
    process(wanted(photos, out, bundle, vertices="none"), Execution("in-process"))
    return open_run(out)


@pytest.fixture(scope="module")
def packed(run: Results) -> Results:
    return ddfa_batch.to_webdataset(run.path, run.path.parent / "tars", format="png", shard_size=5)


def read(run: Results) -> dict[str, dict[str, bytes]]:
    """Samples by name, and of each the files by what comes after the first dot."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted((run.path / "tars").iterdir()):
        with tarfile.open(path) as archive:
            for member in archive:
                stem, _, kind = member.name.partition(".")
                data = archive.extractfile(member)
                assert data is not None
                found.setdefault(stem, {})[kind] = data.read()
    return found


def array(data: bytes) -> np.ndarray:
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))


def test_every_face_is_a_sample_and_every_input_a_row(run: Results, packed: Results) -> None:
    assert verify_run(packed.run).faults == []
    samples = read(packed)
    told = [json.loads(sample["json"]) for sample in samples.values()]
    assert [t["face_id"] for t in told] == sorted(run.faces(["face_id"])["face_id"].to_pylist())
    assert all(set(sample) == {"png", "params.npy", "landmarks.npy", "json"} for sample in samples.values())
    assert packed.images(["key", "n_faces"]).equals(run.images(["key", "n_faces"]))


def test_a_crop_is_the_pixels_that_the_model_saw(run: Results, packed: Results, photos: Path) -> None:
    for sample in read(packed).values():
        told = json.loads(sample["json"])
        pixels = cv2.imdecode(np.frombuffer(sample["png"], np.uint8), cv2.IMREAD_COLOR)
        image = cv2.imread(str(photos / told["key"]))
        assert np.array_equal(pixels, crop(image, np.array(told["roi"]), 120))


def test_parameters_give_the_landmarks_in_the_crops_own_pixels(run: Results, packed: Results, bundle: Bundle) -> None:
    morphable = load_morphable(bundle)
    basis = PointBasis.of(morphable, morphable.landmarks)
    for sample in read(packed).values():
        params = array(sample["params.npy"])[None]
        expected = points(basis, params, np.array([[0.0, 0, 120, 120]]), 120)[0]
        assert np.abs(array(sample["landmarks.npy"]) - expected).max() < 1e-2


def test_crops_of_another_size_have_their_landmarks_there(run: Results, packed: Results, tmp_path: Path) -> None:
    large = read(ddfa_batch.to_webdataset(run.path, tmp_path / "l", "n_faces = 1", size=240))
    small = read(packed)
    assert 0 < len(large) < len(small)
    for name, sample in large.items():
        assert cv2.imdecode(np.frombuffer(sample["jpg"], np.uint8), cv2.IMREAD_COLOR).shape == (240, 240, 3)
        landmarks = array(sample["landmarks.npy"])
        assert np.allclose(landmarks, 2 * array(small[name]["landmarks.npy"]), atol=1e-3)


def test_equal_runs_are_equal_bytes(run: Results, packed: Results, tmp_path: Path) -> None:
    again = ddfa_batch.to_webdataset(run.path, tmp_path / "again", format="png", shard_size=5)
    for path in (packed.path / "tars").iterdir():
        assert (again.path / "tars" / path.name).read_bytes() == path.read_bytes()


def test_a_photograph_that_is_gone_is_an_error_row_without_samples(
    bundle: Bundle, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for photo in sorted(photos.iterdir())[:2]:
        (tmp_path / "in" / photo.name).write_bytes(photo.read_bytes())
    process(wanted(tmp_path / "in", tmp_path / "out", bundle, vertices="none"), Execution("in-process"))
    sorted((tmp_path / "in").iterdir())[0].unlink()
    made = ddfa_batch.to_webdataset(tmp_path / "out", tmp_path / "tars")
    assert made.images(["error_kind"])["error_kind"].to_pylist() == ["missing", None]
    assert [name[:8] for name in read(made)] == ["00000001"] * 2


def test_samples_of_a_run_that_grew_are_added_behind_a_url_too(bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    first, second, *_ = sorted(photos.iterdir())
    shutil.copytree(first.parent, tmp_path / "in", ignore=lambda _, names: set(names) - {first.name})
    request = wanted(tmp_path / "in", tmp_path / "out", bundle, vertices="none")
    process(request, Execution("in-process"))
    ddfa_batch.to_webdataset(tmp_path / "out", "memory://samples")
    shutil.copy(second, tmp_path / "in")
    process(wanted(tmp_path / "in", tmp_path / "out", bundle, vertices="none"), Execution("in-process"), extend=True)
    grown = ddfa_batch.to_webdataset(tmp_path / "out", "memory://samples", extend=True)
    assert [entry.what for entry in grown.run.history] == ["extended"]
    assert grown.images(["key"])["key"].to_pylist() == [first.name, second.name]
    assert verify_run(grown.run).faults == []
    with pytest.raises(OptionError, match="leave out extend"):
        ddfa_batch.to_webdataset(tmp_path / "out", "memory://samples", extend=True, overwrite=True)
    fsspec.filesystem("memory").rm("/samples", recursive=True)


def test_sizes_that_cannot_be_are_refused(run: Results, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="size"):
        ddfa_batch.to_webdataset(run.path, tmp_path / "x", size=4)
