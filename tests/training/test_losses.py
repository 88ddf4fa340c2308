"""Losses against slow twins in numpy that follow the paper's equations vertex by vertex."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest
import small_model

torch = pytest.importorskip("torch")

from ddfa_batch.tasks.training import losses  # noqa: E402
from ddfa_batch.tasks.training.losses import FaceSpace  # noqa: E402

MODEL = small_model.head(rows=8, columns=11)
MEAN, STD = small_model.mean_params().astype(float), small_model.std_params().astype(float)
STD[12:] = np.linspace(4, 0.5, 50)
MEAN[12:] = np.linspace(-1, 1, 50)


pytestmark = pytest.mark.usefixtures("one_thread")
SPACE = FaceSpace.of(MODEL, MEAN, STD, 120, torch.float64)


def batch(n: int = 5, seed: int = 0, similar: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Whitened predictions and targets (n, 62); targets whose T is exactly a similarity, if wanted."""
    rng = np.random.default_rng(seed)
    target, z = rng.normal(size=(2, n, 62))
    if similar:
        R = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
        T = target[:, :12].reshape(n, 3, 4) * STD[:12].reshape(3, 4) + MEAN[:12].reshape(3, 4)
        T[:, :, :3] = 0.45 * R
        target[:, :12] = (T.reshape(n, 12) - MEAN[:12]) / STD[:12]
    return z, target


def slow_vertices(z: np.ndarray) -> np.ndarray:
    """Eq. 5 of one face, (V, 3)."""
    p = z * STD + MEAN
    T = p[:12].reshape(3, 4)
    S = MODEL.mean.astype(float)
    for alpha, row in zip(p[12:], MODEL.basis, strict=True):
        S = S + alpha * row
    return np.array([T @ np.append(s, 1.0) for s in S])


