"""A checkout of the official release in miniature: the real file formats, random numbers, no torch needed."""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ddfa_batch.tasks.bundles.onnx_graphs import MOBILENET_BLOCKS

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
N_VERTICES = 300


class FakeTensor:
    """An array that pickles as torch pickles a tensor."""

    def __init__(self, array: np.ndarray, key: str) -> None:
        self.array, self.key = np.ascontiguousarray(array, np.float32), key

    def __reduce__(self) -> object:
        strides = tuple(s // 4 for s in self.array.strides)
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2  # type: ignore[attr-defined]
        return rebuild, (Storage(self), 0, self.array.shape, strides, False, OrderedDict())


class Storage:
    def __init__(self, tensor: FakeTensor) -> None:
        self.tensor = tensor


@contextmanager
def fake_torch() -> Iterator[type]:
    """Modules of torch's names, so that pickle writes the same globals as torch does."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*_: object) -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    storage = type("FloatStorage", (), {"__module__": "torch"})
    torch.FloatStorage = storage  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield storage
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _pickled(state: object, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    with fake_torch() as float_storage:

        class Pickler(pickle.Pickler):
            def persistent_id(self, obj: object) -> object:
                if isinstance(obj, Storage):
                    return ("storage", float_storage, obj.tensor.key, "cpu", obj.tensor.array.size, None)
                return None

        Pickler(buffer, protocol).dump(state)
    return buffer.getvalue()


def _state(weights: dict[str, np.ndarray], prefix: str) -> tuple[OrderedDict[str, FakeTensor], list[FakeTensor]]:
    tensors = [FakeTensor(array, str(1000 + i)) for i, array in enumerate(weights.values())]
    return OrderedDict(zip((prefix + name for name in weights), tensors, strict=True)), tensors


def legacy_checkpoint(weights: dict[str, np.ndarray], prefix: str = "") -> bytes:
    """torch.save before 1.6, as the release's files are."""
    state, tensors = _state(weights, prefix)
    parts = [pickle.dumps(MAGIC, 2), pickle.dumps(PROTOCOL, 2), pickle.dumps({"little_endian": True}, 2)]
    parts += [_pickled({"epoch": 50, "state_dict": state}), pickle.dumps([t.key for t in tensors], 2)]
    for t in tensors:
        parts.append(t.array.size.to_bytes(8, "little") + t.array.tobytes())
    return b"".join(parts)


def zip_checkpoint(weights: dict[str, np.ndarray], prefix: str = "") -> bytes:
    """torch.save since 1.6."""
    state, tensors = _state(weights, prefix)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", _pickled({"state_dict": state}))
        for t in tensors:
            archive.writestr(f"archive/data/{t.key}", t.array.tobytes())
    return buffer.getvalue()


def _norm(name: str, n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    values = {
        "weight": rng.uniform(0.5, 1.5, n),
        "bias": rng.normal(size=n) * 0.1,
        "running_mean": rng.normal(size=n) * 0.1,
        "running_var": rng.uniform(0.5, 1.5, n),
    }
    return {f"{name}.{key}": value.astype(np.float32) for key, value in values.items()}


def mobilenet_weights(rng: np.random.Generator, width: float = 0.25, n_out: int = 62) -> dict[str, np.ndarray]:
    """MobileNetV1's weights by upstream's names; 136-way landmark head included."""

    def kernel(*shape: int) -> np.ndarray:
        fan_in = int(np.prod(shape[1:]))
        return (rng.normal(size=shape) * np.sqrt(2 / fan_in)).astype(np.float32)

    channels = [int(c * width) for c in (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)]
    weights = {"conv1.weight": kernel(channels[0], 3, 3, 3), **_norm("bn1", channels[0], rng)}
    for (name, _), c_in, c_out in zip(MOBILENET_BLOCKS, channels[:-1], channels[1:], strict=True):
        weights[f"{name}.conv_dw.weight"] = kernel(c_in, 1, 3, 3)
        weights |= _norm(f"{name}.bn_dw", c_in, rng)
        weights[f"{name}.conv_sep.weight"] = kernel(c_out, c_in, 1, 1)
        weights |= _norm(f"{name}.bn_sep", c_out, rng)
    for head, n in (("fc_param", n_out), ("fc_lm", 136)):
        weights[f"{head}.weight"] = kernel(n, channels[-1]) * 0.1
        weights[f"{head}.bias"] = np.zeros(n, np.float32)
    return weights


def faceboxes_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """FaceBoxes' weights by upstream's names."""
    shapes: dict[str, tuple[int, int, int]] = {"conv1": (24, 3, 7), "conv2": (64, 48, 5)}
    for i in (1, 2, 3):
        for branch, shape in {
            "branch1x1": (32, 128, 1),
            "branch1x1_2": (32, 128, 1),
            "branch3x3_reduce": (24, 128, 1),
            "branch3x3": (32, 24, 3),
            "branch3x3_reduce_2": (24, 128, 1),
            "branch3x3_2": (32, 24, 3),
            "branch3x3_3": (32, 32, 3),
        }.items():
            shapes[f"inception{i}.{branch}"] = shape
    shapes |= {"conv3_1": (128, 128, 1), "conv3_2": (256, 128, 3), "conv4_1": (128, 256, 1), "conv4_2": (256, 128, 3)}
    weights: dict[str, np.ndarray] = {}
    for name, (n_out, n_in, k) in shapes.items():
        weights[f"{name}.conv.weight"] = (rng.normal(size=(n_out, n_in, k, k)) * np.sqrt(1 / (n_in * k * k))).astype(
            "f"
        )
        weights |= _norm(f"{name}.bn", n_out, rng)
    for head, per in (("loc", 4), ("conf", 2)):
        for i, (anchors, n_in) in enumerate(((21, 128), (1, 256), (1, 256))):
            weights[f"{head}.{i}.weight"] = (rng.normal(size=(anchors * per, n_in, 3, 3)) * 0.02).astype("f")
            weights[f"{head}.{i}.bias"] = np.zeros(anchors * per, np.float32)
    return weights


def checkout(folder: Path, seed: int = 0) -> Path:
    """A whole checkout, with a face model of a few hundred vertices."""
    rng = np.random.default_rng(seed)
    for sub in ("weights", "FaceBoxes/weights", "configs"):
        (folder / sub).mkdir(parents=True)
    (folder / "weights/mb05_120x120.pth").write_bytes(legacy_checkpoint(mobilenet_weights(rng), "module."))
    (folder / "FaceBoxes/weights/FaceBoxesProd.pth").write_bytes(zip_checkpoint(faceboxes_weights(rng)))
    side = int(np.sqrt(N_VERTICES))
    x, y = np.meshgrid(np.linspace(-80e3, 80e3, side), np.linspace(-1e5, 1e5, side))
    mean = np.stack([x, y, 1e5 - (x * x + y * y) / 2e5], axis=-1).reshape(-1, 3)
    n = len(mean)
    index = np.arange(n).reshape(side, side)
    tri = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:]]).reshape(3, -1)
    landmarks = rng.choice(n, 68, replace=False)
    bfm = {
        "u": mean.reshape(-1, 1).astype(np.float32),
        "tri": tri.astype(np.int32),
        "w_shp": rng.normal(size=(3 * n, 40)).astype(np.float32) * 1e-2,
        "w_exp": rng.normal(size=(3 * n, 10)).astype(np.float32) * 1e3,
        "keypoints": (landmarks[:, None] * 3 + np.arange(3)).ravel().astype(np.int64),
    }
    (folder / "configs/bfm_noneck_v3.pkl").write_bytes(pickle.dumps(bfm, 4))
    pose = np.array([5e-4, 0, 0, 60, 0, 5e-4, 0, 60, 0, 0, 5e-4, 0])
    statistics = {"mean": np.concatenate([pose, np.zeros(50)]), "std": np.concatenate([np.full(12, 1e-5), np.ones(50)])}
    statistics = {key: value.astype(np.float32) for key, value in statistics.items()}
    (folder / "configs/param_mean_std_62d_120x120.pkl").write_bytes(pickle.dumps(statistics, 3))
    return folder
