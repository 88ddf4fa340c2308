"""68 points by bins of yaw."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled_run import OFFSET, centred, table

from ddfa_batch.pipeline.evaluate import EvaluationRequest, evaluate
from ddfa_batch.pipeline.results import Results
from ddfa_batch.tasks.evaluation import landmark_errors
from ddfa_batch.tasks.geometry.boxes import labelled_sizes


def test_an_offset_is_the_error_and_what_is_missing_is_counted(photo_run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(photo_run)
    yaw = np.linspace(0, 80, len(keys) + 1)
    given = [*(Path(key).stem for key in keys), "002"]  # no face is found in 002
    truth = np.concatenate([landmarks[..., :2] - [3, 4], landmarks[:1, :, :2]])
    one = table(tmp_path / "original.parquet", given, truth, yaw=yaw)
    two = table(tmp_path / "again.parquet", given[::-1], truth[::-1] - [0.0, 4])
    done = evaluate(EvaluationRequest("aflw2000-3d", (one, two), tmp_path / "scores", run=photo_run.path))
    assert (done.n_labelled, done.n_found) == (len(keys) + 1, len(keys))
    expected = 100 * 5 / labelled_sizes(landmarks)
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
    assert cv2.imread(str(tmp_path / "scores/worst.png")).std() > 5
    assert (tmp_path / "scores/curve.svg").read_text().count("<polyline") == len(done.scores)
    summary = json.loads((tmp_path / "scores/summary.json").read_text())
    assert summary["normaliser"].startswith("√(w·h)")
    assert summary["scores"][0]["mean"] == done.scores[0].mean


def test_an_answer_with_a_number_that_is_none_was_not_found(photo_run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(photo_run)
    copy = Path(shutil.copytree(photo_run.path, tmp_path / "run"))
    for file in sorted((copy / "faces").glob("*.parquet")):
        faces = pq.read_table(file)
        params = np.stack(faces["params"].to_numpy()).copy()
        params[np.array(faces["key"].to_pylist()) == keys[0], 3] = np.nan
        column = pa.FixedSizeListArray.from_arrays(params.ravel(), params.shape[1])
        pq.write_table(faces.set_column(faces.column_names.index("params"), "params", column), file)
    labels = table(tmp_path / "l.parquet", keys, landmarks[..., :2] + OFFSET, yaw=np.zeros(len(keys)))
    done = evaluate(EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "scores", run=copy))
    assert (done.n_found, done.scores[0].n_faces) == (len(keys) - 1, len(keys) - 1)
    assert done.scores[0].mean == pytest.approx(np.mean(500 / labelled_sizes(landmarks[1:])), rel=1e-3)


def test_without_yaws_they_are_those_of_a_fit(photo_run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(photo_run)
    labels = table(tmp_path / "l.parquet", keys, landmarks)
    done = evaluate(EvaluationRequest("aflw2000-3d", (labels,), tmp_path / "o", run=photo_run.path))
    found = pq.read_table(tmp_path / "o/faces.parquet")["yaw"].to_numpy()
    answered = photo_run.faces(columns=["key", "face_index", "yaw"]).to_pandas().query("face_index == 0")
    np.testing.assert_allclose(found, answered.set_index("key").yaw[keys], atol=6)
    assert done.scores[0].mean_of_bins is not None
