"""Mini-batches whose pixels are made on the device that trains: all at once, by torch, from clips that lie there.

What is drawn and labelled is `mini_batches.drawn_batch`'s, as where pixels are made one by one; they differ by the
rounding of two libraries, along the edges of what covers faces, and by the noise's draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ddfa_batch.schemas.arrays import F64, I64
from ddfa_batch.tasks.rendering.degradation import STILL, blur_kernel
from ddfa_batch.tasks.training.clips import Clips
from ddfa_batch.tasks.training.jpeg_artefacts import jpeg_artefacts
from ddfa_batch.tasks.training.mini_batches import DrawnBatch, drawn_batch
from ddfa_batch.tasks.training.options import Augmentation, Sampling
from ddfa_batch.tasks.training.tensor_batch import TensorBatch, as_input

#: Standard deviations of a blur to either side within its kernel, as OpenCV's for bytes.
_REACH = 3


@dataclass(frozen=True)
class DeviceClips:
    """Clips with their pictures on a device."""

    #: Labels, and where the pictures came from.
    clips: Clips
    #: (N, F, H, W, 3), uint8, BGR.
    images: Tensor

    @staticmethod
    def of(clips: Clips, device: str) -> DeviceClips:
        """Copy the pictures to a device."""
        return DeviceClips(clips, torch.from_numpy(np.ascontiguousarray(clips.images)).to(device))


def make_batch(
    clips: DeviceClips, rows: I64, sampling: Sampling, augmentation: Augmentation, seed: Sequence[int], pixels: int = 0
) -> TensorBatch:
    """The frames of `rows` (M,), M × frames of them, drawn from generators of `seed`: see `mini_batches.make_batch`."""
    rng, pixels, device = np.random.default_rng(seed), pixels or sampling.size, clips.images.device
    drawn = drawn_batch(clips.clips, rows, sampling, augmentation, rng, pixels)
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**63)))
    images = made_pixels(clips.images, drawn, pixels, sampling.size, generator)
    labels = (torch.from_numpy(array).to(device) for array in (drawn.params, drawn.landmarks, drawn.weights))
    return TensorBatch(as_input(images), *labels)


def made_pixels(source: Tensor, drawn: DrawnBatch, pixels: int, size: int, generator: torch.Generator) -> Tensor:
    """Images (B, 3, pixels, pixels) in grey levels, BGR, of pictures (N, F, H, W, 3); `size`: see `drawn.maps`."""
    looks, clip, tensor = drawn.appearances, drawn.clip_of, _to(source.device)
    chosen = source[tensor(drawn.rows), tensor(drawn.frames)].permute(0, 3, 1, 2).float()
    images = _warped(chosen, drawn, pixels, size)
    images = _lit(images, tensor(looks.light[clip]))
    if looks.occluded.any():
        images = _occluded(images, drawn)
    if (blurred := np.flatnonzero(looks.blur[clip])).size:
        images[tensor(blurred)] = _blurred(images[tensor(blurred)], tensor(looks.blur[clip][blurred]).float())
    sigma = tensor(looks.noise[clip]).float()[:, None, None, None]
    noise = torch.randn(images.shape, generator=generator, device=source.device)
    images = torch.where(sigma > 0, (images + noise * sigma).round().clamp(0, 255), images)
    if (moved := np.flatnonzero(np.linalg.norm(drawn.blurs, axis=1) >= STILL)).size:
        images[tensor(moved)] = _smeared(images[tensor(moved)], drawn.blurs[moved])
    if (coded := np.flatnonzero(looks.quality[clip])).size:
        images[tensor(coded)] = jpeg_artefacts(images[tensor(coded)], tensor(looks.quality[clip][coded]))
    return images


def _to(device: torch.device) -> Callable[[np.ndarray], Tensor]:
    """What copies arrays to a device."""
    return lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _warped(images: Tensor, drawn: DrawnBatch, pixels: int, size: int) -> Tensor:
    """What maps make of images (B, 3, H, W), mirrored first where they are: `similarity.warp` of each."""
    height, width = images.shape[2:]
    maps = drawn.maps * (pixels / size)
    inverse = np.linalg.inv(maps[:, :, :2])
    scale = np.sqrt(np.abs(np.linalg.det(maps[:, :, :2])))
    shift = maps[:, :, 2] + (scale[:, None] - 1) / 2
    there = np.concatenate([inverse, -(inverse @ shift[..., None])], axis=2)
    there[drawn.mirrored == 1, 0] *= -1
    there[drawn.mirrored == 1, 0, 2] += width - 1
    back = torch.from_numpy(there.astype(np.float32)).to(images.device)
    y, x = torch.meshgrid(*[torch.arange(pixels, device=images.device, dtype=torch.float32)] * 2, indexing="ij")
    where = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3) @ back.transpose(1, 2)
    where = where * (2 / images.new_tensor([width - 1, height - 1])) - 1
    found = functional.grid_sample(images, where.reshape(-1, pixels, pixels, 2), align_corners=True)
    return found.round()


def _lit(images: Tensor, light: Tensor) -> Tensor:
    """Images (B, 3, H, W) of whole grey levels under light (B, 256, 3)."""
    table = light.transpose(1, 2).float()
    return table.gather(2, images.long().flatten(2)).reshape(images.shape)


def _occluded(images: Tensor, drawn: DrawnBatch) -> Tensor:
    """Images (B, 3, S, S) with what stands before some faces; see `augmentation.Occluder`."""
    looks, device, tensor = drawn.appearances, images.device, _to(images.device)
    rows = np.flatnonzero(looks.occluded[drawn.clip_of])
    clip = drawn.clip_of[rows]
    n, side = len(rows), images.shape[3]
    line = torch.arange(side, device=device)
    away = torch.stack(torch.meshgrid(line, line, indexing="xy"))[None] - tensor(looks.centres[clip])[..., None, None]
    reach = tensor(looks.sides[clip] // 2)[..., None, None]
    square = (away.abs() <= reach).all(dim=1)
    ellipse = (away / reach.clamp_min(1)).square().sum(dim=1) <= 1
    covered = torch.where(tensor(looks.round[clip])[:, None, None], ellipse, square)[:, None]
    shown = images[tensor(rows)]
    right, down = tensor(looks.shows[clip]).T
    from_y = (line[None] - down[:, None]) % side
    from_x = (line[None] - right[:, None]) % side
    row = torch.arange(n, device=device)[:, None, None]
    elsewhere = shown[row, :, from_y[:, :, None], from_x[:, None, :]].permute(0, 3, 1, 2)
    colour = tensor(looks.colours[clip]).float().round()[..., None, None]
    content = torch.where(tensor(looks.textured[clip])[:, None, None, None], elsewhere, colour)
    images = images.clone()
    images[tensor(rows)] = torch.where(covered, content, shown)
    return images


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Images (B, 3, H, W) under Gaussian blurs of sigma (B,)."""
    reach = int(torch.ceil(sigma.max() * _REACH))
    x = torch.arange(-reach, reach + 1, device=images.device)
    kernels = torch.exp(-0.5 * (x / sigma[:, None]).square())
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    along = _filtered(images, kernels[:, None, :])
    return _filtered(along, kernels[:, :, None]).round()


def _smeared(images: Tensor, vectors: F64) -> Tensor:
    """Images (B, 3, H, W) that moved by vectors (B, 2), pixels, while the shutter was open."""
    kernels = [blur_kernel(vector) for vector in vectors]
    side = max(len(kernel) for kernel in kernels)
    padded = np.stack([np.pad(kernel, (side - len(kernel)) // 2) for kernel in kernels])
    return _filtered(images, torch.from_numpy(padded).to(images)).round()


def _filtered(images: Tensor, kernels: Tensor) -> Tensor:
    """Images (B, C, H, W) each correlated with its own kernel (B, h, w), of odd sides; the edge is mirrored."""
    batch, channels, height, width = images.shape
    down, right = kernels.shape[1] // 2, kernels.shape[2] // 2
    padded = functional.pad(images, (right, right, down, down), mode="reflect")
    planes = padded.reshape(1, batch * channels, height + 2 * down, width + 2 * right)
    each = kernels.repeat_interleave(channels, dim=0)[:, None]
    return functional.conv2d(planes, each, groups=batch * channels).reshape(images.shape)
