"""`evaluate`: labels that are a known distance from a run's own answers give errors known in advance."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from clip_requests import clip_request as asked
from conftest import wanted

from ddfa_batch import cli
from ddfa_batch.pipeline.evaluate import EvaluationRequest, evaluate
from ddfa_batch.pipeline.evaluation.protocols.aflw import AUTHORS_21
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.pipeline.synthesize import synthesize
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import DdfaError, InputError
from ddfa_batch.tasks.bundles.model_bundle import Bundle, load_morphable, loaded_model
from ddfa_batch.tasks.evaluation import landmark_errors
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points
from ddfa_batch.tasks.inference.regressor import Regressor

HERE = Execution("in-process")
OFFSET = np.array([3.0, 4.0])


@pytest.fixture(scope="module")
def run(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("run") / "out"
    process(wanted(photos, out, bundle, vertices="none"), HERE)
    return open_run(out)


@pytest.fixture(scope="module")
def clips(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("clips") / "out"
    synthesize(asked(photos, out, bundle, size=120), HERE)
    return open_run(out)


def centred(run: Results) -> tuple[list[str], np.ndarray]:
    """Key and landmarks (n, 68, 3) of pictures with one face, where the landmarks' middle lies within their own box."""
    faces = run.faces(columns=["key", "box", "landmarks68"]).to_pandas()
    faces = faces[~faces.key.duplicated(keep=False)]
    landmarks, boxes = np.stack(faces.landmarks68).reshape(-1, 68, 3).astype(float), np.stack(faces.box)
    middle = landmarks[..., :2].mean(axis=1)
    inside = ((boxes[:, :2] < middle - 6) & (middle + 6 < boxes[:, 2:])).all(axis=1)
    assert inside.sum() >= 3
    return faces.key[inside].tolist(), landmarks[inside]


def flat(rows: np.ndarray) -> pa.Array:
    """Points (n, L, D) as a column of lists."""
    return pa.FixedSizeListArray.from_arrays(rows.astype(np.float64).ravel(), rows.shape[1] * rows.shape[2])


def table(path: Path, keys: list[str], labels: np.ndarray, name: str = "pts68", **more: object) -> Path:
    pq.write_table(pa.table({"key": keys, name: flat(labels), **more}), path)
    return path


