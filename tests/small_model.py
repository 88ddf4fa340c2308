"""A small face model and small networks, made in code, so that tests need no weights of anybody.

The head is an ellipsoid with a nose; the detector really finds something (magenta squares, as `picture` draws
them); the regressor's answer really depends on the crop. Only their quality is not real.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.bundle import REGRESSOR, BundleManifest
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.model_bundle import Bundle, write_bundle
from ddfa_batch.tasks.bundles.onnx_graphs import Graph

SIZE = 120
N_SHAPE, N_EXPRESSION = 40, 10
#: Side of the squares the small detector takes for faces, pixels.
FACE = 64
MAGENTA = (255, 0, 255)


def head(rows: int = 30, columns: int = 41) -> MorphableModel:
    """The front of an ellipsoid, 200 units high, with a nose; vertices on a grid of angles, counter-clockwise."""
    across, down = np.meshgrid(np.linspace(-1.5, 1.5, columns), np.linspace(-1.2, 1.2, rows))
    x = 75 * np.sin(across) * np.cos(down)
    y = -100 * np.sin(down)
    z = 80 * np.cos(across) * np.cos(down) + 35 * np.exp(-((across / 0.15) ** 2) - ((down - 0.1) / 0.3) ** 2)
    mean = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
    rng = np.random.default_rng(0)
    angles = np.stack([across.ravel(), down.ravel()], axis=1)
    waves = rng.normal(size=(N_SHAPE + N_EXPRESSION, 2, 3))
    phase = np.einsum("va,kac->kvc", angles, waves) + rng.uniform(0, 6, (N_SHAPE + N_EXPRESSION, 1, 3))
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return MorphableModel(
        mean=mean,
        basis=np.sin(phase).astype(np.float32),
        n_shape=N_SHAPE,
        triangles=triangles.astype(np.int32),
        landmarks=np.linspace(columns, rows * columns - columns - 1, 68).astype(np.int32),
        topology="small_head",
        unit="millimetre",
    )


def mean_params() -> np.ndarray:
    """A frontal head that fills the crop."""
    mean = np.zeros(12 + N_SHAPE + N_EXPRESSION, np.float32)
    mean[[0, 5, 10]] = 0.45
    mean[3], mean[7] = 60, 62
    return mean


def std_params() -> np.ndarray:
    """Small deviations of the pose, unit ones of the coefficients."""
    std = np.ones(12 + N_SHAPE + N_EXPRESSION, np.float32)
    std[:12] = 0.02
    std[[3, 7, 11]] = 2.0
    return std


def regressor() -> bytes:
    """A network of one convolution whose whitened output differs from crop to crop."""
    rng = np.random.default_rng(1)
    g = Graph()
    n = 12 + N_SHAPE + N_EXPRESSION
    x = g.add(
        "Relu",
        g.conv("input", rng.normal(size=(16, 3, 7, 7)).astype(np.float32) * 0.2, np.zeros(16, np.float32), stride=4),
    )
    x = g.add("Flatten", g.add("GlobalAveragePool", x), axis=1)
    g.add(
        "Gemm",
        x,
        g.constant(rng.normal(size=(n, 16)).astype(np.float32) * 0.3),
        g.constant(np.zeros(n, np.float32)),
        transB=1,
        output="params",
    )
    return g.model("input", ["batch", 3, SIZE, SIZE], {"params": ["batch", n]})


def detector() -> bytes:
    """A network with YuNet's outputs that finds squares of 64 magenta pixels a side on the grid of 32."""
    g = Graph()
    colour = np.array([1, -1, 1], np.float32).reshape(1, 3, 1, 1) / 510
    magenta = g.add("Relu", g.conv("input", colour, np.zeros(1, np.float32)))
    outputs: dict[str, list[int | str]] = {}
    for stride in (8, 16, 32):
        mean = g.add("AveragePool", magenta, kernel_shape=[stride, stride], strides=[stride, stride])
        if stride == 32:
            # a face is a cell that is full, and so are those to its right and below
            two = np.ones((1, 1, 2, 2), np.float32) / 4
            mean = g.add("Conv", mean, g.constant(two), kernel_shape=[2, 2], pads=[0, 0, 1, 1])
        score = g.add("Mul", mean, g.constant(np.float32(1.0 if stride == 32 else 0.0)))
        rows = {
            "cls": (score, 1),
            "obj": (g.add("Add", g.add("Mul", score, g.constant(np.float32(0))), g.constant(np.float32(1))), 1),
        }
        size = np.log(FACE / stride)
        shift = np.array([1.0, 1.0, size, size], np.float32).reshape(1, 4, 1, 1)
        rows["bbox"] = (
            g.add("Add", g.add("Mul", score, g.constant(np.zeros((1, 4, 1, 1), np.float32))), g.constant(shift)),
            4,
        )
        for part, (x, width) in rows.items():
            flat = g.add("Transpose", x, perm=[0, 2, 3, 1])
            g.add("Reshape", flat, g.constant(np.array([1, -1, width], np.int64)), output=f"{part}_{stride}")
            outputs[f"{part}_{stride}"] = [1, f"n{part}{stride}", width]
    return g.model("input", [1, 3, "h", "w"], outputs)


