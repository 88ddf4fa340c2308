"""What a camera does to a frame: P, noise, then M, motion blur (paper, section 2.4, i and ii)."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, U8, Floats, check_shape

#: What moves less far, pixels, stands still.
STILL = 0.01


def add_noise(image: U8, sigma: float, rng: np.random.Generator) -> U8:
    """P(x) = x + N(0, σ²I) on an image (H, W, C), σ in grey levels; σ = 0 draws nothing."""
    if sigma <= 0:
        return image
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(sigma)
    noise += image
    return np.asarray(np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8))


def blur_kernel(vector: Floats) -> F32:
    """K: a line through the middle along `vector` (2,), x right and y down, as long as it in pixels, summing to 1.

    Sampled eight times a pixel and shared between the four nearest cells, so that every length and direction
    has its own kernel; a vector shorter than a hundredth of a pixel gives K = 1.
    """
    check_shape("vector", np.asarray(vector), 2)
    length = float(np.hypot(*vector))
    reach = int(np.ceil(length / 2))
    kernel = np.zeros((2 * reach + 3, 2 * reach + 3))
    n = max(1, int(np.ceil(length * 8)))
    if length < STILL:
        return np.ones((1, 1), np.float32)
    along = (np.arange(n) + 0.5) / n - 0.5
    xy = along[:, None] * np.asarray(vector, np.float64) + reach + 1
    whole = np.floor(xy).astype(np.int64)
    fx, fy = (xy - whole).T
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            np.add.at(kernel, (whole[:, 1] + dy, whole[:, 0] + dx), wx * wy)
    return np.asarray(kernel / kernel.sum(), np.float32)


def motion_blur(image: U8, vector: Floats) -> U8:
    """M(x) = K ∗ x with the linear kernel of `vector` (2,) in pixels; the edge is mirrored."""
    kernel = blur_kernel(vector)
    if kernel.size == 1:
        return image
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def motion_vectors(landmarks: Floats, exposure: float) -> F32:
    """How far each frame's face moves while the shutter is open, (n, 2) pixels, from landmarks (n, L, ≥2).

    exposure is the share of a frame's time the shutter is open; the first frame, the still, does not move.
    """
    middle = np.asarray(landmarks[..., :2], np.float64).mean(axis=1)
    return (np.diff(middle, axis=0, prepend=middle[:1]) * exposure).astype(np.float32)


def degrade(image: U8, sigma: float, blur: Floats, rng: np.random.Generator) -> U8:
    """x' = (M ∘ P)(x): noise of σ grey levels, then motion blur along `blur` (2,) pixels."""
    return motion_blur(add_noise(image, sigma, rng), blur)
