"""What a face must score, upright and turned, and when no further pass is made: chosen by pictures held back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ddfa_batch.schemas.arrays import Bools
from ddfa_batch.schemas.detectors import DetectionPass, DetectorSpec, Glance
from ddfa_batch.tasks.inference.face_finder import FaceCandidates, FaceFinder, best_pass
from recipes.builtin.detector import collage
from recipes.builtin.detector.light import photometric_jitter
from recipes.builtin.detector.pictures import Layer, Pictures, Sources
from recipes.builtin.detector.validation import VALIDATION_SIDE, match_faces, validation_pictures

#: The passes: where no face scores more than `stop_score`, the picture is looked at again smaller, then for heads that
#: lie: smaller too, which takes half the time for as many heads and fewer false alarms. Where the whole picture shows
#: nothing that might be a face, the smaller upright looks found none either; heads that lie were found there.
PASSES = (
    DetectionPass(),
    DetectionPass(0.7, doubt=0.1),
    DetectionPass(0.5, doubt=0.1),
    DetectionPass(0.7, rotations=(90, -90, 180)),
)
#: What settles pictures of large faces. Of copies of 224 and 256 pixels, sizes and scores for doubt, one of those that
#: settle most and cost no face of the validation pictures, collages of small faces and photographs of crowds.
GLANCE = Glance(longest_side=256, least_size=64.0, doubt=0.35)
#: Extra boxes a picture that are borne, of the upright passes (half of what version 1 of the model has
#: on these pictures), and as many more of the turned one.
MOST_EXTRA, MOST_TURNED = 0.005, 0.002
#: What is chosen among: scores of a face, and scores after which no further pass is made.
SCORES = np.round(np.arange(0.2, 0.995, 0.01), 2)
STOP_SCORES = (0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
#: How far lying heads lean, and how far those upside down are from it, degrees; and how many there are of each.
LYING, UPSIDE_DOWN, N_LYING, N_DOWN = (60.0, 120.0), 40.0, 300, 150


@dataclass(frozen=True)
class Look:
    """A picture, and what was found in it, pass by pass, whatever it scores."""

    #: The picture and its faces.
    layer: Layer
    #: What every pass found; without crops.
    passes: tuple[FaceCandidates, ...]
    #: Whether its face lies, so that only the turned pass sees it upright.
    lies: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a choice of thresholds makes of pictures."""

    #: Faces, those of them that are found, and those that are found by the pass that sees them upright.
    faces: int
    found: int
    upright: int
    #: Other boxes, and pictures.
    extra: int
    pictures: int

    def __str__(self) -> str:
        share, extra = self.found / max(self.faces, 1), self.extra / max(self.pictures, 1)
        return f"{share:.2%} of {self.faces:,} faces found, {extra:.2%} extra boxes in {self.pictures:,} pictures"


def look(find: FaceFinder, layers: Iterable[Layer], lies: bool = False) -> list[Look]:
    """What `find` finds in the pictures of `layers`, in every pass."""
    return [Look(layer, tuple(map(_without_crops, find.passes(layer.image))), lies) for layer in layers]


def _without_crops(found: FaceCandidates) -> FaceCandidates:
    return replace(found, crops=np.zeros((len(found), 0, 0, 3), np.uint8))


def lying_pictures(held: Sources, n: int, lean: tuple[float, float], rng: np.random.Generator) -> list[Layer]:
    """Pictures of one face each that leans by so many degrees, to either side."""
    layers = []
    for i in range(n):
        source: Pictures = held.portraits if i % 2 else held.crops
        face = source.picture(int(rng.integers(len(source))))
        roll = float(rng.choice([-1, 1]) * rng.uniform(*lean))
        layer = collage.framed(face, held, VALIDATION_SIDE, rng, roll)
        layers.append(Layer(photometric_jitter(layer.image, rng), layer.points, layer.ignored))
    return layers


