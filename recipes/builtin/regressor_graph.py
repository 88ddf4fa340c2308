"""A regressor's graph taken up again: what it sees in a crop, and the graph with a say in what is a face.

What is seen are the mean and the maximum of every channel that the last blocks answer. Parameters are read from the
means of the last block alone; whether there is a face shows in what stands out somewhere, and in coarser layers too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from ddfa_batch.schemas.arrays import F32, U8, Floats
from ddfa_batch.tasks.inference.regressor import FACE
from ddfa_batch.tasks.training.tensor_batch import INPUT_MEAN, INPUT_STD
from recipes.builtin.detector.teachers import session
from recipes.builtin.face_head import FaceHead

#: What a head sees (N, F) of BGR crops (N, size, size, 3).
Seen = Callable[[U8], F32]
#: How many of the last blocks are looked at, and how their channels are made one number each.
BLOCKS, POOLS = 4, ("GlobalAveragePool", "GlobalMaxPool")
#: What the names of a head's own arrays begin with, and crops of one pass.
_OWN, _BATCH = "face_head_", 8


def seen_by_graph(content: bytes) -> Seen:
    """What the regressor of an ONNX file's bytes sees in crops, for a head to tell faces from."""
    model = without_face_head(onnx.load_from_string(content))
    seen = _add_pools(model.graph)
    model.graph.output.append(helper.make_tensor_value_info(seen, TensorProto.FLOAT, None))
    net: ort.InferenceSession = session(model.SerializeToString())

    def of_crops(crops: U8) -> F32:
        parts = []
        for start in range(0, len(crops), _BATCH):
            planes = (crops[start : start + _BATCH].transpose(0, 3, 1, 2).astype(np.float32) - INPUT_MEAN) / INPUT_STD
            parts += net.run([seen], {"input": planes.astype(np.float32)})
        return np.concatenate(parts).astype(np.float32)

    return of_crops


def with_face_head(content: bytes, head: FaceHead) -> bytes:
    """The graph with this head as its output `face` (batch, 1), in place of what it had."""
    model = without_face_head(onnx.load_from_string(content))
    graph, seen = model.graph, _add_pools(model.graph)
    hidden = _add_linear(graph, "hidden", seen, head.hidden_weight, head.hidden_bias, _OWN + "hidden")
    graph.node.append(helper.make_node("Relu", [hidden], [_OWN + "found"]))
    _add_linear(graph, "face", _OWN + "found", head.weight[None], np.array([head.bias]), FACE)
    graph.output.append(helper.make_tensor_value_info(FACE, TensorProto.FLOAT, ["batch", 1]))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def without_face_head(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model less its output `face` and all that leads to no other output; it is changed in place."""
    graph = model.graph
    outputs = [output for output in graph.output if output.name != FACE]
    wanted, nodes = {output.name for output in outputs}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            nodes.append(node)
    arrays = [array for array in graph.initializer if array.name in wanted]
    for field, kept in ((graph.output, outputs), (graph.node, nodes[::-1]), (graph.initializer, arrays)):
        copies = [type(each).FromString(each.SerializeToString()) for each in kept]
        del field[:]
        field.extend(copies)
    return model


def _add_pools(graph: onnx.GraphProto) -> str:
    """Add what is seen (batch, F) to the graph; its name. A block ends in every second rectifier."""
    ends = [node.output[0] for node in graph.node if node.op_type == "Relu"][-1::-2][:BLOCKS]
    pooled = [f"{_OWN}{pool}_{end}" for end in ends for pool in POOLS]
    for name, (end, pool) in zip(pooled, ((end, pool) for end in ends for pool in POOLS), strict=True):
        graph.node.append(helper.make_node(pool, [end], [name]))
    graph.node.append(helper.make_node("Concat", pooled, [_OWN + "pooled"], axis=1))
    graph.node.append(helper.make_node("Flatten", [_OWN + "pooled"], [_OWN + "seen"], axis=1))
    return _OWN + "seen"


def _add_linear(graph: onnx.GraphProto, name: str, of: str, weight: Floats, bias: Floats, output: str) -> str:
    """Add `output` = weight · of + bias, with arrays of that name."""
    names = [f"{_OWN}{name}_weight", f"{_OWN}{name}_bias"]
    for each, array in zip(names, (weight, bias), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), each))
    graph.node.append(helper.make_node("Gemm", [of, *names], [output], transB=1))
    return output
