"""What a detector says about pictures that no training saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import F64, Bools
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.tasks.geometry.boxes import overlap
from ddfa_batch.tasks.inference.detectors import Detector, make_detector
from recipes.builtin.detector import collage
from recipes.builtin.detector.light import photometric_jitter
from recipes.builtin.detector.pictures import (
    Layer,
    Pictures,
    Sources,
    boxes_of,
    inside,
    points_in_box,
    seen_from_the_side,
)
from recipes.builtin.detector.teachers import (
    Boxes,
    session,
)

#: Largest picture that the detector is shown, (height, width); larger ones are made smaller.
FIT = (720, 1080)
#: Side of the validation pictures of one face or none, and of the validation collages, pixels.
VALIDATION_SIDE, COLLAGE_SIDE = 450, 384
#: Scores at which validation is shown.
SHOWN = (0.3, 0.4, 0.5, 0.6)
#: How many validation pictures there are of each kind.
N_VALIDATION = {"portraits": 250, "crops": 500, "empty": 300, "collages": 150}


def sources(work: Path, part: str) -> Sources:
    """The pictures of WORK/detector that `part`, "train" or "validation", with what was mistaken if that was sought."""
    names = ("crops", "portraits", "scenes", "empty", "mistaken")
    files = [work / f"detector/{name}-{part}.npz" for name in names]
    crops, *others = (Pictures.load(file) for file in files if file.exists())
    side = seen_from_the_side(crops.points[crops.first[:-1]])
    return Sources(crops, crops.chosen(np.flatnonzero(side)), *others)


@dataclass(frozen=True)
class Tally:
    """What a detector said about pictures."""

    #: Of each true face, the score of its best box, 0 where there is none.
    matched: F64
    #: The scores of all other boxes.
    extra: F64
    #: How many pictures it was shown.
    pictures: int

    def recall(self, score: float) -> float:
        """Share of the faces that are found above a score."""
        return float((self.matched > score).mean()) if len(self.matched) else 1.0

    def extras(self, score: float) -> float:
        """Extra boxes a picture."""
        return float((self.extra > score).sum() / self.pictures)


def validation_pictures(held: Sources) -> dict[str, list[Layer]]:
    """Pictures that no training saw: one face amid its surroundings, collages, none, and photographs of people.

    Where there are fewer pictures than `N_VALIDATION` says, all of them, and as many fewer of the other kinds.
    """
    rng = np.random.default_rng(0)
    share = min(1.0, *(len(getattr(held, name)) / N_VALIDATION[name] for name in ("portraits", "crops")))
    n_of = {name: max(1, int(share * n)) for name, n in N_VALIDATION.items()}
    portraits = []
    for source, n in ((held.portraits, n_of["portraits"]), (held.crops, n_of["crops"])):
        for i in rng.choice(len(source), n, replace=False):
            portraits.append(collage.framed(source.picture(i), held, VALIDATION_SIDE, rng))
    empty = [collage.without_faces(held, VALIDATION_SIDE, rng) for _ in range(n_of["empty"])]
    portraits, empty = (
        [Layer(photometric_jitter(layer.image, rng), layer.points, layer.ignored) for layer in layers]
        for layers in (portraits, empty)
    )
    collages = []
    for _ in range(n_of["collages"]):
        image, boxes, ignored = collage.collage(held, COLLAGE_SIDE, rng)
        collages.append(Layer(image, points_in_box(boxes), ignored))
    scenes = [held.scenes.picture(i) for i in range(len(held.scenes))]
    return {"portraits": portraits, "collages": collages, "empty": empty, "scenes": scenes}


def match_faces(boxes: Boxes, layer: Layer) -> tuple[list[int | None], Bools]:
    """Which of the boxes (N, 4), best first, is each face that is not ignored, and which (N,) are extra.

    A face is found by the best box that overlaps it by half; a box on an ignored face counts for nothing.
    """
    true = boxes_of(layer.points)
    free = np.ones(len(boxes), bool)
    found: list[int | None] = []
    for face in true[~layer.ignored]:
        hit = np.flatnonzero(free & (overlap(boxes, face) >= 0.5))[:1]
        free[hit] = False
        found.append(int(hit[0]) if len(hit) else None)
    for face in true[layer.ignored]:
        free &= (overlap(boxes, face) <= 0.2) & (inside(boxes, face) <= 0.5)
    return found, free


def tally(detect: Detector, layers: Sequence[Layer]) -> Tally:
    """What the detector says about the faces of `layers`, and what else it says."""
    matched, extra = [], []
    for layer in layers:
        found = detect(layer.image)
        faces, others = match_faces(found.boxes, layer)
        matched += [0.0 if i is None else found.scores[i] for i in faces]
        extra += list(found.scores[others])
    return Tally(np.array(matched), np.array(extra), len(layers))


def scores_line(content: bytes, pictures: dict[str, list[Layer]]) -> str:
    """Recall and extra boxes a picture of each kind of picture, at three scores."""
    detect = make_detector(DetectorSpec("fcos", "", 0.1, FIT), session(content), 0.1, None)
    parts = []
    for name, layers in pictures.items():
        t = tally(detect, layers)
        at = " ".join(f"{t.recall(s):.2%}/{t.extras(s):.3f}" for s in SHOWN)
        parts.append(f"{name} {at}")
    return "; ".join(parts)


def least_faults(portraits: Tally, empty: Tally) -> tuple[float, float]:
    """The fewest faults, and the least score, in steps of 0.01, that makes them.

    Faults: the share of faces that are missed and the extra boxes a picture, counted alike.
    """
    pictures = portraits.pictures + empty.pictures
    extra = np.concatenate([portraits.extra, empty.extra])
    scores = np.round(np.arange(0.2, 0.9, 0.01), 2)
    faults = [1 - portraits.recall(score) + (extra > score).sum() / pictures for score in scores]
    return float(np.min(faults)), float(scores[np.argmin(faults)])
