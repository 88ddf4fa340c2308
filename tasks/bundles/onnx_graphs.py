"""The project's networks as ONNX graphs, built from named arrays: MobileNetV1, FaceBoxes and the project's detector.

Batch normalisation is folded into the convolutions, in float64. Building the graph from the weights by hand
needs neither torch nor a tracing exporter, and nothing of a checkpoint but its arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ddfa_batch.schemas.arrays import F32

Weights = Mapping[str, F32]

_OPSET = 17
_IR_VERSION = 8
#: torch's default, with which both networks were trained.
_BN_EPSILON = 1e-5


class Graph:
    """An ONNX graph under construction; every method adds a node and returns the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, array: Any) -> str:
        """Add an initialiser."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def add(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add any operator."""
        name = output or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def conv(self, x: str, weight: F32, bias: F32, stride: int = 1, groups: int = 1) -> str:
        """Add a convolution padded by half its kernel."""
        k = int(weight.shape[-1])
        inputs = x, self.constant(weight), self.constant(bias)
        sides: dict[str, Any] = {"kernel_shape": [k, k], "strides": [stride, stride], "pads": [k // 2] * 4}
        return self.add("Conv", *inputs, group=groups, **sides)

    def model(self, x: str, shape: Sequence[int | str], outputs: Mapping[str, Sequence[int | str]]) -> bytes:
        """Check the graph and return it as the bytes of an ONNX file."""
        graph = helper.make_graph(
            self._nodes,
            "ddfa_batch",
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, list(shape))],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, list(s)) for o, s in outputs.items()],
            self._constants,
        )
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="ddfa-batch")
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def fold(weights: Weights, conv: str, norm: str) -> tuple[F32, F32]:
    """Weight and bias of the convolution `conv` followed by the batch normalisation `norm`."""
    scale = weights[f"{norm}.weight"].astype(np.float64)
    scale = scale / np.sqrt(weights[f"{norm}.running_var"].astype(np.float64) + _BN_EPSILON)
    weight = weights[f"{conv}.weight"] * scale[:, None, None, None]
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    return weight.astype(np.float32), bias.astype(np.float32)


#: Strides of MobileNetV1's 13 depthwise-separable blocks, with upstream's names.
MOBILENET_BLOCKS = (
    *(("dw2_1", 1), ("dw2_2", 2)),
    *(("dw3_1", 1), ("dw3_2", 2)),
    *(("dw4_1", 1), ("dw4_2", 2)),
    *(("dw5_1", 1), ("dw5_2", 1), ("dw5_3", 1), ("dw5_4", 1), ("dw5_5", 1), ("dw5_6", 2)),
    ("dw6", 1),
)


def mobilenet(weights: Weights, size: int) -> bytes:
    """MobileNetV1 (any width) as ONNX: `input` (batch, 3, size, size) → `params` (batch, P), whitened.

    `weights` has upstream's names without their `module.` prefix; the landmark head `fc_lm`, which only
    training needs (paper, section 2.3), is left out.
    """
    g = Graph()
    x = g.add("Relu", g.conv("input", *fold(weights, "conv1", "bn1"), stride=2))
    for name, stride in MOBILENET_BLOCKS:
        channels = weights[f"{name}.conv_dw.weight"].shape[0]
        depthwise = fold(weights, f"{name}.conv_dw", f"{name}.bn_dw")
        x = g.add("Relu", g.conv(x, *depthwise, stride=stride, groups=channels))
        x = g.add("Relu", g.conv(x, *fold(weights, f"{name}.conv_sep", f"{name}.bn_sep")))
    x = g.add("Flatten", g.add("GlobalAveragePool", x), axis=1)
    head = "fc_param" if "fc_param.weight" in weights else "fc"
    weight, bias = weights[f"{head}.weight"], weights[f"{head}.bias"]
    g.add("Gemm", x, g.constant(weight), g.constant(bias), transB=1, output="params")
    return g.model("input", ["batch", 3, size, size], {"params": ["batch", int(weight.shape[0])]})


