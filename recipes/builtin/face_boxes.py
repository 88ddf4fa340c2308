"""Boxes that the detector shows the regressor, and what that sees in them: what the face head learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, Bools
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.inference.detectors import make_detector
from ddfa_batch.tasks.inference.regressor import log_odds
from recipes.builtin.detector import collage
from recipes.builtin.detector.light import photometric_jitter
from recipes.builtin.detector.pictures import Layer, Sources, no_faces, points_in_box
from recipes.builtin.detector.teachers import session
from recipes.builtin.detector.validation import VALIDATION_SIDE, match_faces
from recipes.builtin.regressor_graph import Seen
from recipes.builtin.terms import SIZE

#: Boxes of a lower score are not shown to the regressor; and, so that it learns from more, teach it nothing.
CANDIDATE_THRESHOLD, TEACHING_THRESHOLD = 0.35, 0.25
#: Share of the pictures that are upside down: what is found there is not to be taken for a face as it stands.
UPSIDE_DOWN = 0.1
#: Shares of portraits, crops, pictures without a face, and collages: as they are met, and where most show no face.
KINDS, EMPTIER = (0.2, 0.3, 0.3, 0.2), (0.1, 0.15, 0.6, 0.15)
#: How many of the latter there are for one of the former, where faces and what is none are learnt from.
EMPTIER_SHARE = 1.5
#: Of the pictures of either kind, and of those that calibrate.
_SEED, _EMPTIER_SEED, _CALIBRATING_SEED = 77, 177, 78


@dataclass(frozen=True)
class BoxSamples:
    """N boxes that the detector would show the regressor; boxes of unsure truth left out."""

    #: (N,), the detector's log odds.
    odds: F64
    #: (N, F), by the regressor in the crop of its roi.
    seen: F32
    #: (N,).
    is_face: Bools


def boxes_seen(see: Seen, spec: DetectorSpec, content: bytes, layers: Iterable[Layer]) -> BoxSamples:
    """What the detector in `content`, and the regressor, make of the pictures of `layers`."""
    detect = make_detector(spec, session(content), TEACHING_THRESHOLD, None)
    odds, seen, is_face = [], [], []
    for layer in layers:
        found = detect(layer.image)
        hits, others = match_faces(found.boxes, layer)
        true = [i for i in hits if i is not None]
        rows = np.array([*true, *np.flatnonzero(others)], int)
        odds.append(log_odds(found.scores[rows]))
        rois = crop.roi_from_boxes(found.boxes[rows], spec.roi_scale, spec.roi_shift)
        if len(rows):
            seen.append(see(crop.crops(layer.image, rois, SIZE)))
        is_face += [True] * len(true) + [False] * (len(rows) - len(true))
    return BoxSamples(np.concatenate(odds), np.concatenate(seen), np.array(is_face, np.bool_))


def teaching_pictures(train: Sources, n: int) -> Iterator[Layer]:
    """What a face head learns from: n pictures as they are met, and then `EMPTIER_SHARE` times as many emptier ones."""
    yield from training_pictures(train, n, KINDS, _SEED)
    yield from training_pictures(train, int(EMPTIER_SHARE * n), EMPTIER, _EMPTIER_SEED)


def training_pictures(train: Sources, n: int, kinds: Sequence[float], seed: int = _SEED) -> Iterator[Layer]:
    """Pictures such as the detector meets, and collages, of what it was trained on; those upside down show no face."""
    rng = np.random.default_rng(seed)
    for layer in _right_way_up(train, n, rng, kinds):
        if rng.random() < UPSIDE_DOWN:
            yield Layer(np.ascontiguousarray(layer.image[::-1, ::-1]), no_faces(), np.zeros(0, bool))
        else:
            yield layer


def calibration_pictures(held: Sources, n: int) -> Iterator[Layer]:
    """Pictures such as the detector meets, of what was kept from training."""
    return _right_way_up(held, n, np.random.default_rng(_CALIBRATING_SEED))


def _right_way_up(train: Sources, n: int, rng: np.random.Generator, kinds: Sequence[float] = KINDS) -> Iterator[Layer]:
    for _ in range(n):
        kind = rng.choice(4, p=kinds)
        if kind == 3:
            image, boxes, ignored = collage.collage(train, VALIDATION_SIDE, rng)
            yield Layer(image, points_in_box(boxes), ignored)
            continue
        if kind == 2:
            layer = collage.without_faces(train, VALIDATION_SIDE, rng)
        else:
            face = train.portrait(rng) if kind == 0 else train.crop(rng)
            layer = collage.framed(face, train, VALIDATION_SIDE, rng)
        yield Layer(photometric_jitter(layer.image, rng), layer.points, layer.ignored)
