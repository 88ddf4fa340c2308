"""Backbones: the paper's MobileNetV1, and the same net with branches that fold away after training.

Both keep upstream's parameter names and become the same ONNX graph (`tasks.networks.mobilenet`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ddfa_batch.schemas.arrays import F32
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.bundles.onnx_graphs import MOBILENET_BLOCKS

#: Channels of MobileNetV1 at width 1: after the first convolution, then after each of the 13 blocks (Howard et al.,
#: "MobileNets", 2017, Table 1).
CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
KINDS = ("mobilenet", "rep_mobilenet")
#: Numbers of the landmark head: x and y of 68 points (section 2.3).
N_HEAD = 2 * N_LANDMARKS
#: Operations that the paper's counter evidently gives each normalised and rectified number: with 4, and no other small
#: integer, convolutions, pooling and the parameter head add up to the 183.5 M and 49.5 M MACs it prints.
NORM_OPERATIONS = 4
#: torch's default, which `networks.fold` expects.
_EPSILON = 1e-5
#: Standard deviation of the heads' first weights: the first answer is about the mean face.
_HEAD_STD = 1e-3


@dataclass(frozen=True)
class Architecture:
    """Which net."""

    #: Of `KINDS`.
    kind: str = "mobilenet"
    #: Width multiplier of MobileNetV1's channels.
    width: float = 1.0
    #: Length of the parameter vector.
    n_params: int = 62

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ShapeError(f"There is no backbone '{self.kind}'; there are {', '.join(KINDS)}.")
        if not 0.0625 <= self.width <= 4:
            raise ShapeError(f"The width multiplier must lie in 0.0625..4, but is {self.width}.")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels after the first convolution and after each block."""
        return tuple(int(c * self.width) for c in CHANNELS)


def parameter_count(architecture: Architecture) -> int:
    """Parameters of the net in use: weights, a scale and shift per normalised channel, the parameter head."""
    channels = architecture.channels
    total = channels[0] * (27 + 2)
    for c_in, c_out in pairwise(channels):
        total += c_in * (9 + 2) + c_out * (c_in + 2)
    return total + architecture.n_params * (channels[-1] + 1)


