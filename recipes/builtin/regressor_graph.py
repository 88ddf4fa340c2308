"""A regressor's graph taken up again: what it sees in a crop, and the graph with another say in what is a face."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.tasks.inference.regressor import FACE, PARAMS
from ddfa_batch.tasks.training.export import FaceHead
from ddfa_batch.tasks.training.tensor_batch import INPUT_MEAN, INPUT_STD
from recipes.builtin.detector.teachers import session

#: Features (N, F) of BGR crops (N, size, size, 3).
Features = Callable[[U8], F32]


def features_of_graph(content: bytes) -> Features:
    """The regressor's last features, those that its parameters are read from."""
    graph = onnx.load_from_string(content)
    last = _node(graph, PARAMS).input[0]
    graph.graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, None))
    net: ort.InferenceSession = session(graph.SerializeToString())

    def features(crops: U8) -> F32:
        planes = (crops.transpose(0, 3, 1, 2).astype(np.float32) - INPUT_MEAN) / INPUT_STD
        (found,) = net.run([last], {"input": planes.astype(np.float32)})
        return np.asarray(found, np.float32)

    return features


def with_face_head(content: bytes, head: FaceHead) -> bytes:
    """The graph with this head as its output `face`, in place of what it had."""
    graph = onnx.load_from_string(content)
    weight, bias = _node(graph, FACE).input[1:]
    new = {weight: head.weight[None], bias: np.array([head.bias], np.float32)}
    for array in graph.graph.initializer:
        if array.name in new:
            array.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new[array.name], np.float32), array.name))
    onnx.checker.check_model(graph)
    return bytes(graph.SerializeToString())


def _node(graph: onnx.ModelProto, output: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in graph.graph.node if output in node.output)
    return found
