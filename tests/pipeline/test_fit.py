"""Landmark files to a run folder that reads like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pts_files import pts
from random_faces import MODEL, PRIOR, faces

import ddfa_batch
from ddfa_batch.pipeline import fit as steps
from ddfa_batch.pipeline import plan
from ddfa_batch.pipeline.fit import FITS, fit_landmarks
from ddfa_batch.pipeline.progress import Phase, Progress
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.pipeline.verification import verify_run
from ddfa_batch.schemas.errors import InputError, RunFolderError
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle, builtin_folder, load_bundle
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.prior import Prior


def labels(folder: Path, points: np.ndarray, keys: list[str]) -> Path:
    n = points.shape[1] * points.shape[2]
    rows = pa.FixedSizeListArray.from_arrays(pa.array(points.astype(float).ravel()), n)
    pq.write_table(pa.table({"key": keys, "landmarks": rows}), folder / "labels.parquet")
    return folder / "labels.parquet"


def test_a_fit_is_a_run(bundle: Bundle, tmp_path: Path) -> None:
    _, truth = faces(MODEL, PRIOR, 5, seed=0)
    points = truth[..., :2].copy()
    points[2] = np.nan
    path = labels(tmp_path, points, ["a.jpg", "b.jpg", "c.jpg", "a.jpg", "d.jpg"])
    outcome = fit_landmarks(path, tmp_path / "out", bundle)
    assert (outcome.n_faces, outcome.n_converged) == (5, 4)
    run = ddfa_batch.open(tmp_path / "out")
    assert run.complete
    found = run.faces().to_pydict()
    assert found["key"] == ["a.jpg", "a.jpg", "b.jpg", "d.jpg"]
    assert found["face_index"] == [0, 1, 0, 0]
    rebuilt = np.array(found["landmarks68"]).reshape(-1, 68, 3)[..., :2]
    np.testing.assert_allclose(rebuilt, truth[[0, 3, 1, 4], :, :2], atol=0.2)
    assert run.images().to_pydict()["status"] == ["ok", "ok", "no_face", "ok"]
    assert np.isfinite(run.vertices()).all()
    fits = pq.read_table(tmp_path / "out" / FITS).to_pydict()
    assert fits["converged"] == [True, True, False, True, True]
    assert fits["n_points"] == [68, 68, 0, 68, 68]


@pytest.mark.parametrize("points", [np.full((2, 68, 2), np.nan), np.zeros((2, 68, 2))], ids=["missing", "zero"])
def test_no_face_at_all_is_an_error_that_says_what_to_check(bundle: Bundle, tmp_path: Path, points: np.ndarray) -> None:
    path = labels(tmp_path, points, ["a", "b"])
    with pytest.raises(InputError, match=r"None of the 2 faces of .*labels\.parquet, 68 points of x, y each, .* check"):
        fit_landmarks(path, tmp_path / "out", bundle)
    _, truth = faces(MODEL, PRIOR, 2, seed=3)
    assert fit_landmarks(labels(tmp_path, truth, ["a", "b"]), tmp_path / "out", bundle).n_converged == 2


@pytest.mark.parametrize("n_axes", [2, 3])
def test_all_x_before_all_y_are_understood(tmp_path: Path, n_axes: int) -> None:
    real = load_bundle(builtin_folder())  # the small model's points are no contours, by which the order shows
    prior = Prior.of_params(np.array(real.manifest.param_mean), np.array(real.manifest.param_std))
    points = faces(load_morphable(real), prior, 3, seed=4)[1][..., :n_axes]
    fit_landmarks(labels(tmp_path, points, ["a", "b", "c"]), tmp_path / "turns", real)
    fit_landmarks(labels(tmp_path, points.transpose(0, 2, 1), ["a", "b", "c"]), tmp_path / "axes", real)
    turns, axes = (ddfa_batch.open(tmp_path / name).faces()["params"].to_pylist() for name in ("turns", "axes"))
    assert len(turns) == 3
    assert turns == axes


def test_a_bad_file_is_an_error_row(bundle: Bundle, tmp_path: Path) -> None:
    _, truth = faces(MODEL, PRIOR, 1, seed=1)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.pts").write_text(pts(truth[0, :, :2]))
    (tmp_path / "in/b.pts").write_text("nothing")
    fit_landmarks(tmp_path / "in", tmp_path / "out", bundle)
    images = ddfa_batch.open(tmp_path / "out").images().to_pydict()
    assert images["status"] == ["ok", "error"]
    assert "b.pts" in images["error_message"][1]


def test_twenty_one_points_will_do(bundle: Bundle, tmp_path: Path) -> None:
    from ddfa_batch.tasks.fitting.fit_basis import AFLW21

    _, truth = faces(MODEL, PRIOR, 3, seed=2)
    points = np.stack([truth[:, list(m), :2].mean(axis=1) if m else np.full((3, 2), np.nan) for m in AFLW21], axis=1)
    outcome = fit_landmarks(labels(tmp_path, points, ["a", "b", "c"]), tmp_path / "out", bundle)
    assert outcome.n_converged == 3
    assert outcome.residual < 0.01


def test_another_fit_in_the_folder_is_refused_by_name(bundle: Bundle, tmp_path: Path) -> None:
    _, truth = faces(MODEL, PRIOR, 1, seed=3)
    path = labels(tmp_path, truth, ["a"])
    fit_landmarks(path, tmp_path / "out", bundle)
    other = FitConfig(size=bundle.manifest.input_size, outline=True)
    with pytest.raises(RunFolderError, match=r"fit\.outline \(there False, asked for True\)"):
        fit_landmarks(path, tmp_path / "out", bundle, config=other)


def test_the_same_fit_again_changes_nothing(bundle: Bundle, tmp_path: Path) -> None:
    _, truth = faces(MODEL, PRIOR, 1, seed=3)
    path, out = labels(tmp_path, truth, ["a"]), tmp_path / "out"
    first = fit_landmarks(path, out, bundle)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file()}
    assert fit_landmarks(path, out, bundle) == replace(first, run=plan.read_run(out))
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("step", ["_fitted", "reconstruct", "write", "commit"])
def test_a_fit_that_was_interrupted_is_done_by_the_same_command(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    _, truth = faces(MODEL, PRIOR, 2, seed=3)
    path, out = labels(tmp_path, truth, ["a", "b"]), tmp_path / "out"

    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(steps, step, stops)
        fit_landmarks(path, out, bundle)
    assert fit_landmarks(path, out, bundle).n_converged == 2
    assert open_run(out).faces().num_rows == 2
    assert not list(out.rglob(".*"))


def test_damaged_residuals_of_a_fit_are_found_and_made_again(bundle: Bundle, tmp_path: Path) -> None:
    _, truth = faces(MODEL, PRIOR, 2, seed=3)
    path, out = labels(tmp_path, truth, ["a", "b"]), tmp_path / "out"
    fit_landmarks(path, out, bundle)
    whole = (out / "fits.parquet").read_bytes()
    (out / "fits.parquet").write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert verify_run(plan.read_run(out)).whole == ["fits.parquet has another checksum than seal.json says"]
    fit_landmarks(path, out, bundle)
    assert (out / "fits.parquet").read_bytes() == whole
    assert verify_run(plan.read_run(out)).faults == []


def test_a_fit_reports_its_progress(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_PART", 1)
    _, truth = faces(MODEL, PRIOR, 3, seed=3)
    told: list[Progress] = []
    fit_landmarks(labels(tmp_path, truth, ["a", "b", "c"]), tmp_path / "out", bundle, report=told.append)
    assert [p.images for p in told if p.phase is Phase.WORKING] == [0, 1, 2]
    assert (told[-1].phase, told[-1].images, told[-1].faces) == (Phase.DONE, 3, 3)


def test_pictures_give_keys_their_endings_and_the_run_its_root(bundle: Bundle, tmp_path: Path) -> None:
    _, truth = faces(MODEL, PRIOR, 3, seed=4)
    (tmp_path / "images/deep").mkdir(parents=True)
    for name in ("a.jpg", "deep/b.png"):
        (tmp_path / "images" / name).touch()
    path = labels(tmp_path, truth[..., :2], ["a", "deep/b.png", "gone"])
    outcome = fit_landmarks(path, tmp_path / "out", bundle, tmp_path / "images")
    assert outcome.n_converged == 2
    run = ddfa_batch.open(tmp_path / "out")
    assert Path(run.run.root) == (tmp_path / "images").resolve()
    assert run.images().to_pydict()["key"] == ["a.jpg", "deep/b.png", "gone"]
    assert "no picture 'gone'" in run.images().to_pydict()["error_message"][2]


def test_a_folder_without_any_of_the_pictures_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    _, truth = faces(MODEL, PRIOR, 1, seed=5)
    path = labels(tmp_path, truth, ["a"])
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="none of the pictures"):
        fit_landmarks(path, tmp_path / "out", bundle, tmp_path / "images")
    with pytest.raises(InputError, match="is no folder"):
        fit_landmarks(path, tmp_path / "out", bundle, tmp_path / "elsewhere")


def test_a_fit_keeps_what_it_was_fitted_to(bundle: Bundle, tmp_path: Path) -> None:
    _, truth = faces(MODEL, PRIOR, 3, seed=6)
    points = truth[..., :2].copy()
    points[0, 5] = np.nan
    points[1] = np.nan
    fit_landmarks(labels(tmp_path, points, ["a", "a", "a"]), tmp_path / "out", bundle)
    fits = pq.read_table(tmp_path / "out" / FITS).to_pydict()
    assert fits["face_index"] == [0, None, 1]
    np.testing.assert_allclose(np.array(fits["labels"]).reshape(3, 68, 2), points, atol=1e-4)
    assert np.array(fits["weights"])[0].tolist() == [1.0] * 5 + [0.0] + [1.0] * 62


def test_a_fit_says_how_it_was_done(bundle: Bundle, tmp_path: Path) -> None:
    _, truth = faces(MODEL, PRIOR, 1, seed=7)
    path = labels(tmp_path, truth, ["a"])
    fit_landmarks(path, tmp_path / "out", bundle, config=FitConfig(outline=True))
    assert ddfa_batch.open(tmp_path / "out").run.identity["fit"]["outline"] is True
