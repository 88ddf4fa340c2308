"""A bundle whose network was altered, and whose checksum was put right: a sentence of ours, or a row that has it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnx
import portraits
import pytest
from onnx import helper, numpy_helper

import ddfa_batch
from ddfa_batch.schemas.errors import DdfaError
from ddfa_batch.tasks.bundles.model_bundle import builtin_folder
from ddfa_batch.tasks.files import images


def _cannot_run(graph: onnx.GraphProto, name: str) -> None:
    """A last layer whose shape no answer has."""
    _last(graph, name, "Reshape", np.array([7, 13, 11], np.int64))


def _beyond_numbers(graph: onnx.GraphProto, name: str) -> None:
    _last(graph, name, "Mul", np.array([np.nan], np.float32))


def _far_too_large(graph: onnx.GraphProto, name: str) -> None:
    _last(graph, name, "Mul", np.array([1e38], np.float32))


def _last(graph: onnx.GraphProto, name: str, operation: str, operand: np.ndarray) -> None:
    for node in graph.node:
        node.output[:] = [f"{each}_before" if each == name else each for each in node.output]
        node.input[:] = [f"{each}_before" if each == name else each for each in node.input]
    graph.initializer.append(numpy_helper.from_array(operand, "operand"))
    graph.node.append(helper.make_node(operation, [f"{name}_before", "operand"], [name]))


REGRESSOR, DETECTOR = "regressor.onnx", "detectors/builtin.onnx"


@pytest.fixture(params=[(f, a) for f in (REGRESSOR, DETECTOR) for a in (_cannot_run, _beyond_numbers, _far_too_large)])
def altered(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The built-in bundle with an altered network."""
    file, alter = request.param
    folder = Path(shutil.copytree(builtin_folder(), tmp_path / "altered"))
    path = folder / file
    before = path.read_bytes()
    model = onnx.load_from_string(before)
    alter(model.graph, model.graph.output[0].name)
    after = model.SerializeToString()
    path.write_bytes(after)
    old, new = (hashlib.sha256(data).hexdigest().encode() for data in (before, after))
    manifest = folder / "model.json"
    manifest.write_bytes(manifest.read_bytes().replace(old, new).replace(b'"builtin"', b'"altered"'))
    return folder


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's of NaN, which are no error
def test_what_it_does_wrong_is_a_sentence(altered: Path, tmp_path: Path) -> None:
    """Of a detector one level is altered: faces of the others may be found."""
    image = images.decode(portraits.astronaut().read_bytes(), 10**7)
    said = None
    try:
        ddfa_batch.Pipeline(model=altered)(image)
    except DdfaError as fault:
        said = str(fault)
    (row,) = ddfa_batch.process(portraits.astronaut(), tmp_path / "out", model=altered, workers=1).images().to_pylist()
    assert row["error_message"] == said
    assert said is None or said.startswith(("A network of the model cannot be run", "The regressor gave numbers"))
