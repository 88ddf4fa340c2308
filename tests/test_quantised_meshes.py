"""`--vertices quantised`: meshes as int16, which h5py reads by a formula and everything of ours as any others."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_model import pictures

import ddfa_batch
from ddfa_batch.pipeline.verification import planned_run, verify_run
from ddfa_batch.tasks.files.mesh_files import QUANTISED_STEP, MeshFile, QuantisedMeshes, put_vertices

BOUND = QUANTISED_STEP / 2


def meshes(span: float, n: int = 3, seed: int = 0) -> np.ndarray:
    """Meshes (n, 500, 3) that span so many pixels, somewhere in a picture."""
    random = np.random.default_rng(seed)
    middle = random.uniform(-300, 3000, (n, 1, 3))
    return (middle + random.uniform(-span / 2, span / 2, (n, 500, 3))).astype(np.float32)


@pytest.mark.parametrize("span", [0.01, 30.0, 400.0, 1000.0])
def test_a_vertex_is_off_by_a_hundredth_of_a_pixel_at_most(span: float) -> None:
    whole = meshes(span)
    assert BOUND < 0.01
    assert np.abs(QuantisedMeshes.of(whole).meshes() - whole).max() <= BOUND + 2e-4  # what float32 has beyond 2,000


@pytest.mark.parametrize(("span", "times"), [(1000.0, 1), (1500.0, 2), (9000.0, 16)])
def test_larger_faces_have_larger_steps(span: float, times: int) -> None:
    whole = meshes(span)
    made = QuantisedMeshes.of(whole)
    assert made.scale.max() == times * QUANTISED_STEP
    assert np.abs(made.meshes() - whole).max() <= times * BOUND + 1e-3


@pytest.mark.parametrize("n_vertices", [3, 64, 100, 9681])
def test_bounds_are_those_of_all_vertices(n_vertices: int) -> None:
    whole = np.random.default_rng(5).normal(0, 50, (2, n_vertices, 3)).astype(np.float32)
    twin = (whole.astype(np.float64).min(axis=1) + whole.max(axis=1)) / 2
    assert np.array_equal(QuantisedMeshes.of(whole).offset, np.round(twin))


def test_quantised_again_they_are_the_same() -> None:
    once = QuantisedMeshes.of(meshes(700.0)).meshes()
    assert np.array_equal(QuantisedMeshes.of(once).meshes(), once)


def test_a_file_is_read_by_its_formula_without_us(tmp_path: Path) -> None:
    whole = meshes(300.0, 5)
    path = tmp_path / "meshes.h5"
    put_vertices(path, np.arange(5), iter([whole[:2], whole[2:]]), 500, "test", "quantised")
    with h5py.File(path, "r") as file:
        offset, scale = file["vertices_offset"][:], file["vertices_scale"][:]
        read = offset[:, None] + scale[:, None, None] * file["vertices_quantised"][:]
        meaning = file["vertices_quantised"].attrs["meaning"]
        assert meaning == "vertices_offset + vertices_scale * vertices_quantised, by face"
        assert MeshFile(file).shape == (5, 500, 3)
        assert np.array_equal(MeshFile(file).mesh(3), read[3].astype(np.float32))
    assert np.abs(read - whole).max() <= BOUND + 2e-4


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("photographs"), [1, 2, 0, 1, 3])


def test_a_run_has_the_meshes_of_another(photographs: Path, models: Path, tmp_path: Path) -> None:
    options = {"model": "small", "models_dir": models, "shard_size": 2}
    runs = {
        form: ddfa_batch.process(photographs, tmp_path / form, vertices=form, **options)
        for form in ("float32", "quantised")
    }
    whole, quantised = runs["float32"].vertices(), runs["quantised"].vertices()
    assert len(whole) == 7
    assert not np.array_equal(whole, quantised)
    assert np.abs(whole - quantised).max() <= BOUND + 1e-5
    with h5py.File(tmp_path / "quantised" / "vertices.h5", "r") as joined:
        assert np.array_equal(MeshFile(joined).mesh(6), quantised[6])
        assert "vertices" not in joined  # nobody takes the integers for pixels
    assert not verify_run(planned_run(tmp_path / "quantised")).faults


def test_error_rows_done_again_leave_the_other_meshes_as_they_are(
    photographs: Path, models: Path, tmp_path: Path
) -> None:
    inputs = shutil.copytree(photographs, tmp_path / "inputs")
    mended = sorted(inputs.iterdir())[1]
    data = mended.read_bytes()
    mended.write_bytes(b"no picture")
    options = {"model": "small", "models_dir": models, "vertices": "quantised"}
    before = ddfa_batch.process(inputs, tmp_path / "out", **options)
    ids = before.faces(columns=["face_id"])["face_id"].to_pylist()
    kept = before.vertices(ids)
    mended.write_bytes(data)
    after = ddfa_batch.process(inputs, tmp_path / "out", retry_failed=True, **options)
    assert after.faces().num_rows == len(ids) + 2
    assert np.array_equal(after.vertices(ids), kept)
    fresh = ddfa_batch.process(inputs, tmp_path / "fresh", **options)
    assert np.array_equal(after.vertices(), fresh.vertices())
