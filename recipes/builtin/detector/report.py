"""What the detector does on photographs that neither trained it nor chose anything, beside FaceBoxes."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pyarrow.parquet as pq

from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.tasks.bundles import onnx_graphs
from ddfa_batch.tasks.bundles.checkpoints import read_arrays
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import builtin_folder, load_bundle
from ddfa_batch.tasks.evaluation.landmark_errors import match_box
from ddfa_batch.tasks.geometry.boxes import overlap
from ddfa_batch.tasks.inference.detectors import Detector, make_detector
from ddfa_batch.tasks.inference.face_finder import FaceFinder
from ddfa_batch.tasks.inference.regressor import Regressor
from recipes.builtin.detector.export import exported_spec
from recipes.builtin.detector.pictures import (
    boxes_of,
    read_picture,
)
from recipes.builtin.detector.teachers import (
    Teacher,
    at_scales,
    session,
    teachers,
)
from recipes.builtin.detector.validation import FIT

#: How often each is timed.
REPEATS = 200
#: Photographs that come with Python packages: two portraits, and two without a face.
PACKAGED_PHOTOGRAPHS = {
    "skimage": ["data/astronaut.png"],
    "matplotlib": ["mpl-data/sample_data/grace_hopper.jpg"],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}


def report(shared: Path, work: Path) -> None:
    """What the detector does on photographs that neither trained it nor chose anything, beside FaceBoxes."""
    folder = work / "detector"
    spec = exported_spec(folder)
    ours = make_detector(spec, session((folder / "fcos.onnx").read_bytes()), spec.score_threshold, None)
    weights = read_arrays(shared / "upstream/3DDFA_V2/FaceBoxes/weights/FaceBoxesProd.pth")
    theirs = make_detector(DetectorSpec("faceboxes", "", 0.5, FIT), session(onnx_graphs.faceboxes(weights)), 0.5, None)
    both = {"fcos": ours, "faceboxes": theirs}
    find = {name: one for name, one in teachers(shared).items() if name != "faceboxes"}
    for name, detect in {**both, "built-in model, its regressor asked": builtin_model_finder()}.items():
        print(f"\n{name} on aflw2000_dev\n" + recall_table(detect, shared / "data/aflw2000_dev", find))
    print("\nfaces found: fcos, faceboxes")
    for path in photographs(shared):
        image = read_picture(path)
        print(f"  {path.name}: " + ", ".join(str(len(detect(image).scores)) for detect in both.values()))
    print()
    times(both, session((folder / "fcos.onnx").read_bytes()), session(onnx_graphs.faceboxes(weights)))


def builtin_model_finder() -> Detector:
    """The faces of the built-in model: its detector's boxes that its regressor takes for faces too."""
    bundle = load_bundle(builtin_folder())
    model, (_, spec) = loaded_model(str(bundle.folder), bundle.digest), bundle.detector(None)
    regressor = Regressor(model.regressor, bundle.manifest)
    find = FaceFinder(spec, model.detector_session(spec), regressor, spec.face_threshold)
    return lambda image, pass_scale=1.0: find(image).detections


def recall_table(detect: Detector, folder: Path, find: dict[str, Teacher]) -> str:
    """Recall and extra boxes on AFLW2000-3D photographs: a face is found by a box that holds its landmarks' mean."""
    table = pq.read_table(folder / "labels.parquet")
    points = table["pts68"].combine_chunks().flatten().to_numpy().reshape(-1, 3, 68)[:, :2].transpose(0, 2, 1) - 1
    yaws = np.abs(table["yaw_deg"].to_numpy())
    found, halves, ious, missed = np.zeros(len(points), bool), np.zeros(len(points), bool), [], []
    extra = again = 0
    for i, (name, face) in enumerate(zip(table["name"].to_pylist(), points, strict=True)):
        image = read_picture(folder / name)
        boxes, centre = detect(image).boxes, face.mean(axis=0)
        others = np.arange(len(boxes))
        its = match_box(boxes, centre)
        if its is not None:
            found[i] = True
            others = np.delete(others, its)
            ious.append(overlap(boxes[its], boxes_of(face[None])[0]))
            halves[i] = ious[-1] >= 0.5
        else:
            missed.append(name)
        for j in others:
            extra += 1
            also_there = (at_scales(one, image, (1, 2))[0] for one in find.values())
            again += any(len(b) and overlap(boxes[[j]], b).max() > 0.4 for b in also_there)
    bins = [found[(yaws >= low) & (yaws < low + 30)] for low in (0, 30, 60)]
    return (
        f"  labelled face found in {found.mean():.2%} of {len(found):,} photographs "
        f"(by yaw {', '.join(f'{b.mean():.2%}' for b in bins)}; with an overlap of half, {halves.mean():.2%}; "
        f"median overlap {np.median(ious):.2f})\n"
        f"  {extra} extra boxes ({extra / len(found):.2%}), on {again} of which {' or '.join(find)} finds a face too\n"
        f"  missed: {', '.join(missed)}"
    )


def photographs(shared: Path) -> list[Path]:
    """The example photographs, two portraits that come with Python packages, and two pictures without a face."""
    paths = sorted((shared / "upstream/3DDFA_V2/examples/inputs").glob("*.jpg"))
    for package, files in PACKAGED_PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            print(f"{package} is not installed: without {', '.join(files)}")
            continue
        paths += [Path(spec.origin).parent / file for file in files]
    return paths


def times(both: dict[str, Detector], ours: ort.InferenceSession, theirs: ort.InferenceSession) -> None:
    """Medians in ms, one thread, the two by turns: the networks alone on the same input, then all of a call."""
    rng = np.random.default_rng(0)
    for height, width in ((448, 448), (480, 640), (704, 1088)):
        planes = rng.uniform(0, 255, (1, 3, height, width)).astype(np.float32)
        runs = [partial(net.run, None, {"input": planes}) for net in (ours, theirs)]
        print(f"network, {height}×{width}: fcos {{:.2f}}, faceboxes {{:.2f}} ms".format(*by_turns(runs)))
    for height, width in ((450, 450), (720, 1080)):
        noise = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        image = np.asarray(cv2.GaussianBlur(noise, (0, 0), 5), np.uint8)
        runs = [partial(detect, image) for detect in both.values()]
        print(f"whole call, {height}×{width}: fcos {{:.2f}}, faceboxes {{:.2f}} ms".format(*by_turns(runs)))


def by_turns(runs: Sequence[Callable[[], object]]) -> list[float]:
    spent: list[list[float]] = [[] for _ in runs]
    for _ in range(REPEATS):
        for run, row in zip(runs, spent, strict=True):
            begun = time.perf_counter()
            run()
            row.append((time.perf_counter() - begun) * 1e3)
    return [float(np.median(row)) for row in spent]
