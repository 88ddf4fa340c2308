"""A bundle's network as a training to go on from: its convolutions read back, its normalisations made anew.

In use, batch normalisation is folded into the convolutions and its statistics are gone. They are measured on crops:
with a norm's running mean m and variance v set to what its convolution gives there, weight √(v + ε) and bias b + m
make it answer exactly what the folded convolution with bias b does, and it can learn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ddfa_batch.schemas.arrays import F32
from ddfa_batch.schemas.bundle import REGRESSOR
from ddfa_batch.schemas.errors import TrainingError
from ddfa_batch.tasks.bundles.half_weights import constants
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.bundles.onnx_graphs import MOBILENET_BLOCKS
from ddfa_batch.tasks.training.architectures import Architecture, RegressorNet
from ddfa_batch.tasks.training.options import TrainConfig
from ddfa_batch.tasks.training.state import TrainingState, begun_with, start
from ddfa_batch.tasks.training.tensor_batch import TensorBatch


def thawed(
    bundle: Bundle, architecture: Architecture, config: TrainConfig, batch: TensorBatch, device: str = "cpu"
) -> TrainingState:
    """A new training with the network and the whitening of `bundle`, its norms measured on a mini-batch.

    The landmark head, which no bundle keeps, begins anew. Raises `TrainingError` where the network is no plain
    MobileNet of this width and number of parameters.
    """
    manifest = bundle.manifest
    if architecture.kind != "mobilenet":
        raise TrainingError(f"A bundle's network is a mobilenet; a {architecture.kind} cannot begin with it.")
    mean, std = np.array(manifest.param_mean), np.array(manifest.param_std)
    training, crops = start(architecture, config, mean, std, device), batch.crops
    convolutions, head = _weights((bundle.folder / REGRESSOR).read_bytes())
    modules = list(_pairs(training.net))
    fits = [w.shape == tuple(conv.weight.shape) for (w, _), (conv, _) in zip(convolutions, modules, strict=False)]
    if len(convolutions) != len(modules) or not all(fits) or head[0].shape != training.net.fc_param.weight.shape:
        raise TrainingError(f"The network of {manifest.name} is no {architecture}.")
    with torch.no_grad():
        for (weight, _), (conv, _) in zip(convolutions, modules, strict=True):
            conv.weight.copy_(torch.from_numpy(np.array(weight)))
        training.net.fc_param.weight.copy_(torch.from_numpy(np.array(head[0])))
        training.net.fc_param.bias.copy_(torch.from_numpy(np.array(head[1])))
        biases = [torch.from_numpy(np.array(bias)).to(crops.device) for _, bias in convolutions]
        _measure_norms(training.net, [norm for _, norm in modules], biases, crops)
    return begun_with(training.net, architecture, config, training.mean, training.std)


def _measure_norms(net: RegressorNet, norms: list[nn.BatchNorm2d], biases: list[Tensor], crops: Tensor) -> None:
    """Give each norm the statistics of what it sees, and the weight and bias with which it only adds its bias."""

    def measure(bias: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def before(norm: nn.Module, seen: tuple[Any, ...]) -> None:
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(seen[0].mean(dim=(0, 2, 3)))
            norm.running_var.copy_(seen[0].var(dim=(0, 2, 3)))
            norm.weight.copy_((norm.running_var + norm.eps).sqrt())
            norm.bias.copy_(bias + norm.running_mean)

        return before

    hooks = [norm.register_forward_pre_hook(measure(bias)) for norm, bias in zip(norms, biases, strict=True)]
    was_training = net.training
    net.eval()
    net(crops)
    net.train(was_training)
    for hook in hooks:
        hook.remove()


def _pairs(net: RegressorNet) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """The net's convolutions with their norms, in order."""
    yield net.conv1, net.bn1
    for name, _ in MOBILENET_BLOCKS:
        block: Any = net.get_submodule(name)
        yield block.conv_dw, block.bn_dw
        yield block.conv_sep, block.bn_sep


def _weights(graph: bytes) -> tuple[list[tuple[F32, F32]], tuple[F32, F32]]:
    """Weights and biases of a graph's convolutions in order, and of the layer that answers the parameters."""
    model = onnx.load_model_from_string(graph)
    arrays = constants(model)

    def read(node: Any) -> tuple[F32, F32]:
        return arrays[node.input[1]], arrays[node.input[2]]

    convolutions = [read(node) for node in model.graph.node if node.op_type == "Conv"]
    heads = [read(node) for node in model.graph.node if node.op_type == "Gemm" and "params" in node.output]
    if len(heads) != 1:
        raise TrainingError("The network does not answer `params` by one linear layer.")
    return convolutions, heads[0]
