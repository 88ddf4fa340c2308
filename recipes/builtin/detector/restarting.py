"""A detector's net to train on, from the graph that is shipped: its normalisations, folded there, unfolded again."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.detectors import FCOS_STRIDES
from ddfa_batch.tasks.bundles.onnx_graphs import FCOS_BLOCKS
from recipes.builtin.detector.network import FaceDetector

#: The range of the graph's input, which its first convolution divides by.
_RANGE = 255.0


def net_of_graph(content: bytes) -> FaceDetector:
    """The net that answers as `onnx_graphs.fcos` made `content`, each normalisation adding a bias and no more."""
    graph = onnx.load_from_string(content).graph
    arrays = {a.name: numpy_helper.to_array(a) for a in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    net = FaceDetector().eval()
    for (conv, norm), node in zip(convolutions(net), nodes, strict=True):
        weight, bias = (torch.from_numpy(arrays[name].copy()) for name in node.input[1:])
        conv.weight.data = weight * _RANGE if conv is net.conv1 else weight
        if norm is None:
            assert conv.bias is not None
            conv.bias.data = bias
            continue
        norm.weight.data.fill_(1)
        norm.bias.data = bias
        norm.running_mean = torch.zeros_like(bias)
        norm.running_var = torch.full_like(bias, 1 - norm.eps)
    return net


def convolutions(net: FaceDetector) -> list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """The net's convolutions in the order in which the graph has them, each with what normalises it."""

    def pair(conv: str, norm: str) -> tuple[nn.Conv2d, nn.BatchNorm2d | None]:
        found, normaliser = net.get_submodule(conv), net.get_submodule(norm)
        assert isinstance(found, nn.Conv2d)
        assert isinstance(normaliser, nn.BatchNorm2d)
        return found, normaliser

    def separable(name: str) -> list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
        return [pair(f"{name}.conv_{part}", f"{name}.bn_{part}") for part in ("dw", "sep")]

    every = [pair("conv1", "bn1")]
    for stride, names in FCOS_BLOCKS:
        for name in names:
            every += separable(name)
        every.append(pair(f"lateral{stride}", f"bn_lateral{stride}"))
    for stride in FCOS_STRIDES:
        out = net.get_submodule(f"out{stride}")
        assert isinstance(out, nn.Conv2d)
        every += [*separable(f"head{stride}"), (out, None)]
    return every


def unfolded(content: bytes, pictures: Iterable[U8]) -> FaceDetector:
    """The net of a graph with normalisations that hold the statistics of `pictures` (B, S, S, 3), batch by batch.

    It answers as the graph does; in training, when each batch is normalised by its own, nearly so.
    """
    net = net_of_graph(content)
    sums: dict[nn.Module, Tensor] = {}
    norms = [norm for _, norm in convolutions(net) if norm is not None]

    def note(norm: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        x = inputs[0].double()
        before = sums.get(norm, torch.zeros(3, x.shape[1], dtype=torch.float64))
        n = torch.full((x.shape[1],), float(x.numel() // x.shape[1]), dtype=torch.float64)
        sums[norm] = before + torch.stack([n, x.sum(dim=(0, 2, 3)), x.square().sum(dim=(0, 2, 3))])

    handles = [norm.register_forward_hook(note) for norm in norms]
    with torch.no_grad():
        for batch in pictures:
            net(torch.from_numpy(batch).permute(0, 3, 1, 2).float().div_(_RANGE))
    for handle in handles:
        handle.remove()
    for norm in norms:
        n, total, squares = sums[norm]
        mean = total / n
        variance = squares / n - mean**2
        norm.running_mean, norm.running_var = mean.float(), variance.float()
        norm.weight.data = (variance + norm.eps).sqrt().float()
        norm.bias.data = (norm.bias.double() + mean).float().detach()
    return net