def mac_count(architecture: Architecture, size: int, norm_operations: int = NORM_OPERATIONS) -> int:
    """Multiply–accumulates for one crop of size × size pixels, counted as the paper does (183.5 M at 120, width 1).

    With `norm_operations` 0 it is what is left in use, when normalisation is folded: 177.4 M.
    """
    channels = architecture.channels
    side = -(-size // 2)
    total = side * side * channels[0] * (27 + norm_operations)
    for (c_in, c_out), (_, stride) in zip(pairwise(channels), MOBILENET_BLOCKS, strict=True):
        side = -(-side // stride)
        total += side * side * (c_in * (9 + norm_operations + c_out) + c_out * norm_operations)
    pooling = side * side * channels[-1] if norm_operations else 0
    return total + pooling + architecture.n_params * channels[-1]


def build(architecture: Architecture) -> RegressorNet:
    """The net with fresh weights, drawn from torch's generator."""
    block = RepBlock if architecture.kind == "rep_mobilenet" else Block
    return RegressorNet(architecture, block)


class Block(nn.Module):
    """A depthwise-separable block: 3×3 depthwise, then 1×1, each normalised and rectified."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in, bias=False)
        self.bn_dw = nn.BatchNorm2d(c_in, eps=_EPSILON)
        self.conv_sep = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(c_out, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, h, w) to (B, c_out, h / stride, w / stride)."""
        x = torch.relu(self.bn_dw(self.conv_dw(x)))
        return torch.relu(self.bn_sep(self.conv_sep(x)))


class RepBlock(Block):
    """`Block` with parallel branches while it learns: a 1×1 depthwise scale, and identities where shapes allow.

    After Vasu et al., "MobileOne" (CVPR 2023), with one branch of each kind. All branches are linear until the
    rectifier, so `folded` makes them one convolution: in use it costs exactly what `Block` costs.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__(c_in, c_out, stride)
        self.scale_dw = nn.Conv2d(c_in, c_in, 1, stride, groups=c_in, bias=False)
        self.bn_scale = nn.BatchNorm2d(c_in, eps=_EPSILON)
        self.bn_skip_dw = nn.BatchNorm2d(c_in, eps=_EPSILON) if stride == 1 else None
        self.bn_skip_sep = nn.BatchNorm2d(c_in, eps=_EPSILON) if c_in == c_out else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, h, w) to (B, c_out, h / stride, w / stride)."""
        y = self.bn_dw(self.conv_dw(x)) + self.bn_scale(self.scale_dw(x))
        x = torch.relu(y if self.bn_skip_dw is None else y + self.bn_skip_dw(x))
        y = self.bn_sep(self.conv_sep(x))
        return torch.relu(y if self.bn_skip_sep is None else y + self.bn_skip_sep(x))

    def folded(self) -> dict[str, F32]:
        """All branches as one 3×3 and one 1×1 convolution, under the names of `Block`."""
        centre = torch.zeros(3, 3, dtype=torch.float64)
        centre[1, 1] = 1
        dw, dw_bias = _fold(self.conv_dw.weight, self.bn_dw)
        scale, scale_bias = _fold(self.scale_dw.weight, self.bn_scale)
        dw, dw_bias = dw + scale * centre, dw_bias + scale_bias
        if self.bn_skip_dw is not None:
            skip, skip_bias = _fold(torch.ones(dw.shape[0], 1, 1, 1), self.bn_skip_dw)
            dw, dw_bias = dw + skip * centre, dw_bias + skip_bias
        sep, sep_bias = _fold(self.conv_sep.weight, self.bn_sep)
        if self.bn_skip_sep is not None:
            skip, skip_bias = _fold(torch.eye(sep.shape[0])[:, :, None, None], self.bn_skip_sep)
            sep, sep_bias = sep + skip, sep_bias + skip_bias
        return {**_unit_norm("dw", dw, dw_bias), **_unit_norm("sep", sep, sep_bias)}


def _fold(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """A convolution's weight and its normalisation as one weight and bias, in float64."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.detach().double() - norm.running_mean.double() * scale
    return weight.detach().double() * scale[:, None, None, None], bias


def _unit_norm(name: str, weight: Tensor, bias: Tensor) -> dict[str, F32]:
    """A convolution with bias as a convolution whose normalisation only shifts."""
    n = len(bias)
    return {
        f"conv_{name}.weight": weight.float().cpu().numpy(),
        f"bn_{name}.weight": np.ones(n, np.float32),
        f"bn_{name}.bias": bias.float().cpu().numpy(),
        f"bn_{name}.running_mean": np.zeros(n, np.float32),
        f"bn_{name}.running_var": np.full(n, 1 - _EPSILON, np.float32),
    }


class RegressorNet(nn.Module):
    """A backbone with its heads: whitened parameters, and what only training needs, landmarks and what is a face."""

    def __init__(self, architecture: Architecture, block: type[Block]) -> None:
        super().__init__()
        channels = architecture.channels
        self.architecture = architecture
        self.conv1 = nn.Conv2d(3, channels[0], 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0], eps=_EPSILON)
        for (c_in, c_out), (name, stride) in zip(pairwise(channels), MOBILENET_BLOCKS, strict=True):
            self.add_module(name, block(c_in, c_out, stride))
        self.fc_param = nn.Linear(channels[-1], architecture.n_params)
        self.fc_lm = nn.Linear(channels[-1], N_HEAD)
        self._initialise()
        self.fc_face = nn.Linear(channels[-1], 1)  # last, so that a seed draws the other weights as it did before
        nn.init.zeros_(self.fc_face.weight)
        nn.init.zeros_(self.fc_face.bias)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out" if module.groups == 1 else "fan_in")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=_HEAD_STD)
                nn.init.zeros_(module.bias)

    def features(self, x: Tensor) -> Tensor:
        """What the heads see (B, F), the pooled channels, of crops (B, 3, H, W), (BGR − 127.5) / 128."""
        x = torch.relu(self.bn1(self.conv1(x)))
        for name, _ in MOBILENET_BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3), dtype=torch.float32)

    def heads(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Whitened parameters (B, P) and landmarks (B, 136) from what `features` sees (B, F)."""
        return self.fc_param(seen), self.fc_lm(seen)

    def face_odds(self, seen: Tensor) -> Tensor:
        """Log odds (B,) that `features` (B, F) are a face's."""
        odds: Tensor = self.fc_face(seen)[:, 0]
        return odds

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Whitened parameters (B, P) and landmarks (B, 136) of crops (B, 3, H, W), (BGR − 127.5) / 128."""
        return self.heads(self.features(x))


def weights_in_use(net: RegressorNet) -> dict[str, F32]:
    """What is left after training, under upstream's names, as arrays: branches folded, no head but the parameters'."""
    folded: dict[str, F32] = {}
    for name, _ in MOBILENET_BLOCKS:
        block = net.get_submodule(name)
        if isinstance(block, RepBlock):
            folded |= {f"{name}.{key}": array for key, array in block.folded().items()}
    blocks = tuple(f"{name}." for name, _ in MOBILENET_BLOCKS) if folded else ()
    kept = {
        name: tensor.detach().float().cpu().numpy()
        for name, tensor in net.state_dict().items()
        if not name.startswith(("fc_lm.", "fc_face.", *blocks)) and not name.endswith("num_batches_tracked")
    }
    return {**kept, **folded}
