"""The face detector's net, its targets and its losses: anchor-free heads at four strides.

After Tian et al., "FCOS" (ICCV 2019), with scores that learn the overlap of their own box (Li et al., "Generalized
Focal Loss", NeurIPS 2020, section 3.1) in place of centre-ness. In use the net is `networks.fcos`, and its answer is
read by `tasks.detect.Fcos`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ddfa_batch.schemas.arrays import F32, I64, Bools
from ddfa_batch.schemas.detectors import FCOS_STRIDES
from ddfa_batch.tasks.bundles.onnx_graphs import FCOS_BLOCKS, FCOS_LATERALS
from ddfa_batch.tasks.inference.fcos import MAX_EXPONENT, cell_centres
from recipes.builtin.detector.pictures import sizes_of

#: Channels after the stem, of the blocks at strides 8, 16, 32 and 64, and of the heads.
STEM, WIDTHS, HEAD = 32, (64, 112, 144, 160), 64
#: Faces of √(width·height) in [low, high) pixels belong to a stride; those within `_SHARED` of a limit to both sides.
FACE_SIZES = ((0.0, 48.0), (48.0, 112.0), (112.0, 240.0), (240.0, math.inf))
_SHARED = 1.2
#: Cells this near a face's centre, in strides along x and y, answer for it (FCOS's centre sampling).
CENTRE_RADIUS = 1.5
#: What owns a cell that answers for no face: nothing, or something that is neither to be found nor to be left out.
BACKGROUND, IGNORED = -1, -2
#: First answers: a score of 0.01 everywhere, as for focal losses (Lin et al., 2017), and 2.5 strides to each side.
_FIRST_SCORE, _FIRST_DISTANCE = 0.01, 2.5
#: Weight of the boxes' loss against the scores'.
_BOX_WEIGHT = 2.0


def level_of_cells(height: int, width: int) -> tuple[F32, F32]:
    """Centres (N, 2) and strides (N,) of all cells of a picture of height × width pixels, stride by stride."""
    centres = [cell_centres(-(-height // s), -(-width // s), s) for s in FCOS_STRIDES]
    strides = [np.full(len(c), s, np.float32) for c, s in zip(centres, FCOS_STRIDES, strict=True)]
    return np.concatenate(centres), np.concatenate(strides)


def owners(boxes: F32, ignored: Bools, height: int, width: int) -> I64:
    """Which of the boxes (K, 4) each cell (N,) answers for: an index, `BACKGROUND` or `IGNORED`.

    Where two faces claim a cell the smaller one gets it; an ignored box frees all cells in it that no face claims.
    """
    owner: list[I64] = []
    sizes = sizes_of(boxes)
    largest_first = np.argsort(-sizes, kind="stable")
    for stride, (low, high) in zip(FCOS_STRIDES, FACE_SIZES, strict=True):
        grid = np.full((-(-height // stride), -(-width // stride)), BACKGROUND, np.int64)
        for box in boxes[ignored]:
            grid[_cells(box, stride)] = IGNORED
        for i in largest_first:
            if ignored[i] or not low / _SHARED <= sizes[i] < high * _SHARED:
                continue
            centre, reach = (boxes[i, :2] + boxes[i, 2:]) / 2, CENTRE_RADIUS * stride
            near = np.concatenate([np.maximum(centre - reach, boxes[i, :2]), np.minimum(centre + reach, boxes[i, 2:])])
            grid[_cells(near, stride)] = i
        owner.append(grid.ravel())
    return np.concatenate(owner)


def _cells(box: F32, stride: int) -> tuple[slice, slice]:
    """The cells whose centres lie strictly inside `box`."""
    first = np.floor(box[:2] / stride - 0.5).astype(int) + 1
    last = np.ceil(box[2:] / stride - 0.5).astype(int)
    (x0, y0), (x1, y1) = np.maximum(first, 0), np.maximum(last, 0)
    return slice(y0, y1), slice(x0, x1)


class Separable(nn.Module):
    """3×3 depthwise, then 1×1, each normalised and rectified; parameters named as `networks.fcos` reads them."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in, bias=False)
        self.bn_dw = nn.BatchNorm2d(c_in)
        self.conv_sep = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, h, w) to (B, c_out, ⌈h / stride⌉, ⌈w / stride⌉)."""
        return torch.relu(self.bn_sep(self.conv_sep(torch.relu(self.bn_dw(self.conv_dw(x))))))


class FaceDetector(nn.Module):
    """Stem at stride 4, separable blocks to stride 64, a top-down path to stride 8, one head a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 7, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        channels = STEM
        for width, (stride, names) in zip(WIDTHS, FCOS_BLOCKS, strict=True):
            for i, name in enumerate(names):
                self.add_module(name, Separable(channels, width, 1 if i else 2))
                channels = width
            self.add_module(f"lateral{stride}", nn.Conv2d(width, HEAD, 1, bias=False))
            self.add_module(f"bn_lateral{stride}", nn.BatchNorm2d(HEAD))
            self.add_module(f"head{stride}", Separable(HEAD, HEAD))
            self.add_module(f"out{stride}", nn.Conv2d(HEAD, 5, 1))
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.startswith("out"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out" if module.groups == 1 else "fan_in")
        first = [math.log(_FIRST_SCORE / (1 - _FIRST_SCORE))] + [math.log(_FIRST_DISTANCE)] * 4
        for stride in FCOS_STRIDES:
            out = self.get_submodule(f"out{stride}")
            assert isinstance(out, nn.Conv2d)
            assert out.bias is not None
            nn.init.normal_(out.weight, std=1e-2)
            out.bias.data.copy_(torch.tensor(first))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Score logit and four log distances (B, 5, h, w) a stride, of pictures (B, 3, H, W), BGR / 255.

        H and W are multiples of 32.
        """
        x = torch.relu(self.bn1(self.conv1(x)))
        sides: dict[int, Tensor] = {}
        for stride, names in FCOS_BLOCKS:
            for name in names:
                x = self.get_submodule(name)(x)
            y = self.get_submodule(f"lateral{stride}")(x)
            sides[stride] = torch.relu(self.get_submodule(f"bn_lateral{stride}")(y))
        for coarse, fine in FCOS_LATERALS:
            sides[fine] = sides[fine] + functional.interpolate(sides[coarse], scale_factor=2.0, mode="nearest")
        return [self.get_submodule(f"out{s}")(self.get_submodule(f"head{s}")(sides[s])) for s in FCOS_STRIDES]


def flat(levels: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Logits (B, N) and log distances (B, N, 4) of all strides, in the order of `level_of_cells`."""
    rows = torch.cat([level.float().flatten(2) for level in levels], dim=2)
    return rows[:, 0], rows[:, 1:].transpose(1, 2)


def decoded(log_distances: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Boxes (…, 4) in pixels of log distances (…, 4), in strides, to left, top, right and bottom of centres (…, 2)."""
    distance = log_distances.clamp(max=MAX_EXPONENT).exp() * strides[..., None]
    return torch.cat([centres - distance[..., :2], centres + distance[..., 2:]], dim=-1)


def overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union (…,) of boxes (…, 4), pair by pair, and generalised (Rezatofighi et al., CVPR 2019)."""
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    iou = shared / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


def detection_loss(levels: list[Tensor], owner: Tensor, boxes: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Quality focal loss of the scores plus generalised IoU loss of the boxes: one number.

    `owner` (B, N) as `owners` gives it, per picture; `boxes` (B, K, 4) pixels, padded; `centres` (N, 2) and
    `strides` (N,) of `level_of_cells`. A cell's score is to be halfway between 1 and the IoU of its box with its
    face's, on background 0. Were it the IoU itself, faces whose box is hard to tell (profiles) would score as what is
    hardly a face.
    """
    logits, log_distances = flat(levels)
    picture, cell = torch.nonzero(owner >= 0, as_tuple=True)
    found = decoded(log_distances[picture, cell], centres[cell], strides[cell])
    iou, giou = overlaps(found, boxes[picture, owner[picture, cell]])
    quality = torch.zeros_like(logits).index_put((picture, cell), (1 + iou.detach()) / 2)
    gap = (quality - torch.sigmoid(logits)).square()
    entropy = functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    scores = (gap * entropy * (owner != IGNORED)).sum()
    n = max(len(cell), 1)
    return (scores + _BOX_WEIGHT * (1 - giou).sum()) / n
