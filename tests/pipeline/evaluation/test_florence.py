"""Shapes against scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddfa_batch.pipeline.evaluate import EvaluationRequest, evaluate
from ddfa_batch.pipeline.results import Results
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle


def test_scans_are_named_as_their_pictures(photo_run: Results, bundle: Bundle, tmp_path: Path) -> None:
    model = load_morphable(bundle)
    faces = photo_run.faces(columns=["key", "face_index", "params"]).to_pandas().query("face_index == 0")
    (tmp_path / "scans").mkdir()
    for key, params in list(zip(faces.key, faces.params, strict=True))[:2]:
        shape = model.mean + np.tensordot(params[12:], model.basis, axes=1)
        np.savez(tmp_path / "scans" / f"{Path(key).stem}.npz", vertices=shape * 0.001 + 5)
    done = evaluate(EvaluationRequest("florence", (tmp_path / "scans",), tmp_path / "scores", run=photo_run.path))
    assert done.n_found == 2
    assert done.scores[0].mean < 1
    assert "worst.png" not in done.files
    assert "interocular" in done.normaliser


def test_a_model_cannot_be_shown_a_scan(photo_run: Results, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    np.savez(tmp_path / "scans/a.npz", vertices=np.random.default_rng(0).normal(size=(200, 3)))
    request = EvaluationRequest("florence", (tmp_path / "scans",), tmp_path / "o", bundle=bundle, images=tmp_path)
    with pytest.raises(InputError, match="no rois"):
        evaluate(request)


def test_a_scan_that_is_no_face_is_named(photo_run: Results, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    np.savez(tmp_path / "scans/000.npz", vertices=np.random.default_rng(0).normal(size=(20, 3)))
    with pytest.raises(InputError, match=r"000\.npz.*100 finite points"):
        evaluate(EvaluationRequest("florence", (tmp_path / "scans",), tmp_path / "o", run=photo_run.path))


def test_a_folder_without_scans_is_refused(photo_run: Results, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    with pytest.raises(InputError, match="holds no scans"):
        evaluate(EvaluationRequest("florence", (tmp_path / "scans",), tmp_path / "o", run=photo_run.path))
