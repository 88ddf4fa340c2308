"""Pixels made all at once by torch are those that OpenCV makes one by one."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training_faces import STILLS  # noqa: E402

from ddfa_batch.tasks.training import device_batches, mini_batches  # noqa: E402
from ddfa_batch.tasks.training.device_batches import DeviceClips  # noqa: E402
from ddfa_batch.tasks.training.jpeg_artefacts import jpeg_artefacts  # noqa: E402
from ddfa_batch.tasks.training.options import Augmentation, Sampling  # noqa: E402
from ddfa_batch.tasks.training.tensor_batch import TensorBatch  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

NONE = Augmentation.none()
ROWS = np.arange(6)


def smooth_noise(shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    made = rng.integers(0, 255, shape, dtype=np.uint8).reshape(-1, *shape[-3:])
    return np.stack([cv2.normalize(cv2.blur(i, (9, 9)), None, 0, 255, cv2.NORM_MINMAX) for i in made]).reshape(shape)


CLIPS = replace(STILLS, images=smooth_noise(STILLS.images.shape))
THERE = DeviceClips.of(CLIPS, "cpu")


def both(augmentation: Augmentation, sampling: Sampling, pixels: int = 0) -> tuple[TensorBatch, TensorBatch]:
    """A mini-batch made on the host, and the same one made by torch."""
    host = mini_batches.make_batch(CLIPS, ROWS, sampling, augmentation, [3], pixels)
    device = device_batches.make_batch(THERE, ROWS, sampling, augmentation, [3], pixels)
    return TensorBatch.of(host, "cpu"), device


@pytest.mark.parametrize(
    ("augmentation", "frames", "pixels", "near"),
    [
        (NONE, 1, 0, 0.999),
        (replace(NONE, mirror=0.5, rotation=40, scale=0.1, shift=0.1), 3, 0, 0.995),
        (replace(NONE, rotation=40), 2, 60, 0.995),
        (replace(NONE, gain=0.3, offset=30), 1, 0, 0.995),
        (replace(NONE, blur=1, blur_sigma=1.5), 1, 0, 0.995),
        (replace(NONE, occluder=1, occluder_side=0.5), 1, 0, 0.97),
        (replace(NONE, step_shift=0.1, exposure=1.0), 3, 0, 0.995),
    ],
    ids=["plain", "similarity", "small", "light", "blur", "occluder", "motion"],
)
def test_pixels_are_those_of_the_host(augmentation: Augmentation, frames: int, pixels: int, near: float) -> None:
    """OpenCV's interpolation has 32 steps between pixels, and what it draws has edges of its own."""
    host, device = both(augmentation, Sampling(6, frames), pixels)
    apart = (host.crops - device.crops).abs() * 128
    assert (apart <= 4).float().mean() >= near
    for name in ("params", "landmarks", "weights"):
        assert torch.equal(getattr(host, name), getattr(device, name))


def test_noise_is_as_strong_as_on_the_host_and_of_its_seed_alone() -> None:
    noisy = replace(NONE, noise=10)
    plain, _ = both(NONE, Sampling(6, 1))
    host, device = both(noisy, Sampling(6, 1))
    strength = [(batch.crops - plain.crops).flatten(1).std(dim=1) for batch in (host, device)]
    torch.testing.assert_close(strength[0], strength[1], rtol=0.05, atol=1e-3)
    assert torch.equal(device.crops, both(noisy, Sampling(6, 1))[1].crops)


@pytest.mark.parametrize("quality", [15, 40, 79])
def test_compression_leaves_what_the_codec_leaves(quality: int) -> None:
    image = CLIPS.images[0, 0, :120, :120]
    _, written = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    codec = cv2.imdecode(written, cv2.IMREAD_COLOR).astype(np.float32)
    rounded = jpeg_artefacts(torch.from_numpy(image).permute(2, 0, 1)[None].float(), torch.tensor([quality]))
    found = rounded[0].permute(1, 2, 0).numpy()
    lost = np.abs(codec - image).mean()
    assert lost > 0.5
    assert np.abs(found - codec).mean() < 0.25 * lost
