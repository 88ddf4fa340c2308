"""Noise and motion blur as the paper defines them."""

import numpy as np
import pytest
import synthetic_head as sh

from ddfa_batch.tasks.rendering import degradation


def test_noise_has_the_deviation_asked_for() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = degradation.add_noise(grey, 6.0, np.random.default_rng(0)).astype(float) - 128
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(6.0, rel=0.02)


def test_no_noise_is_the_same_picture() -> None:
    image = sh.photograph()
    assert degradation.degrade(image, 0.0, np.zeros(2), np.random.default_rng(0)) is image


def test_the_same_seed_gives_the_same_noise() -> None:
    a, b = (degradation.add_noise(sh.photograph(), 5.0, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("vector", [(7, 0), (0, 5), (4, 4), (-3.3, 1.2), (0.4, 0.1)])
def test_a_kernel_lies_along_its_vector(vector: tuple[float, float]) -> None:
    kernel = degradation.blur_kernel(np.array(vector))
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)
    r = kernel.shape[0] // 2
    y, x = np.mgrid[-r : r + 1, -r : r + 1]
    across = (x * vector[1] - y * vector[0]) / np.hypot(*vector)
    along = (x * vector[0] + y * vector[1]) / np.hypot(*vector)
    assert (kernel * across**2).sum() < 0.5  # what sharing between cells spreads
    variance = np.hypot(*vector) ** 2 / 12
    assert variance - 0.05 < (kernel * along**2).sum() < variance + 0.5


def test_no_motion_no_blur() -> None:
    image = sh.photograph()
    assert degradation.motion_blur(image, np.zeros(2)) is image


def test_blur_smears_along_the_motion_only() -> None:
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[20, 20] = 255
    out = degradation.motion_blur(dot, np.array([10.0, 0.0]))[..., 0]
    assert out[20, 16:25].min() > 15
    assert not out[:19].any() and not out[22:].any()


def test_blur_follows_the_face() -> None:
    landmarks = np.zeros((3, 68, 3))
    landmarks[1, :, 0] = 4
    landmarks[2, :, :2] = (4, 6)
    np.testing.assert_allclose(degradation.motion_vectors(landmarks, 0.5), [[0, 0], [2, 0], [0, 3]])