def fcos_detector() -> bytes:
    """A network with the outputs of the project's own detector that finds the same squares as `detector`."""
    g = Graph()
    colour = np.array([1, -1, 1], np.float32).reshape(1, 3, 1, 1) / 510
    magenta = g.add("Relu", g.conv("input", colour, np.zeros(1, np.float32)))
    outputs: dict[str, list[int | str]] = {}
    # The cell of 32 pixels is the upper left quarter of the square: half a stride to the left, one and a half to the
    # right.
    answer = np.array([-20, *np.log([0.5, 0.5, 1.5, 1.5])], np.float32)
    for stride in (8, 16, 32, 64):
        mean = g.add("AveragePool", magenta, kernel_shape=[stride, stride], strides=[stride, stride])
        slope = np.array([40.0 if stride == 32 else 0.0, 0, 0, 0, 0], np.float32).reshape(5, 1, 1, 1)
        if stride == 32:
            two = np.ones((1, 1, 2, 2), np.float32) / 4
            mean = g.add("Conv", mean, g.constant(two), kernel_shape=[2, 2], pads=[0, 0, 1, 1])
        g.add("Identity", g.conv(mean, slope, answer), output=f"level_{stride}")
        outputs[f"level_{stride}"] = [1, 5, f"h{stride}", f"w{stride}"]
    return g.model("input", [1, 3, "h", "w"], outputs)


def bundle(folder: Path, name: str = "small") -> Bundle:
    """A complete model bundle in `folder`/`name`."""
    manifest = BundleManifest(
        name=name,
        version="1",
        licence="MIT",
        provenance="made by the tests",
        n_shape=N_SHAPE,
        n_expression=N_EXPRESSION,
        input_size=SIZE,
        input_mean=127.5,
        input_std=128.0,
        param_mean=tuple(map(float, mean_params())),
        param_std=tuple(map(float, std_params())),
        topology="small_head",
        default_detector="yunet",
        detectors={"yunet": DetectorSpec("yunet", "detectors/yunet.onnx", 0.9, (640, 640))},
    )
    files = {REGRESSOR: regressor(), "detectors/yunet.onnx": detector()}
    return write_bundle(folder / name, manifest, files, head())


def picture(n_faces: int, seed: int = 0, size: tuple[int, int] = (256, 384)) -> np.ndarray:
    """A dark picture (H, W, 3) with up to six magenta squares the small detector takes for faces."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (*size, 3)).astype(np.uint8)
    spots = [(32, 32), (160, 32), (288, 32), (32, 160), (160, 160), (288, 160)]
    for x, y in spots[:n_faces]:
        image[y : y + FACE, x : x + FACE] = MAGENTA
        cv2.circle(image, (x + int(rng.integers(20, 44)), y + 40), 3, (230, 0, 230), -1)
    return image


def pictures(folder: Path, counts: list[int]) -> Path:
    """PNG files 000.png, 001.png … with these numbers of faces."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, n in enumerate(counts):
        cv2.imwrite(str(folder / f"{i:03d}.png"), picture(n, seed=i))
    return folder
