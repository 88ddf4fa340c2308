"""A trained net becomes a bundle that `process` takes and that answers as the net does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
import small_model
from conftest import wanted

torch = pytest.importorskip("torch")

from small_training import CONFIG, MEAN, NET, SPACE, STD  # noqa: E402
from training_faces import MODEL, STILLS  # noqa: E402

from ddfa_batch.pipeline.process import process  # noqa: E402
from ddfa_batch.schemas.config import Execution  # noqa: E402
from ddfa_batch.schemas.errors import ShapeError, TrainingError  # noqa: E402
from ddfa_batch.tasks.bundles.loaded_model import load_morphable, loaded_model  # noqa: E402
from ddfa_batch.tasks.bundles.model_bundle import Bundle  # noqa: E402
from ddfa_batch.tasks.inference.regressor import Regressor  # noqa: E402
from ddfa_batch.tasks.training import architectures, export, meta_joint, mini_batches, options, state  # noqa: E402
from ddfa_batch.tasks.training.tensor_batch import TensorBatch  # noqa: E402

NAMES = tuple(f"expression_{i}" for i in range(MODEL.layout.n_expression))
ORIGIN = export.Origin("trained", "1", "MIT", "made by the tests", NAMES)


@pytest.fixture(scope="module", params=architectures.KINDS)
def training(request: pytest.FixtureRequest) -> state.TrainingState:
    before = state.start(replace(NET, kind=request.param), CONFIG, MEAN, STD)
    return meta_joint.run(before, STILLS, SPACE)


def test_the_bundle_answers_as_the_net(training: state.TrainingState, tmp_path: Path) -> None:
    bundle = export.to_bundle(training, MODEL, ORIGIN, export.Detectors.none(), tmp_path / "trained")
    model = loaded_model(str(bundle.folder), bundle.digest)
    batch = mini_batches.make_batch(STILLS, np.arange(6), CONFIG.sampling, options.Augmentation(), [3])
    found = Regressor(model.regressor, bundle.manifest)(batch.images)
    with torch.no_grad():
        z = training.net.eval()(TensorBatch.of(batch, "cpu").crops)[0]
    np.testing.assert_allclose((found - MEAN) / STD, z.numpy(), atol=1e-4)
    np.testing.assert_array_equal(load_morphable(bundle).mean, MODEL.mean)
    assert bundle.manifest.expression_names == NAMES


def test_process_takes_the_bundle(training: state.TrainingState, bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    detectors = export.Detectors.of_bundle(bundle)
    trained = export.to_bundle(training, MODEL, ORIGIN, detectors, tmp_path / "trained")
    process(wanted(photos, tmp_path / "out", trained), Execution("in-process"))
    faces = ds.dataset(tmp_path / "out" / "faces").to_table()
    assert faces.num_rows == 19
    assert np.isfinite(np.array(faces["params"].to_pylist())).all()


def test_a_network_that_tells_no_faces_leaves_that_to_the_detectors(bundle: Bundle) -> None:
    specs = bundle.manifest.detectors
    trusting = {name: replace(spec, detector_weight=2.0, face_score=0.8) for name, spec in specs.items()}
    asked = Bundle(bundle.folder, replace(bundle.manifest, detectors=trusting), bundle.digest)
    (before,), (after,) = trusting.values(), export.Detectors.of_bundle(asked).specs.values()
    assert (before.face_threshold, after.face_threshold) == (0.8, before.score_threshold)


def test_a_graph_that_differs_is_not_written(training: state.TrainingState, monkeypatch: pytest.MonkeyPatch) -> None:
    other = state.start(training.architecture, replace(CONFIG, seed=9), MEAN, STD).net
    monkeypatch.setattr(export, "weights_in_use", lambda _: architectures.weights_in_use(other))
    with pytest.raises(TrainingError, match="differs"):
        export.to_onnx(training.net, 32)


def test_another_face_model_is_refused(training: state.TrainingState, tmp_path: Path) -> None:
    head = small_model.head()
    smaller = replace(head, basis=head.basis[:49])
    with pytest.raises(ShapeError, match="61"):
        export.to_bundle(training, smaller, ORIGIN, export.Detectors.none(), tmp_path / "trained")
