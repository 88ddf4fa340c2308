"""A net's head carried over to another face model: what the least squares find."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from recipes.builtin.transfer import regression


def test_a_linear_relation_is_found_with_its_constant() -> None:
    rng = np.random.default_rng(0)
    z, matrix = rng.normal(size=(5000, 6)), rng.normal(size=(7, 3))
    target = np.column_stack([z, np.ones(5000)]) @ matrix
    found, explained = regression(z, target)
    np.testing.assert_allclose(found, matrix, atol=0.05)
    assert (explained > 0.99).all()