def test_an_offset_is_the_error_and_what_is_missing_is_counted(run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(run)
    yaw = np.linspace(0, 80, len(keys) + 1)
    given = [*(Path(key).stem for key in keys), "002"]  # no face is found in 002
    truth = np.concatenate([landmarks[..., :2] - [3, 4], landmarks[:1, :, :2]])
    one = table(tmp_path / "original.parquet", given, truth, yaw=yaw)
    two = table(tmp_path / "again.parquet", given[::-1], truth[::-1] - [0.0, 4])
    done = evaluate(EvaluationRequest("aflw2000-3d", (one, two), tmp_path / "scores", run=run.path))
    assert (done.n_labelled, done.n_found) == (len(keys) + 1, len(keys))
    expected = 100 * 5 / landmark_errors.box_size(landmarks)
    assert [score.labels for score in done.scores] == ["original", "again"]
    assert done.scores[0].mean == pytest.approx(expected.mean(), rel=1e-4)
    assert done.scores[1].mean == pytest.approx((expected * np.hypot(3, 8) / 5).mean(), rel=1e-4)
    means = landmark_errors.mean_by_yaw(expected, yaw[:-1])
    bins = [None if np.isnan(mean) else pytest.approx(mean, rel=1e-4) for mean in means]
    assert list(done.scores[0].bins or ()) == bins
    faces = pq.read_table(tmp_path / "scores/faces.parquet").to_pydict()
    assert faces["found"] == [True] * len(keys) + [False]
    assert faces["nme_original"][-1] is None
    assert faces["nme_original"][:-1] == pytest.approx(expected, rel=1e-4)
    for name in ("curve.png", "worst.png"):
        assert cv2.imread(str(tmp_path / "scores" / name)).std() > 5
    summary = json.loads((tmp_path / "scores/summary.json").read_text())
    assert summary["normaliser"].startswith("√(w·h)")
    assert summary["scores"][0]["mean"] == done.scores[0].mean


def points21(landmarks: np.ndarray) -> np.ndarray:
    """AFLW's 21 points (n, 21, 2) that the answers' 68 make by the authors' table, moved by `OFFSET`."""
    return np.stack([landmarks[:, list(group), :2].mean(axis=1) for group in AUTHORS_21], axis=1) + OFFSET


def test_labelled_points_of_the_twenty_one_count_over_the_size_of_the_sixty_eight(run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(run)
    truth = points21(landmarks)
    truth[:, :5] = np.nan
    whole = flat(landmarks[..., :2])
    labels = table(tmp_path / "aflw.parquet", keys, truth, "pts21", pts68=whole, yaw=np.zeros(len(keys)))
    done = evaluate(EvaluationRequest("aflw", (labels,), tmp_path / "scores", run=run.path))
    assert done.scores[0].mean == pytest.approx(np.mean(500 / landmark_errors.box_size(landmarks)), rel=1e-4)
    assert "68" in done.normaliser


@pytest.mark.parametrize("hidden", [0, 12])
def test_a_fit_tells_the_size_of_the_sixty_eight_where_they_are_not_labelled(
    run: Results, tmp_path: Path, hidden: int
) -> None:
    keys, landmarks = centred(run)
    beside = landmarks[..., :2].copy()
    beside[:, :hidden] = np.nan
    more = {"pts68": flat(beside)} if hidden else {}
    labels = table(tmp_path / "aflw.parquet", keys, points21(landmarks), "pts21", **more)
    evaluate(EvaluationRequest("aflw", (labels,), tmp_path / "scores", run=run.path))
    sizes = pq.read_table(tmp_path / "scores/faces.parquet")["normaliser_px"].to_numpy()
    np.testing.assert_allclose(sizes, landmark_errors.box_size(landmarks), rtol=0.15 if hidden else 0.35)


def test_a_face_with_only_an_ear_labelled_is_not_measured_and_the_others_are(run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(run)
    truth = points21(landmarks)
    truth[0, [i for i in range(21) if i != 12]] = np.nan
    labels = table(tmp_path / "aflw.parquet", keys, truth, "pts21")
    done = evaluate(EvaluationRequest("aflw", (labels,), tmp_path / "scores", run=run.path))
    assert done.n_labelled == len(keys)
    assert done.scores[0].n_faces == len(keys) - 1
    errors = pq.read_table(tmp_path / "scores/faces.parquet")["nme_aflw"].to_pylist()
    assert [error is None for error in errors] == [True] + [False] * (len(keys) - 1)


def test_an_answer_with_a_number_that_is_none_was_not_found(run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(run)
    copy = Path(shutil.copytree(run.path, tmp_path / "run"))
    for file in sorted((copy / "faces").glob("*.parquet")):
        faces = pq.read_table(file)
        params = np.stack(faces["params"].to_numpy()).copy()
        params[np.array(faces["key"].to_pylist()) == keys[0], 3] = np.nan
        column = pa.FixedSizeListArray.from_arrays(params.ravel(), params.shape[1])
        pq.write_table(faces.set_column(faces.column_names.index("params"), "params", column), file)
    labels = table(tmp_path / "l.parquet", keys, landmarks[..., :2] + OFFSET, yaw=np.zeros(len(keys)))
    done = evaluate(EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "scores", run=copy))
    assert (done.n_found, done.scores[0].n_faces) == (len(keys) - 1, len(keys) - 1)
    assert done.scores[0].mean == pytest.approx(np.mean(500 / landmark_errors.box_size(landmarks[1:])), rel=1e-3)


def test_without_yaws_they_are_those_of_a_fit(run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(run)
    labels = table(tmp_path / "l.parquet", keys, landmarks)
    done = evaluate(EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "o", run=run.path))
    found = pq.read_table(tmp_path / "o/faces.parquet")["yaw"].to_numpy()
    answered = run.faces(columns=["key", "face_index", "yaw"]).to_pandas().query("face_index == 0").set_index("key").yaw
    np.testing.assert_allclose(found, answered[keys], atol=6)
    assert done.scores[0].mean_of_bins is not None


def test_a_run_against_itself_has_no_dense_error(run: Results, tmp_path: Path) -> None:
    done = evaluate(EvaluationRequest("aflw2000-3d-dense", (run.path,), tmp_path / "scores", run=run.path))
    errors = pq.read_table(tmp_path / "scores/faces.parquet").column("nme_out").to_pylist()
    assert done.n_found > 3
    assert sorted(e for e in errors if e is not None)[2] == pytest.approx(0, abs=1e-4)


def test_dense_errors_are_those_of_the_meshes(run: Results, bundle: Bundle, tmp_path: Path) -> None:
    keys, _ = centred(run)
    faces = run.faces(columns=["key", "face_index", "face_id", "params", "roi"]).to_pandas().query("face_index == 0")
    faces = faces.set_index("key").loc[keys]
    params = np.stack(faces.params) + np.random.default_rng(0).normal(size=(len(keys), 62)) * 0.01
    rois = np.stack(faces.roi)
    labels = pa.table({
        "key": keys, "params": pa.FixedSizeListArray.from_arrays(params.astype(np.float32).ravel(), 62),
        "roi": pa.FixedSizeListArray.from_arrays(rois.ravel(), 4),
    })  # fmt: skip
    pq.write_table(labels, tmp_path / "labels.parquet")
    evaluate(EvaluationRequest("aflw2000-3d-dense", (tmp_path / "labels.parquet",), tmp_path / "scores", run=run.path))
    found = pq.read_table(tmp_path / "scores/faces.parquet").to_pandas().set_index("key").nme_labels
    truth = points(PointBasis.of(load_morphable(bundle)), params.astype(np.float32), rois, 120)
    expected = landmark_errors.nme_3d(run.vertices(faces.face_id.tolist()), truth)
    np.testing.assert_allclose(found[keys], expected, rtol=1e-3)


def test_scans_are_named_as_their_pictures(run: Results, bundle: Bundle, tmp_path: Path) -> None:
    model = load_morphable(bundle)
    faces = run.faces(columns=["key", "face_index", "params"]).to_pandas().query("face_index == 0")
    (tmp_path / "scans").mkdir()
    for key, params in list(zip(faces.key, faces.params, strict=True))[:2]:
        shape = model.mean + np.tensordot(params[12:], model.basis, axes=1)
        np.savez(tmp_path / "scans" / f"{Path(key).stem}.npz", vertices=shape * 0.001 + 5)
    done = evaluate(EvaluationRequest("florence", (tmp_path / "scans",), tmp_path / "scores", run=run.path))
    assert done.n_found == 2
    assert done.scores[0].mean < 1
    assert "worst.png" not in done.files
    assert "interocular" in done.normaliser


def test_videos_are_measured_frame_by_frame_and_between_frames(clips: Results, bundle: Bundle, tmp_path: Path) -> None:
    done = evaluate(EvaluationRequest("video", (clips.path,), tmp_path / "scores", bundle=bundle))
    loaded = loaded_model(str(bundle.folder), bundle.digest)
    regress, basis = (
        Regressor(loaded.regressor, bundle.manifest),
        PointBasis.of(loaded.morphable, loaded.morphable.landmarks),
    )
    errors, moved = [], []
    frames = clips.frames(columns=["clip_id", "frame", "landmarks68"]).to_pandas()
    for clip_id, rows in frames.groupby("clip_id"):
        truth = np.stack(rows.sort_values("frame").landmarks68).reshape(-1, 68, 3)
        rois = crop.roi_from_landmarks(truth)
        crops = [crop.crop(p, roi, 120) for p, roi in zip(clips.clip(int(clip_id)), rois, strict=True)]
        found = points(basis, regress(np.stack(crops)), rois, 120)
        errors += landmark_errors.nme(found, truth).tolist()
        moved += landmark_errors.stability(found, truth).tolist()
    assert done.n_found == len(errors)
    assert done.scores[0].mean == pytest.approx(np.mean(errors), rel=1e-3)
    assert done.scores[0].stability == pytest.approx(np.mean(moved), rel=1e-3)


def test_refinement_looks_again_around_its_own_points(
    photos: Path, run: Results, bundle: Bundle, tmp_path: Path
) -> None:
    keys, landmarks = centred(run)
    labels = table(tmp_path / "l.parquet", keys, landmarks, yaw=np.zeros(len(keys)))
    once = EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "once", bundle=bundle, images=photos)
    twice = replace(once, out=tmp_path / "twice", refine=1)
    assert evaluate(once).scores[0].mean != evaluate(twice).scores[0].mean


@pytest.mark.parametrize(
    ("protocol", "n", "said"),
    [
        ("aflw", 68, "aflw takes 21"),
        ("aflw2000-3d", 21, "aflw2000-3d takes 68"),
        ("video", 21, "video takes 68"),
        ("florence", 68, "no folder"),
    ],
)
def test_labels_of_another_protocol_are_refused(run: Results, tmp_path: Path, protocol: str, n: int, said: str) -> None:
    labels = table(tmp_path / "l.parquet", ["000.png"], np.ones((1, n, 2)), f"pts{n}")
    with pytest.raises(DdfaError, match=said):
        evaluate(EvaluationRequest(protocol, (labels,), tmp_path / "o", run=run.path))
    assert not (tmp_path / "o").exists()


def test_labels_of_other_pictures_are_refused(run: Results, tmp_path: Path) -> None:
    labels = table(tmp_path / "l.parquet", ["elsewhere.png"], np.random.default_rng(0).uniform(0, 99, (1, 68, 2)))
    with pytest.raises(InputError, match="None of the 1 labelled faces"):
        evaluate(EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "o", run=run.path))
    (tmp_path / "sub").mkdir()
    twin = table(tmp_path / "sub/l.parquet", ["a"], np.ones((1, 68, 2)))
    with pytest.raises(InputError, match="told apart"):
        evaluate(EvaluationRequest("aflw2000-3d", (labels, twin), tmp_path / "o", run=run.path))
    other = table(tmp_path / "m.parquet", ["a"], np.ones((1, 68, 2)))
    with pytest.raises(InputError, match=r"'elsewhere\.png'"):
        evaluate(EvaluationRequest("aflw2000-3d", (labels, other), tmp_path / "o", run=run.path))


def test_the_command_prints_a_table(run: Results, photos: Path, models: Path, tmp_path: Path) -> None:
    keys, landmarks = centred(run)
    labels = table(tmp_path / "truth.parquet", keys, landmarks, yaw=np.zeros(len(keys)))
    said = CliRunner().invoke(cli.cli, ["evaluate", str(labels), str(tmp_path / "o"), "--run", str(run.path)])
    assert said.exit_code == 0, said.output
    assert "0–30°" in said.output
    assert f"{len(keys)} of {len(keys)} faces found" in said.output
    misuse = CliRunner().invoke(cli.cli, ["evaluate", str(labels), str(tmp_path / "p")])
    assert misuse.exit_code == 2
    assert "--run" in misuse.output
