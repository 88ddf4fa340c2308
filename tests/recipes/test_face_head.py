"""The head that tells faces from what is none: what it learns, and that the exported network says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_training import CONFIG, MEAN, NET, STD  # noqa: E402
from training_faces import MODEL, STILLS  # noqa: E402

from ddfa_batch.schemas.errors import ShapeError, TrainingError  # noqa: E402
from ddfa_batch.tasks.bundles.loaded_model import loaded_model  # noqa: E402
from ddfa_batch.tasks.inference.regressor import Regressor, combined_scores, log_odds  # noqa: E402
from ddfa_batch.tasks.training import export, mini_batches, options, state  # noqa: E402
from ddfa_batch.tasks.training.export import FaceHead  # noqa: E402
from ddfa_batch.tasks.training.tensor_batch import TensorBatch  # noqa: E402
from recipes.builtin.face_head import fit_face_head  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def boxes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of which two tell something, a detector that tells something else, and the truth."""
    rng = np.random.default_rng(seed)
    features, odds = rng.normal(3, 2, (n, 20)), rng.normal(0, 1.5, n)
    truth = features[:, 0] - features[:, 1] + odds + rng.logistic(0, 0.5, n) > 0
    return features, odds, truth


def test_it_tells_faces_better_than_the_detector_alone() -> None:
    head = fit_face_head(*boxes(3000, 0))
    features, odds, truth = boxes(3000, 1)
    together = ((head(features, odds) > 0) == truth).mean()
    assert together > 0.9
    assert ((odds > 0) == truth).mean() < together - 0.15
    assert np.abs(head.weight[2:]).max() < 0.2 * np.abs(head.weight[:2]).min()
    # Its odds are honest: of what it calls a face at 70 to 90 %, about so many are.
    share = 1 / (1 + np.exp(-head(features, odds)))
    some = (share > 0.7) & (share < 0.9)
    assert truth[some].mean() == pytest.approx(share[some].mean(), abs=0.1)


def test_a_detector_that_is_always_wrong_is_not_believed_backwards() -> None:
    features, odds, truth = boxes(500, 0)
    assert fit_face_head(features, -np.abs(odds) * np.where(truth, 1, -1), truth).trust == 0


def test_one_kind_alone_cannot_be_told_apart() -> None:
    features, odds, truth = boxes(50, 0)
    for wrong in (np.zeros_like(truth), np.ones_like(truth)):
        with pytest.raises(TrainingError, match="boxes on faces and boxes on what is none"):
            fit_face_head(features, odds, wrong)
    with pytest.raises(ShapeError, match="detector_odds"):
        fit_face_head(features, odds[:-1], truth)


def test_the_bundle_tells_what_the_head_tells(tmp_path: Path) -> None:
    training = state.start(NET, CONFIG, MEAN, STD)
    rng = np.random.default_rng(0)
    n_features = NET.channels[-1]
    head = FaceHead(rng.normal(size=n_features).astype(np.float32), 0.3, 0.8)
    origin = export.Origin("tells", "1", "MIT", "made by the tests")
    made = [
        export.to_bundle(training, MODEL, origin, export.Detectors.none(), tmp_path / name, face)
        for name, face in (("with", head), ("without", None))
    ]
    crops = mini_batches.make_batch(STILLS, np.arange(6), CONFIG.sampling, options.Augmentation(), [3])
    tells, silent = (Regressor(loaded_model(str(b.folder), b.digest).regressor, b.manifest) for b in made)
    assert (tells.tells_faces, silent.tells_faces) == (True, False)
    params, face = tells.with_faces(crops.images)
    np.testing.assert_array_equal(params, silent(crops.images))
    np.testing.assert_array_equal(params, tells(crops.images))
    with torch.no_grad():
        features = training.net.eval().features(TensorBatch.of(crops, "cpu").crops).numpy()
    np.testing.assert_allclose(face, head(features, np.zeros(len(features))), rtol=1e-4, atol=1e-4)
    scores = np.linspace(0, 1, len(face)).astype(np.float32)
    expected = 1 / (1 + np.exp(-head(features, log_odds(scores))))
    np.testing.assert_allclose(combined_scores(scores, face, head.trust), expected, rtol=1e-3, atol=1e-6)
    assert len(tells.with_faces(crops.images[:0])[1]) == 0


def test_scores_stay_scores() -> None:
    face = np.array([-1e9, -3, 0, 3, 1e9, np.nan], np.float32)
    for score in (0.0, 0.5, 1.0):
        found = combined_scores(np.full(6, score, np.float32), face, 1.0)
        assert ((found[:5] >= 0) & (found[:5] <= 1)).all()
        assert (np.diff(found[:5]) >= 0).all()
        assert not found[5] > 0  # what is no number is no face
    assert combined_scores(np.float32([0.3]), np.float32([0]), 1.0)[0] == pytest.approx(0.3)
