"""What the built-in detector's glance, and its doubt, save and change: looks, faces and time with them and without.

    python benchmarks/glance.py FOLDER [FOLDER…] [--model builtin] [--images 300]

Pictures of each folder go through both ways by turns, picture by picture, in this process and one thread, refined once
and already decoded. A face of one way is that of the other which overlaps it most. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.tasks.bundles.loaded_model import LoadedModel, loaded_model
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.files.format_signatures import SUFFIXES
from ddfa_batch.tasks.geometry.boxes import box_sizes, landmark_boxes, overlap
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points
from ddfa_batch.tasks.inference.face_finder import FaceFinder
from ddfa_batch.tasks.inference.refinement import distinct_faces, refine
from ddfa_batch.tasks.inference.regressor import Regressor

#: Overlap from which faces of both ways are one.
SAME = 0.4


class Counted:
    """A network that counts its runs and what it is shown in them."""

    def __init__(self, session: Any) -> None:
        self._session, self.runs, self.shown = session, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, outputs: list[str], given: dict[str, np.ndarray]) -> Any:
        """What the network answers."""
        self.runs, self.shown = self.runs + 1, self.shown + len(next(iter(given.values())))
        return self._session.run(outputs, given)


@dataclass
class Way:
    """One way of looking, and what it came to."""

    find: FaceFinder
    regress: Regressor
    detector: Counted
    network: Counted
    landmarks: PointBasis
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    @staticmethod
    def of(model: LoadedModel, spec: DetectorSpec) -> Way:
        """A way with networks of its own to count."""
        detector, network = Counted(model.detector_session(spec)), Counted(model.regressor)
        regress = Regressor(network, model.bundle.manifest)
        find = FaceFinder(spec, detector, regress, spec.face_threshold)
        return Way(find, regress, detector, network, PointBasis.of(model.morphable, model.morphable.landmarks))

    def look(self, image: np.ndarray) -> np.ndarray:
        """Landmarks (N, 68, 3) of the faces."""
        began, runs = time.thread_time(), self.detector.runs
        faces = refine(image, self.find(image), self.regress, self.landmarks)
        faces = distinct_faces(faces, self.regress, self.landmarks)
        found = points(self.landmarks, faces.params, faces.rois, self.regress.size)
        self.seconds += time.thread_time() - began
        self.counts.update(pictures=1, faces=len(found), once=self.detector.runs - runs == 1)
        return found


def shares_moved(here: np.ndarray, there: np.ndarray) -> tuple[list[float], int]:
    """By how much landmarks of faces in both ways differ, in shares of the face's size; and faces of `here` alone."""
    if not len(here) or not len(there):
        return [], len(here)
    overlaps = overlap(landmark_boxes(here)[:, None], landmark_boxes(there))
    of, best = overlaps.argmax(axis=1), overlaps.max(axis=1)
    apart = np.linalg.norm(here - there[of], axis=2).mean(axis=1) / box_sizes(landmark_boxes(here))
    return list(apart[best > SAME]), int((best <= SAME).sum())


def compared(folder: Path, most: int, model: LoadedModel, spec: DetectorSpec) -> str:
    """A line of the table."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:most]
    thorough = replace(spec, glance=None, passes=tuple(replace(each, doubt=None) for each in spec.passes))
    before, after = Way.of(model, thorough), Way.of(model, spec)
    moved: list[float] = []
    lost = added = 0
    for number, path in enumerate(paths):
        image = cv2.imread(str(path))
        if image is None:
            continue
        ways = (before, after) if number % 2 else (after, before)
        found = {id(way): way.look(image) for way in ways}
        here, there = found[id(before)], found[id(after)]
        apart, alone = shares_moved(here, there)
        moved, lost, added = moved + apart, lost + alone, added + shares_moved(there, here)[1]
    n = max(before.counts["pictures"], 1)
    parts = [
        f"{folder.name}, {n} pictures",
        f"{before.counts['faces']}, {lost} only there",
        f"{after.counts['faces']}, {added} only there",
        f"{before.detector.runs / n:.2f} → {after.detector.runs / n:.2f}",
        f"{before.network.shown / n:.2f} → {after.network.shown / n:.2f}",
        f"{after.counts['once'] / n:.0%}",
        f"×{after.seconds / max(before.seconds, 1e-9):.2f}",
        " and ".join(f"{1e3 * share:.1f}" for share in np.percentile(moved or [0.0], (50, 99))),
    ]
    return f"| {' | '.join(parts)} |"


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--model", default=BUILTIN)
    parser.add_argument("--images", type=int, default=300)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = find_bundle(arguments.model, default_models_folder())
    _, spec = bundle.detector(None)
    model = loaded_model(str(bundle.folder), bundle.digest)
    print("| | faces without | faces with | looks | crops | one look | time | moved, ‰ of a face |")
    print("|---|---|---|---|---|---|---|---|")
    for folder in arguments.folders:
        print(compared(folder, arguments.images, model, spec), flush=True)


if __name__ == "__main__":
    main()
