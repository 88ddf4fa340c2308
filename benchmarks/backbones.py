"""Milliseconds of backbones under onnxruntime on one CPU thread, in the form they are used: folded, 120×120, one face.

python benchmarks/backbones.py

The candidates beside the project's two kinds are built here from random weights, for their time alone. What they are
worth per millisecond is judged with what is published: ImageNet top-1 of MobileNetV1 70.6 (569 M MACs at 224×224),
MobileNetV2 72.0 (300 M), MobileOne-S0 71.4 (275 M), RepVGG-A0 72.4 (1,400 M).
"""

from __future__ import annotations

import time

import numpy as np
import onnxruntime as ort
import torch

from ddfa_batch.tasks.bundles import onnx_graphs
from ddfa_batch.tasks.training import architectures

SIZE, RUNS = 120, 80
RNG = np.random.default_rng(0)


class Candidate(onnx_graphs.Graph):
    """A graph that counts its multiply–accumulates."""

    def __init__(self) -> None:
        super().__init__()
        self.macs, self.side = 0, SIZE

    def unit(
        self, x: str, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, act: str = "Relu"
    ) -> str:
        self.side = -(-self.side // stride)
        self.macs += self.side**2 * c_out * c_in // groups * kernel**2
        weight = (RNG.normal(size=(c_out, c_in // groups, kernel, kernel)) / np.sqrt(c_in * kernel)).astype(np.float32)
        x = self.conv(x, weight, np.zeros(c_out, np.float32), stride, groups)
        return self.add(act, x) if act else x

    def finish(self, x: str, channels: int) -> tuple[bytes, int]:
        x = self.add("Flatten", self.add("GlobalAveragePool", x), axis=1)
        weight = np.zeros((62, channels), np.float32)
        self.add("Gemm", x, self.constant(weight), self.constant(weight[:, 0]), transB=1, output="params")
        return self.model("input", ["batch", 3, SIZE, SIZE], {"params": ["batch", 62]}), self.macs


def plain(widths: tuple[int, ...], depths: tuple[int, ...]) -> tuple[bytes, int]:
    """RepVGG after folding: nothing but 3×3 convolutions."""
    g, x, c_in = Candidate(), "input", 3
    for width, depth in zip(widths, depths, strict=True):
        for i in range(depth):
            x, c_in = g.unit(x, c_in, width, 3, 2 if i == 0 else 1), width
    return g.finish(x, c_in)


def inverted(width: float, act: str) -> tuple[bytes, int]:
    """MobileNetV2 (act Relu), or with V3's activation (HardSwish): expansion, channels, repeats, stride."""
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    g = Candidate()
    c_in = int(32 * width) // 8 * 8
    x = g.unit("input", 3, c_in, 3, 2, act=act)
    for expansion, channels, repeats, first_stride in stages:
        c_out = max(8, int(channels * width + 4) // 8 * 8)
        for i in range(repeats):
            stride, wide, y = first_stride if i == 0 else 1, c_in * expansion, x
            y = g.unit(y, c_in, wide, 1, act=act) if expansion > 1 else y
            y = g.unit(y, wide, wide, 3, stride, wide, act=act)
            y = g.unit(y, wide, c_out, 1, act="")
            x = g.add("Add", x, y) if stride == 1 and c_in == c_out else y
            c_in = c_out
    return g.finish(g.unit(x, c_in, 1024, 1, act=act), 1024)


def ours(kind: str, width: float) -> tuple[bytes, int]:
    architecture = architectures.Architecture(kind, width)
    weights = architectures.weights_in_use(architectures.build(architecture).eval())
    return onnx_graphs.mobilenet(weights, SIZE), architectures.mac_count(architecture, SIZE, norm_operations=0)


def milliseconds(graph: bytes) -> float:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    x = RNG.normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(None, {"input": x})
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times[RUNS // 4 :]))


def main() -> None:
    torch.manual_seed(0)
    candidates = {f"{kind} x{width}": ours(kind, width) for width in (0.25, 0.5, 1.0) for kind in architectures.KINDS}
    candidates["RepVGG-like, small"] = plain((16, 24, 48, 96, 256), (1, 2, 3, 4, 1))
    candidates["RepVGG-like, large"] = plain((24, 32, 64, 128, 384), (1, 2, 4, 6, 1))
    for width in (0.5, 1.0):
        candidates[f"MobileNetV2 x{width}"] = inverted(width, "Relu")
        candidates[f"MobileNetV2 x{width}, hard swish"] = inverted(width, "HardSwish")
    print("MACs are the convolutions' own; the paper's 183.5 and 49.5 M (x1.0, x0.5) count normalisation too.")
    print(f"{'backbone':32s} {'MACs, M':>8s} {'ms':>6s} {'GMAC/s':>7s}   onnxruntime {ort.__version__}, one thread")
    for name, (graph, macs) in candidates.items():
        took = milliseconds(graph)
        print(f"{name:32s} {macs / 1e6:8.1f} {took:6.2f} {macs / took / 1e6:7.1f}")


if __name__ == "__main__":
    main()
