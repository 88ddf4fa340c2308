"""Crops of what the detector takes for a face and is none: what a regressor learns to tell from faces.

    python -m recipes.builtin.distractors WORK DETECTOR [--pictures 12000]

DETECTOR holds fcos.onnx and fcos.json. Pictures of what the detector was trained on, most of them without a face and a
tenth upside down, are looked at; the crops of the boxes that lie on no face go to WORK/distractors as WebP files.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.inference.detectors import Detector, make_detector
from recipes.builtin.detector.export import exported_spec
from recipes.builtin.detector.pictures import Sources
from recipes.builtin.detector.teachers import session
from recipes.builtin.detector.validation import match_faces, sources
from recipes.builtin.face_boxes import EMPTIER, training_pictures
from recipes.builtin.terms import SIZE

#: Least score of a box, lower than where a regressor is asked, for variety; how many of a picture are kept, best first.
LEAST_SCORE, MOST = 0.1, 4
#: WebP's quality.
_QUALITY = 90


def distractors(part: Sources, detect: Detector, spec: DetectorSpec, n_pictures: int) -> Iterator[U8]:
    """Crops (SIZE, SIZE, 3) of what `detect` finds and is no face, in so many pictures."""
    for layer in training_pictures(part, n_pictures, EMPTIER):
        found = detect(layer.image)
        _, others = match_faces(found.boxes, layer)
        rows = np.flatnonzero(others)[:MOST]
        if len(rows):
            rois = crop.roi_from_boxes(found.boxes[rows], spec.roi_scale, spec.roi_shift)
            yield from crop.crops(layer.image, rois, SIZE)


def main(words: Sequence[str] | None = None) -> None:
    """The step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("detector", type=Path)
    parser.add_argument("--pictures", type=int, default=12_000)
    arguments = parser.parse_args(words)
    folder = arguments.work / "distractors"
    folder.mkdir(parents=True, exist_ok=True)
    spec, graph = exported_spec(arguments.detector), (arguments.detector / "fcos.onnx").read_bytes()
    detect = make_detector(spec, session(graph), LEAST_SCORE, None)
    n = 0
    for image in distractors(sources(arguments.work, "train"), detect, spec, arguments.pictures):
        cv2.imwrite(str(folder / f"{n:06d}.webp"), image, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
        n += 1
    print(f"{folder}: {n:,} crops of what is no face, of {arguments.pictures:,} pictures")


if __name__ == "__main__":
    main()
