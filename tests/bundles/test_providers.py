"""What runs the networks: all give the same answers, and what is not installed is refused in a sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import ddfa_batch
from ddfa_batch.schemas.errors import BundleError, MissingPackageError, OptionError, RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.bundles.providers import open_session


def network(bundle: Bundle) -> bytes:
    return (bundle.folder / "regressor.onnx").read_bytes()


def test_openvino_answers_as_onnxruntime(bundle: Bundle) -> None:
    pytest.importorskip("openvino")
    ours, other = (open_session(network(bundle), "test", provider) for provider in ("cpu", "openvino"))
    name = ours.get_inputs()[0].name
    assert other.get_inputs()[0].name == name
    assert [o.name for o in other.get_outputs()] == [o.name for o in ours.get_outputs()]
    for n in (1, 8, 3):
        shape = (n, *ours.get_inputs()[0].shape[1:])
        feeds = {name: np.random.default_rng(n).normal(0, 0.5, shape).astype(np.float32)}
        for one, two in zip(ours.run(None, feeds), other.run(None, feeds), strict=True):
            assert np.abs(one - two).max() < 1e-2 * max(float(np.abs(one).max()), 1.0)  # bfloat16 where the CPU has AMX


def test_what_openvino_cannot_read_is_told(bundle: Bundle) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(BundleError, match="test is not a network OpenVINO can run"):
        open_session(b"nothing", "test", "openvino")


def test_openvino_that_is_not_installed_is_told(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match=r"^--provider openvino needs openvino, .*'ddfa-batch\[openvino\]'"):
        open_session(network(bundle), "test", "openvino")


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="CUDA is here")
def test_cuda_that_is_not_there_is_told_before_any_work(photos: Path, models: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="onnxruntime-gpu"):
        ddfa_batch.process(photos, tmp_path / "out", model="small", models_dir=models, provider="cuda")
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_run_keeps_to_its_provider(photos: Path, models: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    options = {"model": "small", "models_dir": models, "vertices": "none"}
    run = ddfa_batch.process(photos, tmp_path / "out", provider="openvino", **options)
    assert run.run.options["provider"] == "openvino"
    assert run.faces().num_rows == 19
    with pytest.raises(RunFolderError, match="provider"):
        ddfa_batch.process(photos, tmp_path / "out", **options)