def faceboxes(weights: Weights) -> bytes:
    """FaceBoxes as ONNX: `input` (1, 3, H, W) BGR minus mean → `boxes` (1, N, 4) offsets, `scores` (1, N).

    Zhang et al., "FaceBoxes: A CPU Real-time Face Detector with High Accuracy" (IJCB 2017), as laid out in
    FaceBoxes.PyTorch, whose checkpoint 3DDFA_V2 ships.
    """
    g = Graph()

    def basic(x: str, name: str, stride: int = 1) -> str:
        return g.add("Relu", g.conv(x, *fold(weights, f"{name}.conv", f"{name}.bn"), stride=stride))

    def crelu(x: str, name: str, stride: int) -> str:
        x = g.conv(x, *fold(weights, f"{name}.conv", f"{name}.bn"), stride=stride)
        return g.add("Relu", g.add("Concat", x, g.add("Neg", x), axis=1))

    def pool(x: str) -> str:
        return g.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])

    def inception(x: str, name: str) -> str:
        mean = g.add("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
        third = basic(basic(x, f"{name}.branch3x3_reduce"), f"{name}.branch3x3")
        fourth = basic(basic(x, f"{name}.branch3x3_reduce_2"), f"{name}.branch3x3_2")
        first, second = basic(x, f"{name}.branch1x1"), basic(mean, f"{name}.branch1x1_2")
        return g.add("Concat", first, second, third, basic(fourth, f"{name}.branch3x3_3"), axis=1)

    x = pool(crelu("input", "conv1", stride=4))
    x = pool(crelu(x, "conv2", stride=2))
    first = inception(inception(inception(x, "inception1"), "inception2"), "inception3")
    second = basic(basic(first, "conv3_1"), "conv3_2", stride=2)
    third = basic(basic(second, "conv4_1"), "conv4_2", stride=2)

    def head(kind: str, width: int) -> str:
        rows = []
        for i, source in enumerate((first, second, third)):
            x = g.conv(source, weights[f"{kind}.{i}.weight"], weights[f"{kind}.{i}.bias"])
            x = g.add("Transpose", x, perm=[0, 2, 3, 1])
            rows.append(g.add("Reshape", x, g.constant(np.array([1, -1, width], np.int64))))
        return g.add("Concat", *rows, axis=1)

    g.add("Identity", head("loc", 4), output="boxes")
    face = g.add("Softmax", head("conf", 2), axis=2)
    face = g.add("Gather", face, g.constant(np.array(1, np.int64)), axis=2, output="scores")
    return g.model("input", [1, 3, "height", "width"], {"boxes": [1, "n", 4], "scores": [1, "n"]})


#: The blocks of the project's detector at each stride; the first of a row halves the resolution.
FCOS_BLOCKS = (
    (8, ("dw8_1", "dw8_2", "dw8_3")),
    (16, ("dw16_1", "dw16_2", "dw16_3", "dw16_4")),
    (32, ("dw32_1", "dw32_2", "dw32_3")),
    (64, ("dw64_1", "dw64_2", "dw64_3")),
)
#: Its top-down path, in order: (from stride, to stride). Without stride 64, so that sides need only be multiples of 32.
FCOS_LATERALS = ((32, 16), (16, 8))
#: Its input is BGR 0..255; it was trained on 0..1, and the factor goes into the first weights.
_FCOS_RANGE = 255.0


def fcos(weights: Weights) -> bytes:
    """The project's detector as ONNX: `input` (1, 3, H, W) BGR, H and W multiples of 32 → `level_8` … `level_64`.

    Each output is (1, 5, h, w): score logit, then log distances to left, top, right and bottom in strides
    (`tasks.detect.Fcos`). `weights` has the names of `tasks.training.detector.FaceDetector`.
    """
    g = Graph()

    def separable(x: str, name: str, stride: int = 1) -> str:
        depthwise = fold(weights, f"{name}.conv_dw", f"{name}.bn_dw")
        x = g.add("Relu", g.conv(x, *depthwise, stride=stride, groups=depthwise[0].shape[0]))
        return g.add("Relu", g.conv(x, *fold(weights, f"{name}.conv_sep", f"{name}.bn_sep")))

    first, bias = fold(weights, "conv1", "bn1")
    x = g.add("Relu", g.conv("input", (first / _FCOS_RANGE).astype(np.float32), bias, stride=4))
    sides: dict[int, str] = {}
    for stride, names in FCOS_BLOCKS:
        for i, name in enumerate(names):
            x = separable(x, name, stride=1 if i else 2)
        sides[stride] = g.add("Relu", g.conv(x, *fold(weights, f"lateral{stride}", f"bn_lateral{stride}")))
    twice = g.constant(np.array([1, 1, 2, 2], np.float32))
    rounding = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    for coarse, fine in FCOS_LATERALS:
        larger = g.add("Resize", sides[coarse], "", twice, output=None, mode="nearest", **rounding)
        sides[fine] = g.add("Add", sides[fine], larger)
    for stride, side in sides.items():
        out = separable(side, f"head{stride}")
        out = g.conv(out, weights[f"out{stride}.weight"], weights[f"out{stride}.bias"])
        g.add("Identity", out, output=f"level_{stride}")
    outputs: dict[str, Sequence[int | str]] = {f"level_{s}": [1, 5, f"height_{s}", f"width_{s}"] for s in sides}
    return g.model("input", [1, 3, "height", "width"], outputs)
