"""What compression as JPEG leaves of pictures, on the device they lie on: nothing is coded, only rounded.

As libjpeg at its defaults: ITU-T T.81's example tables (Annex K), scaled by quality; colours halved in both directions
and interpolated back.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

#: Table K.1 of ITU-T T.81: steps of the luminance.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
#: Table K.2: steps of the chrominance; 99 beyond the first four rows and columns.
_CHROMINANCE = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))
#: Luminance and the two colour differences of blue, green and red (JFIF).
_YCC = ((0.114, 0.587, 0.299), (0.5, -0.331264, -0.168736), (-0.081312, -0.418688, 0.5))
#: Side of a block, and of what one block of halved colours covers.
_BLOCK, _UNIT = 8, 16


def jpeg_artefacts(images: Tensor, quality: Tensor) -> Tensor:
    """Images (B, 3, H, W), BGR in grey levels, as they come back from JPEG of quality (B,), 1 to 100."""
    height, width = images.shape[2:]
    down, right = -height % _UNIT, -width % _UNIT
    to_ycc = images.new_tensor(_YCC)
    ycc = torch.einsum("kc,bchw->bkhw", to_ycc, functional.pad(images, (0, right, 0, down), mode="replicate"))
    percent = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).to(images.dtype)
    light = _rounded(ycc[:, :1] - 128, _steps(images.new_tensor(_LUMINANCE), percent)) + 128
    steps = functional.pad(images.new_tensor(_CHROMINANCE), (0, 4, 0, 4), value=99.0)
    halved = _rounded(functional.avg_pool2d(ycc[:, 1:], 2), _steps(steps, percent))
    colours = functional.interpolate(halved, scale_factor=2, mode="bilinear", align_corners=False)
    back = torch.einsum("ck,bkhw->bchw", torch.linalg.inv(to_ycc), torch.cat([light, colours], dim=1))
    return back[:, :, :height, :width].round().clamp(0, 255)


def _steps(table: Tensor, percent: Tensor) -> Tensor:
    """The table at each picture's quality, (B, 8, 8)."""
    return ((table * percent[:, None, None] + 50) / 100).floor().clamp(1, 255)


def _rounded(planes: Tensor, steps: Tensor) -> Tensor:
    """Planes (B, C, H, W) whose blocks' cosine transforms are rounded to multiples of steps (B, 8, 8)."""
    batch, channels, height, width = planes.shape
    blocks = planes.reshape(batch, channels, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK).transpose(3, 4)
    cosines = _cosines(planes)
    each = steps[:, None, None, None]
    rounded = (cosines @ blocks @ cosines.T / each).round() * each
    return (cosines.T @ rounded @ cosines).transpose(3, 4).reshape(planes.shape)


def _cosines(like: Tensor) -> Tensor:
    """The orthonormal cosine transform of 8 numbers, (8, 8)."""
    n = torch.arange(_BLOCK, dtype=like.dtype, device=like.device)
    waves = torch.cos(math.pi * (2 * n + 1) * n[:, None] / (2 * _BLOCK)) * (2 / _BLOCK) ** 0.5
    waves[0] = _BLOCK**-0.5
    return waves
