"""What the detector's glance and doubt cost on the validation pictures: faces found, other boxes, errors, time.

    python -m recipes.builtin.glance WORK [--model builtin]

WORK is `prepare`'s. Every picture is looked at both ways, one after the other; faces are refined once. Errors are those
of the points that a person marked, medians, in % of √(w·h) of their box; collages and scenes have others, too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.config import BUILTIN, BUILTIN_MODELS
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.tasks.bundles.loaded_model import LoadedModel, loaded_model
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.evaluation.landmark_errors import nme
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points
from ddfa_batch.tasks.inference.face_finder import FaceFinder
from ddfa_batch.tasks.inference.refinement import refine
from ddfa_batch.tasks.inference.regressor import Regressor
from recipes.builtin.detector.pictures import Layer
from recipes.builtin.detector.validation import match_faces, sources, validation_pictures
from recipes.builtin.thresholds import LYING, N_DOWN, N_LYING, UPSIDE_DOWN, lying_pictures

#: Pictures of one face each, marked by a person.
MARKED = ("portraits", "lying", "upside down")


@dataclass
class Way:
    """One way of looking at pictures, and what came of it."""

    find: FaceFinder
    regress: Regressor
    landmarks: PointBasis
    faces: int = 0
    found: int = 0
    extra: int = 0
    seconds: float = 0.0
    errors: list[float] = field(default_factory=list)

    @staticmethod
    def of(model: LoadedModel, spec: DetectorSpec) -> Way:
        """A way that has looked at nothing yet."""
        regress = Regressor(model.regressor, model.bundle.manifest)
        basis = PointBasis.of(model.morphable, model.morphable.landmarks)
        return Way(FaceFinder(spec, model.detector_session(spec), regress, spec.face_threshold), regress, basis)

    def look(self, layer: Layer) -> None:
        """Look at one more picture."""
        began = time.thread_time()
        faces = refine(layer.image, self.find(layer.image), self.regress, self.landmarks)
        self.seconds += time.thread_time() - began
        which, others = match_faces(faces.detections.boxes, layer)
        hits = [row for row in which if row is not None]
        self.faces, self.found, self.extra = self.faces + len(which), self.found + len(hits), self.extra + others.sum()
        if len(which) == len(hits) == len(layer.points) == 1:
            seen = points(self.landmarks, faces.params[hits], faces.rois[hits], self.regress.size)[..., :2]
            self.errors += list(nme(seen, np.asarray(layer.points[0], np.float32)[None]))

    def __str__(self) -> str:
        return f"{self.found} of {self.faces} faces, {self.extra} other boxes"


def compared(model: LoadedModel, spec: DetectorSpec, layers: Iterable[Layer], marked: bool) -> str:
    """What came of both ways; with their errors where a person marked the points."""
    thorough = replace(spec, glance=None, passes=tuple(replace(each, doubt=None) for each in spec.passes))
    before, after = Way.of(model, thorough), Way.of(model, spec)
    for layer in layers:
        before.look(layer)
        after.look(layer)
    errors = [f", error {np.median(way.errors):.3f} %" if marked and way.errors else "" for way in (before, after)]
    times = f"time ×{after.seconds / before.seconds:.2f}"
    return f"without: {before}{errors[0]}; with: {after}{errors[1]}; {times}"


def main(words: Sequence[str] | None = None) -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", choices=BUILTIN_MODELS, default=BUILTIN)
    arguments = parser.parse_args(words)
    cv2.setNumThreads(1)
    bundle = find_bundle(arguments.model, Path())
    _, spec = bundle.detector(None)
    model, held = loaded_model(str(bundle.folder), bundle.digest), sources(arguments.work, "validation")
    rng, pictures = np.random.default_rng(5), validation_pictures(held)
    pictures["lying"] = lying_pictures(held, N_LYING, LYING, rng)
    pictures["upside down"] = lying_pictures(held, N_DOWN, (180 - UPSIDE_DOWN, 180 + UPSIDE_DOWN), rng)
    for name, layers in pictures.items():
        print(f"{name}: {compared(model, spec, layers, name in MARKED)}", flush=True)


if __name__ == "__main__":
    main()
