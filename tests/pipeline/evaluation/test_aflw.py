"""AFLW's 21 points by the authors' protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from labelled_run import OFFSET, centred, flat, table

from ddfa_batch.pipeline.evaluate import EvaluationRequest, evaluate
from ddfa_batch.pipeline.evaluation.protocols.aflw import AUTHORS_21
from ddfa_batch.pipeline.results import Results
from ddfa_batch.tasks.geometry.boxes import labelled_sizes


def points21(landmarks: np.ndarray) -> np.ndarray:
    """AFLW's 21 points (n, 21, 2) that the answers' 68 make by the authors' table, moved by `OFFSET`."""
    return np.stack([landmarks[:, list(group), :2].mean(axis=1) for group in AUTHORS_21], axis=1) + OFFSET


def test_labelled_points_count_over_the_size_of_all_sixty_eight(photo_run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(photo_run)
    truth = points21(landmarks)
    truth[:, :5] = np.nan
    whole = flat(landmarks[..., :2])
    labels = table(tmp_path / "aflw.parquet", keys, truth, "pts21", pts68=whole, yaw=np.zeros(len(keys)))
    done = evaluate(EvaluationRequest("aflw", (labels,), tmp_path / "scores", run=photo_run.path))
    assert done.scores[0].mean == pytest.approx(np.mean(500 / labelled_sizes(landmarks)), rel=1e-4)
    assert "68" in done.normaliser


@pytest.mark.parametrize("hidden", [0, 12])
def test_a_fit_tells_the_size_of_the_sixty_eight_where_they_are_not_labelled(
    photo_run: Results, tmp_path: Path, hidden: int
) -> None:
    keys, landmarks = centred(photo_run)
    beside = landmarks[..., :2].copy()
    beside[:, :hidden] = np.nan
    more = {"pts68": flat(beside)} if hidden else {}
    labels = table(tmp_path / "aflw.parquet", keys, points21(landmarks), "pts21", **more)
    evaluate(EvaluationRequest("aflw", (labels,), tmp_path / "scores", run=photo_run.path))
    sizes = pq.read_table(tmp_path / "scores/faces.parquet")["normaliser_px"].to_numpy()
    np.testing.assert_allclose(sizes, labelled_sizes(landmarks), rtol=0.15 if hidden else 0.35)


def test_a_face_with_only_an_ear_is_not_measured_and_the_others_are(photo_run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(photo_run)
    truth = points21(landmarks)
    truth[0, [i for i in range(21) if i != 12]] = np.nan
    labels = table(tmp_path / "aflw.parquet", keys, truth, "pts21")
    done = evaluate(EvaluationRequest("aflw", (labels,), tmp_path / "scores", run=photo_run.path))
    assert done.n_labelled == len(keys)
    assert done.scores[0].n_faces == len(keys) - 1
    errors = pq.read_table(tmp_path / "scores/faces.parquet")["nme_aflw"].to_pylist()
    assert [error is None for error in errors] == [True] + [False] * (len(keys) - 1)