def slow_weights(z: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Eq. 7 of one face, (62,)."""
    weights = np.zeros(len(z))
    for i in range(len(z)):
        degraded = target.copy()
        degraded[i] = z[i]
        weights[i] = np.linalg.norm(slow_vertices(degraded) - slow_vertices(target))
    return weights / weights.max()


def algorithm_2(z: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Algorithm 2 of one face as printed, with the readings the docstring of `fwpdc_weights` names."""
    p, g = z * STD + MEAN, target * STD + MEAN
    A = MODEL.basis.reshape(50, -1).T.astype(float)
    S = (MODEL.mean.ravel() + A @ g[12:]).reshape(-1, 3).T
    T, T_g = p[:12].reshape(3, 4), g[:12].reshape(3, 4)
    w_T = np.zeros((3, 4))
    for i in range(3):
        w_T[:, i] = (T[:, i] - T_g[:, i]) * np.linalg.norm(S[i])
    w_T[:, 3] = (T[:, 3] - T_g[:, 3]) * np.sqrt(A.shape[0] / 3)
    f = np.linalg.norm(T_g[0, :3])
    w_a = np.array([f * (p[12 + i] - g[12 + i]) * np.linalg.norm(A[:, i]) for i in range(50)])
    w = np.abs(np.concatenate([w_T.ravel(), w_a]))
    return w / w.max()


def t(array: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(array)


def test_vdc_is_the_vertices_distance() -> None:
    z, target = batch()
    slow = [np.square(slow_vertices(a) - slow_vertices(b)).sum() / MODEL.n_vertices for a, b in zip(z, target)]  # noqa: B905
    np.testing.assert_allclose(losses.vertex_errors(SPACE, t(z), t(target)).numpy(), slow, rtol=1e-9)
    assert float(losses.vdc(SPACE, t(z), t(target))) == pytest.approx(np.mean(slow))
    np.testing.assert_allclose(losses.vertices(SPACE, t(z))[0].numpy(), slow_vertices(z[0]), rtol=1e-9)


def test_vdc_is_exact_enough_in_float32() -> None:
    z, target = (a.astype(np.float32) for a in batch(20))
    target = z + 0.01 * target
    single = FaceSpace.of(MODEL, MEAN, STD, 120)
    exact = losses.vertex_errors(SPACE, t(z.astype(float)), t(target.astype(float))).numpy()
    np.testing.assert_allclose(losses.vertex_errors(single, t(z), t(target)).numpy(), exact, rtol=2e-3)


@pytest.mark.parametrize("similar", [True, False])
def test_weights_are_those_of_equation_7(similar: bool) -> None:
    z, target = batch(similar=similar)
    slow = np.stack([slow_weights(a, b) for a, b in zip(z, target, strict=True)])
    np.testing.assert_allclose(losses.wpdc_weights(SPACE, t(z), t(target)).numpy(), slow, rtol=1e-9)
    np.testing.assert_allclose(losses.fwpdc_weights(SPACE, t(z), t(target)).numpy(), slow, rtol=1e-9)


def test_weights_are_those_of_algorithm_2() -> None:
    z, target = batch(similar=True)
    slow = np.stack([algorithm_2(a, b) for a, b in zip(z, target, strict=True)])
    np.testing.assert_allclose(losses.fwpdc_weights(SPACE, t(z), t(target)).numpy(), slow, rtol=1e-9)


def test_fast_weights_equal_slow_ones_in_float32() -> None:
    single = FaceSpace.of(MODEL, MEAN, STD, 120)
    z, target = (t(a.astype(np.float32)) for a in batch(128))
    fast, slow = losses.fwpdc_weights(single, z, target), losses.wpdc_weights(SPACE, z.double(), target.double())
    np.testing.assert_allclose(fast.numpy(), slow.numpy(), rtol=1e-4, atol=1e-9)


def test_fast_weights_are_ten_times_as_fast() -> None:
    single = FaceSpace.of(small_model.head(16, 20), MEAN, STD, 120)
    z, target = (t(a.astype(np.float32)) for a in batch(128))

    def seconds(call: object, repeats: int) -> float:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            call(single, z, target)  # type: ignore[operator]
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds(losses.fwpdc, 20) * 10 < seconds(losses.wpdc, 2)


def test_wpdc_is_the_weighted_distance() -> None:
    z, target = batch()
    slow = np.mean([np.square(slow_weights(a, b) * (a - b)).sum() for a, b in zip(z, target, strict=True)])
    assert float(losses.wpdc(SPACE, t(z), t(target))) == pytest.approx(slow)
    assert float(losses.fwpdc(SPACE, t(z), t(target))) == pytest.approx(slow)


def test_vanilla_joint_at_its_ends_and_between() -> None:
    z, target = (t(a) for a in batch())
    f = float(losses.fwpdc(SPACE, z, target))
    assert float(losses.vanilla_joint(SPACE, z, target, 1.0)) == pytest.approx(f)
    for beta in (0.0, 0.3):  # both terms are scaled to the same value; only gradients differ
        assert float(losses.vanilla_joint(SPACE, z, target, beta)) == pytest.approx(f)
    w = z.clone().requires_grad_()
    losses.vanilla_joint(SPACE, w, target, 0.0).backward()
    v = z.clone().requires_grad_()
    losses.vdc(SPACE, v, target).backward()
    assert w.grad is not None and v.grad is not None
    ratio = f / float(losses.vdc(SPACE, z, target))
    np.testing.assert_allclose(w.grad.numpy(), v.grad.numpy() * ratio, rtol=1e-9)


def test_landmark_terms_skip_missing_labels() -> None:
    z, _ = batch()
    rng = np.random.default_rng(1)
    labels, weights = rng.uniform(0, 120, (5, 68, 2)), rng.uniform(0, 1, (5, 68))
    weights[rng.random((5, 68)) < 0.3] = 0
    labels[weights == 0] = np.nan
    answer = rng.normal(size=(5, 136))
    constraint = regression = 0.0
    for b in range(5):
        points = slow_vertices(z[b])[MODEL.landmarks]
        for i in np.flatnonzero(weights[b]):
            found = np.array([points[i, 0] - 1, 120 - points[i, 1]])
            constraint += weights[b, i] * np.square(found - labels[b, i]).sum() / weights.sum()
            wanted = (labels[b, i] - 60) / 60
            regression += weights[b, i] * np.square(answer[b, 2 * i : 2 * i + 2] - wanted).sum() / 2 / weights.sum()
    found = losses.landmark_constraint(SPACE, t(z), t(labels), t(weights))
    assert float(found) == pytest.approx(constraint)
    assert float(losses.landmark_regression(t(answer), t(labels), t(weights), 120)) == pytest.approx(regression)


def test_plain_distances_count_every_labelled_face_alike() -> None:
    z, target = batch()
    rng = np.random.default_rng(2)
    labels, weights = rng.uniform(0, 120, (5, 68, 2)), rng.uniform(0, 1, (5, 68))
    weights[rng.random((5, 68)) < 0.3] = 0
    weights[3] = 0  # a face without any label
    labels[weights == 0] = np.nan
    answer = rng.normal(size=(5, 136))
    dense, constraint, regression = [], [], []
    for b in range(5):
        off = np.square(slow_vertices(z[b]) - slow_vertices(target[b])).sum(axis=1).mean()
        dense.append(np.sqrt(off))
        seen = np.flatnonzero(weights[b])
        if not len(seen):
            continue
        points = slow_vertices(z[b])[MODEL.landmarks][seen, :2] * [1, -1] + [-1, 120]
        heads = answer[b].reshape(68, 2)[seen] * 60 + 60
        for found, means in ((points, constraint), (heads, regression)):
            lengths = np.linalg.norm(found - labels[b, seen], axis=1)
            means.append(np.average(lengths, weights=weights[b, seen]))
    close = partial(pytest.approx, rel=1e-3)  # the bend at 0
    assert float(losses.vdc_unsquared(SPACE, t(z), t(target))) == close(np.mean(dense))
    assert float(losses.landmark_distance(SPACE, t(z), t(labels), t(weights))) == close(np.mean(constraint))
    found = losses.landmark_regression_distance(t(answer), t(labels), t(weights), 120)
    assert float(found) == close(np.mean(regression))


def test_unsteadiness_is_how_far_errors_differ_between_adjacent_frames() -> None:
    z, _ = batch(6)
    rng = np.random.default_rng(3)
    labels, weights = rng.uniform(0, 120, (6, 68, 2)), np.repeat(rng.uniform(0, 1, (2, 68)), 3, axis=0)
    weights[:3, 5] = 0
    labels[weights == 0] = np.nan
    own = np.stack([slow_vertices(face)[MODEL.landmarks][:, :2] * [1, -1] + [-1, 120] for face in z])
    total = of = 0.0
    for still in (0, 3):
        for frame in (still, still + 1):
            for i in np.flatnonzero(weights[still]):
                change = (own[frame + 1, i] - labels[frame + 1, i]) - (own[frame, i] - labels[frame, i])
                total += weights[still, i] * np.linalg.norm(change)
                of += weights[still, i]
    found = losses.unsteadiness(SPACE, t(z), t(labels), t(weights), 3)
    assert float(found) == pytest.approx(total / of, rel=1e-3)
    same = losses.unsteadiness(SPACE, t(np.repeat(z[:1], 3, 0)), t(labels[:1].repeat(3, 0)), t(weights[:3]), 3)
    assert float(same) == pytest.approx(0.1, abs=1e-6)  # the bend at 0


def test_balanced_has_the_main_losss_size_and_the_extras_gradient() -> None:
    x = torch.tensor([2.0], requires_grad=True)
    extra = losses.balanced(torch.tensor(6.0), (x * x).sum())
    extra.backward()
    assert extra.item() == 6.0
    assert x.grad is not None
    assert float(x.grad) == pytest.approx(6 / 4 * 4)
    assert float(losses.balanced(torch.tensor(6.0), torch.tensor(0.0))) == 0.0


def test_gradients() -> None:
    z, target = (t(a) for a in batch(2))
    labels, weights = torch.rand(2, 68, 2, dtype=torch.float64) * 120, torch.rand(2, 68, dtype=torch.float64)
    labels[0, 0], weights[0, 0] = torch.nan, 0
    z.requires_grad_()
    fixed = losses.fwpdc_weights(SPACE, z, target)
    answer = torch.rand(2, 136, dtype=torch.float64, requires_grad=True)
    check = torch.autograd.gradcheck
    assert check(lambda x: losses.vdc(SPACE, x, target), (z,))
    assert check(lambda x: losses.parameter_distance(x, target, fixed), (z,))
    assert check(lambda x: losses.landmark_constraint(SPACE, x, labels, weights), (z,))
    assert check(lambda x: losses.landmark_regression(x, labels, weights, 120), (answer,))
    assert check(lambda x: losses.vdc_unsquared(SPACE, x, target), (z,))
    assert check(lambda x: losses.landmark_distance(SPACE, x, labels, weights), (z,))
    assert check(lambda x: losses.landmark_regression_distance(x, labels, weights, 120), (answer,))


def test_no_gradient_flows_through_the_weights() -> None:
    z, target = (t(a) for a in batch())
    z.requires_grad_()
    for loss, weights in ((losses.fwpdc, losses.fwpdc_weights), (losses.wpdc, losses.wpdc_weights)):
        (gradient,) = torch.autograd.grad(loss(SPACE, z, target), z)
        by_hand = 2 * weights(SPACE, z, target) ** 2 * (z - target) / 5
        np.testing.assert_allclose(gradient.detach().numpy(), by_hand.detach().numpy(), rtol=1e-9)


def test_a_perfect_prediction_costs_nothing() -> None:
    _, target = (t(a) for a in batch())
    for loss in (losses.vdc, losses.fwpdc, losses.wpdc):
        assert float(loss(SPACE, target.clone(), target)) == 0.0


def test_units_are_the_cost_of_knowing_nothing() -> None:
    targets = torch.randn(4000, 62, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    nothing = torch.zeros_like(targets)
    assert float(losses.vdc(SPACE, nothing, targets)) == pytest.approx(SPACE.vdc_unit, rel=0.1)
    assert float(losses.fwpdc(SPACE, nothing, targets)) == pytest.approx(SPACE.fwpdc_unit, rel=0.1)