def outcome(looks: Sequence[Look], thresholds: Sequence[float], stop_score: float) -> Outcome:
    """What is found where a face of each pass scores more than its threshold; fewer thresholds are fewer passes."""
    faces = found = upright = extra = 0
    for each in looks:
        told = best_pass(each.passes, thresholds, stop_score)
        which, others = match_faces(told.detections.boxes, each.layer)
        hits = sum(i is not None for i in which)
        faces, found, extra = faces + len(which), found + hits, extra + int(others.sum())
        upright += hits * (_is_turned(each, told) == each.lies)
    return Outcome(faces, found, upright, extra, len(looks))


def _is_turned(each: Look, told: FaceCandidates) -> bool:
    last = each.passes[-1].detections.scores
    upright = [found.best_score for found in each.passes[:-1]]
    return bool(len(told) and len(last) and told.best_score == last[0] and told.best_score > max(upright, default=-1.0))


def face_score(looks: Sequence[Look], stop_score: float) -> float:
    """The first of `SCORES` with no more than `MOST_EXTRA` extra boxes a picture in the upright passes."""
    for score in SCORES:
        told = outcome(looks, [score] * (len(PASSES) - 1), stop_score)
        if told.extra <= MOST_EXTRA * told.pictures:
            break
    return float(score)


def turned_score(looks: Sequence[Look], least: float, stop_score: float) -> float:
    """The first of `SCORES` from `least` up with which the turned pass adds no more than `MOST_TURNED` extra boxes."""
    upright = [least] * (len(PASSES) - 1)
    before = outcome(looks, upright, stop_score).extra
    for score in SCORES[least <= SCORES]:
        told = outcome(looks, [*upright, score], stop_score)
        if told.extra - before <= MOST_TURNED * told.pictures:
            break
    return float(score)


def best_stop_score(looks: Sequence[Look], thresholds: Sequence[float]) -> float:
    """That of `STOP_SCORES` with most faces found upright, less the extra boxes; of equals the least: it is quick."""
    told = {score: outcome(looks, thresholds, score) for score in STOP_SCORES}
    return max(STOP_SCORES, key=lambda score: (told[score].upright - told[score].extra, -score))


def with_thresholds(find: FaceFinder, spec: DetectorSpec, held: Sources) -> DetectorSpec:
    """The detector's description with the thresholds that pictures of `held` choose; tells what they lead to.

    `find` finds by `spec` with the passes of `PASSES` and no threshold.
    """
    rng = np.random.default_rng(5)
    pictures = validation_pictures(held)
    upright = look(find, pictures["portraits"] + pictures["empty"])
    lying = look(find, lying_pictures(held, N_LYING, LYING, rng), lies=True)
    down = look(find, lying_pictures(held, N_DOWN, (180 - UPSIDE_DOWN, 180 + UPSIDE_DOWN), rng), lies=True)
    stop = STOP_SCORES[3]
    for _ in range(2):  # each depends a little on the other
        least = face_score(upright, stop)
        turned = turned_score(upright + lying + down, least, stop)
        stop = best_stop_score(upright + lying + down, [least, least, least, turned])
    for name, looks in (("upright or none", upright), ("lying", lying), ("upside down", down)):
        print(f"{name}: {outcome(looks, [least, least, least, turned], stop)}")
    print(f"face_score {least}, turned {turned}, stop_score {stop}", flush=True)
    passes = (*PASSES[:-1], replace(PASSES[-1], score_threshold=turned if turned > least else 0.0))
    return replace(spec, face_score=least, passes=passes, stop_score=stop, glance=GLANCE)


def is_true(looks: Sequence[Look], which_pass: int) -> tuple[np.ndarray, Bools]:
    """Scores (N,) of the boxes of one pass, and which (N,) of them are faces; those of unsure truth left out."""
    scores, truth = [], []
    for each in looks:
        found = each.passes[which_pass].detections
        hits, others = match_faces(found.boxes, each.layer)
        true = [i for i in hits if i is not None]
        rows = np.array([*true, *np.flatnonzero(others)], int)
        scores.append(found.scores[rows])
        truth.append(np.arange(len(rows)) < len(true))
    return np.concatenate(scores), np.concatenate(truth)
