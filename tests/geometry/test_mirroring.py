"""Parameters of a mirrored face, against the face's own vertices mirrored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import small_model
from scipy.spatial import cKDTree

from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import builtin_folder, load_bundle
from ddfa_batch.tasks.geometry.mirroring import FLIP68, MirrorMap
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points

SIZE = 120
ROI = np.array([[0.0, 0.0, SIZE, SIZE]])


def some_params(mean: np.ndarray, std: np.ndarray, n: int = 20) -> np.ndarray:
    return (mean + std * np.random.default_rng(3).normal(size=(n, len(mean)))).astype(np.float32)


def in_pixels(model: MorphableModel, params: np.ndarray, vertices: np.ndarray | None = None) -> np.ndarray:
    """What parameters mean in the pixels of a whole crop."""
    return points(PointBasis.of(model, vertices), params, ROI.repeat(len(params), axis=0), SIZE)


def test_the_built_in_model_is_mirrored_exactly() -> None:
    bundle = load_bundle(builtin_folder())
    model, std = load_morphable(bundle), np.array(bundle.manifest.param_std)
    mirror = MirrorMap.of(model, std[12:])
    params = some_params(np.array(bundle.manifest.param_mean), std)
    seen, own = in_pixels(model, mirror(params, SIZE)), in_pixels(model, params)
    # A vertex's twin stands where its mirror image does in the mean face: every vertex is looked at, not the sample.
    away, twin = cKDTree(model.mean).query(model.mean * [-1.0, 1, 1])
    assert away.max() < 1e-4 and len(set(twin)) == model.n_vertices
    np.testing.assert_allclose(seen[..., 0], SIZE - 1 - own[:, twin, 0], atol=2e-3)
    np.testing.assert_allclose(seen[..., 1:], own[:, twin, 1:], atol=2e-3)
    np.testing.assert_allclose(mirror(mirror(params, SIZE), SIZE), params, rtol=1e-4, atol=1e-3)
    assert mirror.residual < 1e-9


def closed(model: MorphableModel) -> MorphableModel:
    """A small head whose span is closed under mirroring, though no mode is symmetric: half of the modes are the other
    half's mirror images; landmarks mirror each other as the 68 do."""
    grid = np.arange(30 * 41).reshape(30, 41)
    twin = grid[:, ::-1].ravel()
    half = model.basis[:25]
    basis = np.concatenate([half, half[:, twin] * np.array([-1, 1, 1], np.float32)])
    marks = model.landmarks.copy()
    for i, j in enumerate(FLIP68):
        marks[j] = twin[marks[i]] if i != j else grid[marks[i] // 41, 20]
    mean = (model.mean + model.mean[twin] * np.array([-1, 1, 1], np.float32)) / 2
    return replace(model, mean=mean, basis=basis, landmarks=marks)


def test_modes_may_be_each_others_mirror_images() -> None:
    model = closed(small_model.head())
    mirror = MirrorMap.of(model, np.linspace(1, 3, 50))
    params = some_params(small_model.mean_params(), small_model.std_params())
    seen, own = (in_pixels(model, p, model.landmarks) for p in (mirror(params, SIZE), params))
    np.testing.assert_allclose(seen[:, FLIP68, 0], SIZE - 1 - own[..., 0], atol=2e-3)
    np.testing.assert_allclose(seen[:, FLIP68, 1:], own[..., 1:], atol=2e-3)
    assert mirror.residual < 1e-6


@pytest.mark.parametrize("offset", [0.0, 4.0])
def test_a_mean_that_is_not_about_the_middle_is_shifted_back(offset: float) -> None:
    model = closed(small_model.head())
    aside = replace(model, mean=model.mean + np.array([offset, 0, 0], np.float32))
    mirror = MirrorMap.of(aside, np.ones(50))
    np.testing.assert_allclose(mirror.shift, [-2 * offset, 0, 0], atol=1e-3)
    params = some_params(small_model.mean_params(), small_model.std_params())
    seen, own = (in_pixels(aside, p, aside.landmarks) for p in (mirror(params, SIZE), params))
    np.testing.assert_allclose(seen[:, FLIP68, 0], SIZE - 1 - own[..., 0], atol=2e-3)


def test_what_a_span_that_is_not_closed_leaves_is_told() -> None:
    model = small_model.head()
    assert MirrorMap.of(model, np.ones(50)).residual > 1e-3
