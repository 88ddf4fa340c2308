"""The ONNX graphs against the layers they stand for, computed slowly with numpy."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import upstream_files

from ddfa_batch.tasks.bundles import onnx_graphs

RNG = np.random.default_rng(2)


def slow_conv(x: np.ndarray, weight: np.ndarray, stride: int, groups: int = 1) -> np.ndarray:
    k = weight.shape[-1]
    x = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    h, w = (x.shape[1] - k) // stride + 1, (x.shape[2] - k) // stride + 1
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))[:, ::stride, ::stride][:, :h, :w]
    if groups == 1:
        return np.einsum("chwij,ocij->ohw", windows, weight)
    return np.einsum("chwij,cij->chw", windows, weight[:, 0])


def slow_norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    w = {key: weights[f"{name}.{key}"][:, None, None] for key in ("weight", "bias", "running_mean", "running_var")}
    return (x - w["running_mean"]) / np.sqrt(w["running_var"] + 1e-5) * w["weight"] + w["bias"]


def slow_mobilenet(weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    x = np.maximum(slow_norm(slow_conv(x, weights["conv1.weight"], 2), weights, "bn1"), 0)
    for name, stride in onnx_graphs.MOBILENET_BLOCKS:
        depthwise = slow_conv(x, weights[f"{name}.conv_dw.weight"], stride, groups=x.shape[0])
        x = np.maximum(slow_norm(depthwise, weights, f"{name}.bn_dw"), 0)
        x = np.maximum(slow_norm(slow_conv(x, weights[f"{name}.conv_sep.weight"], 1), weights, f"{name}.bn_sep"), 0)
    return weights["fc_param.weight"] @ x.mean(axis=(1, 2)) + weights["fc_param.bias"]


def test_mobilenet_is_its_layers() -> None:
    weights = upstream_files.mobilenet_weights(RNG, width=0.125)
    net = ort.InferenceSession(onnx_graphs.mobilenet(weights, 64), providers=["CPUExecutionProvider"])
    x = RNG.normal(size=(2, 3, 64, 64)).astype(np.float32)
    (params,) = net.run(None, {"input": x})
    for one, image in zip(params, x, strict=True):
        np.testing.assert_allclose(one, slow_mobilenet(weights, image), rtol=1e-3, atol=1e-4)


def test_faceboxes_has_a_score_and_a_box_for_every_prior() -> None:
    net = ort.InferenceSession(
        onnx_graphs.faceboxes(upstream_files.faceboxes_weights(RNG)), providers=["CPUExecutionProvider"]
    )
    boxes, scores = net.run(["boxes", "scores"], {"input": np.zeros((1, 3, 100, 150), np.float32)})
    n = 4 * 5 * 21 + 2 * 3 + 1 * 2
    assert boxes.shape == (1, n, 4)
    assert scores.shape == (1, n)
    assert ((scores >= 0) & (scores <= 1)).all()
