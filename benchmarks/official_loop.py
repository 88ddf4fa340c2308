"""The official demo's algorithm as a plain loop over images, the baseline of `throughput.py`.

    python benchmarks/official_loop.py MODEL LIST OUT.h5

Written after 3DDFA_V2's `demo.py`, `FaceBoxes_ONNX.py` and `TDDFA_ONNX.py`, step by step and as they do it: a picture
is scaled, shifted and turned into planes by NumPy; anchors are made anew for every picture; each face is cropped,
regressed and reconstructed by itself; onnxruntime has its default threads. MODEL is an imported bundle with FaceBoxes,
whose networks and face model it takes. Dense meshes go to HDF5. Printed: images, faces, seconds of the loop without
loading.
"""

from __future__ import annotations

import sys
import time
from itertools import product
from math import ceil
from pathlib import Path

import cv2
import h5py
import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.bundle import REGRESSOR
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import find_bundle

MEAN, VARIANCE = (104, 117, 123), (0.1, 0.2)
HIGHEST, WIDEST = 720, 1080
CANDIDATE, FACE, SAME, MOST = 0.05, 0.5, 0.3, 5000
ANCHORS = ((32, (32, 64, 128)), (64, (256,)), (128, (512,)))
OFFSETS = {32: (0, 0.25, 0.5, 0.75), 64: (0, 0.5)}
SIZE = 120


class FaceBoxes:
    """`FaceBoxes_ONNX`."""

    def __init__(self, file: Path) -> None:
        self.session = ort.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Boxes and scores (N, 5)."""
        h, w = image.shape[:2]
        scale = HIGHEST / h if h > HIGHEST else 1.0
        scale *= WIDEST / (w * scale) if w * scale > WIDEST else 1.0
        small = cv2.resize(image, None, fx=scale, fy=scale) if scale != 1 else image.copy()
        planes = np.float32(small)
        height, width = small.shape[:2]
        planes -= MEAN
        planes = planes.transpose(2, 0, 1)[np.newaxis, ...]
        offsets, scores = self.session.run(None, {"input": planes})
        offset, score = offsets[0], scores[0]
        prior = anchors(height, width)
        centre = prior[:, :2] + offset[:, :2] * VARIANCE[0] * prior[:, 2:]
        side = prior[:, 2:] * np.exp(offset[:, 2:] * VARIANCE[1])
        boxes = np.concatenate([centre - side / 2, centre + side / 2], axis=1)
        boxes = boxes * np.array([width, height, width, height]) / scale
        chosen = np.where(score > CANDIDATE)[0]
        boxes, score = boxes[chosen], score[chosen]
        order = score.argsort()[::-1][:MOST]
        found = np.hstack([boxes[order], score[order][:, None]]).astype(np.float32)
        found = found[suppressed(found)]
        return found[found[:, 4] > FACE]


def anchors(height: int, width: int) -> np.ndarray:
    """`PriorBox.forward`: centre and size (N, 4) of all anchors, one by one."""
    made: list[float] = []
    for stride, sides in ANCHORS:
        for i, j in product(range(ceil(height / stride)), range(ceil(width / stride))):
            for side in sides:
                offsets = OFFSETS.get(side, (0.5,))
                for dy, dx in product(offsets, offsets):
                    made += [(j + dx) * stride / width, (i + dy) * stride / height, side / width, side / height]
    return np.array(made, np.float32).reshape(-1, 4)


def suppressed(found: np.ndarray) -> list[int]:
    """`py_cpu_nms`: rows that stand of boxes (N, 5), best first."""
    x0, y0, x1, y1 = found[:, :4].T
    area = (x1 - x0 + 1) * (y1 - y0 + 1)
    order, kept = np.arange(len(found)), []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        w = np.maximum(0.0, np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest]) + 1)
        h = np.maximum(0.0, np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest]) + 1)
        order = rest[w * h / (area[best] + area[rest] - w * h) <= SAME]
    return kept


class Tddfa:
    """`TDDFA_ONNX`, its dense reconstruction in NumPy as in `TDDFA`."""

    def __init__(self, folder: Path, model: str) -> None:
        bundle = find_bundle(model, folder)
        manifest, self.face = bundle.manifest, load_morphable(bundle)
        regressor = bundle.folder / REGRESSOR
        self.session = ort.InferenceSession(regressor.read_bytes(), providers=["CPUExecutionProvider"])
        self.mean, self.std = np.array(manifest.param_mean, np.float32), np.array(manifest.param_std, np.float32)
        self.u = self.face.mean.reshape(-1, 1)
        self.w = np.ascontiguousarray(self.face.basis.reshape(len(self.face.basis), -1).T)

    def params(self, image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, list[float]]:
        """The 62 parameters of the face in a box (5,), and its roi."""
        size = (box[2] - box[0] + box[3] - box[1]) / 2
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2 + size * 0.14
        side = int(size * 1.58)
        roi = [x - side / 2, y - side / 2, x + side / 2, y + side / 2]
        crop = cv2.resize(cropped(image, roi), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        planes = crop.astype(np.float32).transpose(2, 0, 1)[np.newaxis, ...]
        (said, *_) = self.session.run(None, {"input": (planes - 127.5) / 128.0})
        return said.flatten().astype(np.float32) * self.std + self.mean, roi

    def mesh(self, params: np.ndarray, roi: list[float]) -> np.ndarray:
        """The dense mesh (3, V) in image pixels."""
        pose, alpha = params[:12].reshape(3, 4), params[12:].reshape(-1, 1)
        points = pose[:, :3] @ (self.u + self.w @ alpha).reshape(3, -1, order="F") + pose[:, 3:]
        points[0] -= 1
        points[2] -= 1
        points[1] = SIZE - points[1]
        sx, sy = (roi[2] - roi[0]) / SIZE, (roi[3] - roi[1]) / SIZE
        points[0] = points[0] * sx + roi[0]
        points[1] = points[1] * sy + roi[1]
        points[2] *= (sx + sy) / 2
        points[2] -= points[2].min()
        return np.array(points, np.float32)


def cropped(image: np.ndarray, roi: list[float]) -> np.ndarray:
    """`crop_img`: the roi, rounded to whole pixels, black outside."""
    h, w = image.shape[:2]
    x0, y0, x1, y1 = (round(v) for v in roi)
    out = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, w), min(y1, h)
    out[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    return out


def main() -> None:
    model, listing, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    bundle = find_bundle(model, Path(model))
    detect = FaceBoxes(bundle.folder / bundle.manifest.detectors["faceboxes"].file)
    regress = Tddfa(Path(model), model)
    paths = listing.read_text().splitlines()
    faces, begun = 0, time.perf_counter()
    with h5py.File(out, "w") as file:
        for path in paths:
            image = cv2.imread(path)
            for box in detect(image):
                file.create_dataset(str(faces), data=regress.mesh(*regress.params(image, box)))
                faces += 1
    print(len(paths), faces, time.perf_counter() - begun)


if __name__ == "__main__":
    main()
