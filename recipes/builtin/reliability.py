"""How far a model's scores are probabilities: a reliability table and diagram, of pictures kept from its training.

    python -m recipes.builtin.reliability WORK [--model builtin] [--pictures 1500] [--draw docs/reliability.png]

Two scores are judged: what `process` tells of the boxes of its first look at a picture, and what the tracker follows a
face by, the regressor's say alone. Of the second is told which score half of the boxes are faces at, and how many
faces and other things are still followed above some scores. Pictures are made as those that train, of WORK/detector's
validation part: half of them hold one face, a third none, the others several.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import F32, Bools
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.inference.detectors import make_detector
from ddfa_batch.tasks.inference.regressor import Regressor, combined_scores
from recipes.builtin.calibration import Reliability, diagram, platt
from recipes.builtin.detector.pictures import Layer
from recipes.builtin.detector.validation import match_faces, sources
from recipes.builtin.face_boxes import calibration_pictures

#: How many pictures are looked at, and above which scores faces and other things are followed.
N_PICTURES, FOLLOWED = 1500, (0.2, 0.3, 0.4, 0.5, 0.6)


@dataclass(frozen=True)
class ScoredBoxes:
    """N boxes of a detector's first look, those of unsure truth left out."""

    #: (N,), by detector and regressor together.
    together: F32
    #: (N,), by the regressor alone.
    alone: F32
    #: (N,).
    is_face: Bools


def scored_boxes(model: str, layers: Iterable[Layer]) -> ScoredBoxes:
    """The boxes that a bundle's default detector shows its regressor in the pictures of `layers`."""
    bundle = find_bundle(model, Path())
    loaded, (_, spec) = loaded_model(str(bundle.folder), bundle.digest), bundle.detector(None)
    detect = make_detector(spec, loaded.detector_session(spec), spec.candidate_threshold, None)
    regress = Regressor(loaded.regressor, bundle.manifest)
    together, alone, truth = [], [], []
    for layer in layers:
        found = detect(layer.image)
        hits, others = match_faces(found.boxes, layer)
        true = [i for i in hits if i is not None]
        rows = np.array([*true, *np.flatnonzero(others)], int)
        rois = crop.roi_from_boxes(found.boxes[rows], spec.roi_scale, spec.roi_shift)
        _, face = regress.with_faces(crop.crops(layer.image, rois, regress.size))
        together.append(combined_scores(found.scores[rows], face, spec.detector_weight))
        alone.append(combined_scores(found.scores[rows], face, 0.0))
        truth.append(np.arange(len(rows)) < len(true))
    return ScoredBoxes(np.concatenate(together), np.concatenate(alone), np.concatenate(truth))


def followed(boxes: ScoredBoxes) -> str:
    """What the tracker's least score keeps and what it gives up, in words."""
    score = np.clip(boxes.alone.astype(np.float64), 1e-6, 1 - 1e-6)
    slope, offset = platt(np.log(score / (1 - score)), boxes.is_face)
    rows = [f"Half of the boxes that score {1 / (1 + np.exp(offset / slope)):.2f} by the regressor alone are faces."]
    for least in FOLLOWED:
        kept, others = ((boxes.alone[which] > least).mean() for which in (boxes.is_face, ~boxes.is_face))
        rows.append(f"Above {least}: {kept:.1%} of the faces, {others:.1%} of the other boxes.")
    return "\n".join(rows)


def main(words: Sequence[str] | None = None) -> None:
    """Print the table, and draw the diagram if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default="builtin", help="builtin, or a bundle's folder")
    parser.add_argument("--pictures", type=int, default=N_PICTURES)
    parser.add_argument("--draw", type=Path)
    arguments = parser.parse_args(words)
    held = sources(arguments.work, "validation")
    boxes = scored_boxes(arguments.model, calibration_pictures(held, arguments.pictures))
    curves = {
        "detector and regressor": Reliability.of(boxes.together, boxes.is_face),
        "regressor alone": Reliability.of(boxes.alone, boxes.is_face),
    }
    for name, curve in curves.items():
        print(f"{name}: {curve.error:.1%} off\n{curve.table()}\n")
    print(followed(boxes))
    if arguments.draw:
        diagram(curves, arguments.draw)


if __name__ == "__main__":
    main()
