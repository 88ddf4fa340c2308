"""All vertices of labelled parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled_run import centred

from ddfa_batch.pipeline.evaluate import EvaluationRequest, evaluate
from ddfa_batch.pipeline.results import Results
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.evaluation import landmark_errors
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points


def test_a_run_against_itself_has_no_dense_error(photo_run: Results, tmp_path: Path) -> None:
    done = evaluate(EvaluationRequest("aflw2000-3d-dense", (photo_run.path,), tmp_path / "scores", run=photo_run.path))
    errors = pq.read_table(tmp_path / "scores/faces.parquet").column("nme_out").to_pylist()
    assert done.n_found > 3
    assert sorted(e for e in errors if e is not None)[2] == pytest.approx(0, abs=1e-4)


def test_dense_errors_are_those_of_the_meshes(photo_run: Results, bundle: Bundle, tmp_path: Path) -> None:
    keys, _ = centred(photo_run)
    faces = photo_run.faces(columns=["key", "face_index", "face_id", "params", "roi"]).to_pandas()
    faces = faces[faces.face_index == 0].set_index("key").loc[keys]
    params = np.stack(faces.params) + np.random.default_rng(0).normal(size=(len(keys), 62)) * 0.01
    rois = np.stack(faces.roi)
    columns = {
        "params": pa.FixedSizeListArray.from_arrays(params.astype(np.float32).ravel(), 62),
        "roi": pa.FixedSizeListArray.from_arrays(rois.ravel(), 4),
    }
    labels = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"key": keys, **columns}), labels)
    evaluate(EvaluationRequest("aflw2000-3d-dense", (labels,), tmp_path / "scores", run=photo_run.path))
    found = pq.read_table(tmp_path / "scores/faces.parquet").to_pandas().set_index("key").nme_labels
    truth = points(PointBasis.of(load_morphable(bundle)), params.astype(np.float32), rois, 120)
    expected = landmark_errors.nme_3d(photo_run.vertices(faces.face_id.tolist()), truth)
    np.testing.assert_allclose(found[keys], expected, rtol=1e-3)
