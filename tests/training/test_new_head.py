"""A head fitted anew to the features of a net: what the least squares find, and what stays."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_training import CONFIG, MEAN, STD, begin  # noqa: E402
from training_faces import STILLS  # noqa: E402

from ddfa_batch.tasks.training import mini_batches  # noqa: E402
from ddfa_batch.tasks.training.mini_batches import MiniBatch  # noqa: E402
from ddfa_batch.tasks.training.new_head import ridge, with_new_head  # noqa: E402
from ddfa_batch.tasks.training.options import Augmentation  # noqa: E402
from ddfa_batch.tasks.training.tensor_batch import TensorBatch  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_linear_relation_is_found_with_its_constant() -> None:
    rng = np.random.default_rng(0)
    x, matrix, constant = rng.normal(size=(5000, 6)) + 3, rng.normal(size=(6, 3)), rng.normal(size=3)
    weight, bias = ridge(x, x @ matrix + constant)
    np.testing.assert_allclose(weight, matrix, atol=0.05)
    np.testing.assert_allclose(bias, constant, atol=0.2)


def test_parameters_that_are_linear_in_the_features_are_answered_and_the_backbone_stays() -> None:
    """Labels of another whitening, made from what the net sees: the new head must give them back."""
    training = begin()
    before = {name: tensor.clone() for name, tensor in training.net.state_dict().items()}
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(len(training.net.fc_param.weight[0]), len(MEAN)))
    batches = []
    for seed in range(30):
        batch = mini_batches.make_batch(STILLS, np.arange(6), CONFIG.sampling, Augmentation(), [seed])
        with torch.no_grad():
            seen = training.net.eval().features(TensorBatch.of(batch, "cpu").crops).numpy().astype(np.float64)
        labels = (seen @ matrix).astype(np.float32)
        batches.append(TensorBatch.of(MiniBatch(batch.images, labels, batch.landmarks, batch.weights), "cpu"))
    everything = np.concatenate([batch.params for batch in batches]).astype(np.float64)
    mean, std = everything.mean(axis=0), everything.std(axis=0)
    anew = with_new_head(training, batches, mean, std)
    assert anew.mean == tuple(mean)
    assert anew.iteration == 0
    with torch.no_grad():
        z = anew.net.eval()(batches[0].crops)[0].numpy()
    assert np.abs(z * std + mean - batches[0].params.numpy()).mean() < 0.05 * std.mean()
    assert np.abs(np.array(anew.std) - STD).max() > 0
    after = anew.net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("fc_param"))
