"""Weights stored in half precision: smaller files, the same answers but for the rounding."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from ddfa_batch.tasks.bundles.half_weights import constants, with_half_weights
from ddfa_batch.tasks.bundles.onnx_graphs import Graph
from ddfa_batch.tasks.bundles.providers import open_session


def network(weight: np.ndarray) -> bytes:
    g = Graph()
    bias = np.linspace(-1, 1, len(weight)).astype(np.float32)
    g.add("Gemm", "input", g.constant(weight), g.constant(bias), transB=1, output="params")
    return g.model("input", ["batch", weight.shape[1]], {"params": ["batch", len(weight)]})


WEIGHT = np.random.default_rng(0).normal(size=(62, 512)).astype(np.float32)


def test_the_file_is_half_as_large_and_answers_the_same_but_for_rounding() -> None:
    whole = network(WEIGHT)
    half = with_half_weights(whole)
    assert len(half) < 0.52 * len(whole)
    x = np.random.default_rng(1).normal(size=(3, 512)).astype(np.float32)
    one, other = (open_session(content, "test").run(["params"], {"input": x})[0] for content in (whole, half))
    assert np.abs(one - other).max() < 512**0.5 * np.abs(WEIGHT).max() * 2**-11 * 4
    assert (one != other).any()


def test_arrays_are_read_back_under_the_names_that_operators_know() -> None:
    whole, half = (onnx.load_model_from_string(c) for c in (network(WEIGHT), with_half_weights(network(WEIGHT))))
    (gemm,) = (node for node in half.graph.node if node.op_type == "Gemm")
    np.testing.assert_array_equal(constants(half)[gemm.input[1]], WEIGHT.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(constants(half)[gemm.input[2]], constants(whole)[gemm.input[2]])


def test_a_weight_too_large_for_it_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        with_half_weights(network(np.full((62, 512), 1e6, np.float32)))
