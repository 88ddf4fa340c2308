"""Networks whose weights are stored in half precision, and computed with in single: half the bytes of a file.

onnxruntime makes single precision of them once, as it opens the network; every answer is computed as before, from
weights rounded to 11 bits.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ddfa_batch.schemas.arrays import F32

#: Of what a half's name ends in.
_HALF = "_half"
#: Arrays of fewer numbers stay as they are: biases, heads.
_LEAST = 4096


def with_half_weights(content: bytes) -> bytes:
    """The network (an ONNX file's bytes) with its large arrays stored in half precision.

    Raises `ValueError` where a weight is too large for it.
    """
    model = onnx.load_model_from_string(content)
    casts = []
    for constant in model.graph.initializer:
        array = numpy_helper.to_array(constant)
        if array.dtype != np.float32 or array.size < _LEAST:
            continue
        if np.abs(array).max() > np.finfo(np.float16).max:
            raise ValueError(f"A weight of the array {constant.name} is too large for half precision.")
        name = constant.name
        constant.CopyFrom(numpy_helper.from_array(array.astype(np.float16), name + _HALF))
        casts.append(helper.make_node("Cast", [name + _HALF], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def stores_halves(content: bytes) -> bool:
    """Whether a network (an ONNX file's bytes) has arrays in half precision."""
    arrays = onnx.load_model_from_string(content).graph.initializer
    return any(array.data_type == TensorProto.FLOAT16 for array in arrays)


def constants(model: onnx.ModelProto) -> dict[str, F32]:
    """A network's arrays in single precision, by the names that its operators know them by."""
    arrays = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    cast = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    single = {name: array for name, array in arrays.items() if array.dtype == np.float32}
    return single | {name: arrays[half].astype(np.float32) for name, half in cast.items() if half in arrays}
