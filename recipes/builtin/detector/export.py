"""The checkpoint that becomes the detector, its least score and its roi, all chosen by validation."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.decoding import Document, decode_object, typed
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.schemas.errors import BundleError, InputError
from ddfa_batch.tasks.files.atomic import write_json
from ddfa_batch.tasks.geometry.boxes import overlap
from ddfa_batch.tasks.geometry.crop import roi_from_boxes, roi_from_landmarks
from ddfa_batch.tasks.inference.detectors import Detector, make_detector
from recipes.builtin.detector import collage
from recipes.builtin.detector.pictures import (
    Sources,
    boxes_of,
)
from recipes.builtin.detector.teachers import (
    session,
)
from recipes.builtin.detector.validation import (
    FIT,
    VALIDATION_SIDE,
    least_faults,
    sources,
    tally,
    validation_pictures,
)

#: How many of the last checkpoints are compared.
LAST = 4
#: Crops from which the roi is fitted.
N_FOR_ROI = 1500


def export(work: Path) -> None:
    """Choose the checkpoint, its least score and its roi by validation, and write fcos.onnx and fcos.json."""
    folder = work / "detector"
    pictures = validation_pictures(sources(work, "validation"))
    judged = {}
    for path in sorted((folder / "tuned").glob("step*.onnx"))[-LAST:]:
        detect = make_detector(DetectorSpec("fcos", "", 0.05, FIT), session(path.read_bytes()), 0.05, None)
        tallies = {name: tally(detect, layers) for name, layers in pictures.items()}
        judged[path] = faults, score = least_faults(tallies["portraits"], tallies["empty"])
        shown = "; ".join(f"{n} {t.recall(score):.2%}/{t.extras(score):.3f}" for n, t in tallies.items())
        print(f"{path.name}: least score {score:.2f}, misses and extra boxes {faults:.2%}: {shown}", flush=True)
    path = min(judged, key=lambda p: judged[p][0])
    content, score = path.read_bytes(), judged[path][1]
    detect = make_detector(DetectorSpec("fcos", "", score, FIT), session(content), score, None)
    scale, shift, error = fitted_roi(detect, sources(work, "train"))
    (folder / "fcos.onnx").write_bytes(content)
    spec = DetectorSpec("fcos", "detectors/fcos.onnx", score, FIT, scale, shift)
    write_json(folder / "fcos.json", {**asdict(spec), "sha256": hashlib.sha256(content).hexdigest()})
    print(
        f"{path.name} becomes fcos.onnx: {len(content):,} bytes, least score {score}, roi_scale {scale}, "
        f"roi_shift {shift}; its rois are {error:.1%} of a side off those of the landmarks (median)"
    )


def last_graph(folder: Path) -> Path:
    """The last checkpoint's graph in a folder; raises `InputError` where there is none."""
    graphs = sorted(folder.glob("step*.onnx"))
    if not graphs:
        raise InputError(f"{folder} holds no step*.onnx; train first, or name a detector with --start.")
    return graphs[-1]


def exported_spec(folder: Path) -> DetectorSpec:
    """What `export` wrote of fcos.onnx."""
    document = Document(str(folder / "fcos.json"), BundleError, "export the detector again")
    content = decode_object((folder / "fcos.json").read_bytes(), document)
    del content["sha256"]
    return typed(content, DetectorSpec, document)


def fitted_roi(detect: Detector, train: Sources) -> tuple[float, float, float]:
    """roi_scale and roi_shift by least squares, so that `roi_from_boxes` gives what `roi_from_landmarks` would.

    Over training crops that stand in a picture; with the median distance of the corners, in sides of the roi.
    """
    rng = np.random.default_rng(1)
    found, wanted = [], []
    for i in rng.choice(len(train.crops), min(N_FOR_ROI, len(train.crops)), replace=False):
        layer = collage.framed(train.crops.picture(i), train, VALIDATION_SIDE, rng)
        boxes = detect(layer.image).boxes
        if len(boxes) and (iou := overlap(boxes, boxes_of(layer.points[:1]))).max() >= 0.5:
            found.append(boxes[iou.argmax()])
            wanted.append(roi_from_landmarks(layer.points[:1])[0])
    box, roi = np.array(found, np.float64), np.array(wanted)
    size = ((box[:, 2] - box[:, 0]) + (box[:, 3] - box[:, 1])) / 2
    side = roi[:, 2] - roi[:, 0]
    lower = (roi[:, 1] + roi[:, 3] - box[:, 1] - box[:, 3]) / 2
    # Divided by the side, so that every face counts alike: side ≈ scale·size and lower ≈ shift·size.
    scale = float((size / side).sum() / ((size / side) ** 2).sum())
    shift = float((lower * size / side**2).sum() / ((size / side) ** 2).sum())
    scale, shift = round(scale, 3), round(shift, 3)
    error = np.abs(roi_from_boxes(box, scale, shift) - roi).max(axis=1) / side
    return scale, shift, float(np.median(error))
