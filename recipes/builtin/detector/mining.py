"""What a detector takes for faces in training pictures without any: the pieces that the next training shows again.

After Sung and Poggio's bootstrapping (PAMI 1998, section 2.3): false alarms become examples.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.tasks.inference.detectors import Detector, make_detector
from recipes.builtin.detector.pictures import Layer, Pictures, Sources, no_faces, scaled
from recipes.builtin.detector.teachers import session
from recipes.builtin.detector.validation import FIT, match_faces, sources
from recipes.builtin.detector.wearing import headless

#: Score from which a box counts as a mistake, and how many of a look at a picture are kept, best first.
MISTAKEN, MOST = 0.15, 3
#: Sides a picture is looked at: longest side, pixels.
_SIDES = (240, 420, 720)
#: Quarter turns it is looked at.
_TURNS = (0, 1, 2, 3)
#: How much of the surroundings a piece shows: its side in longer sides of the box. Smaller pieces are left out, larger
#: ones made smaller, pixels.
_AROUND, _SHORTEST, _LONGEST = 2.2, 24, 160
#: How many pieces are kept, by chance.
MOST_PIECES = 6000
#: Portraits whose covered heads are looked at.
_N_HEADLESS = 600


def mine(work: Path, graph: Path) -> None:
    """Write WORK/detector/mistaken-train.npz: what the detector in `graph` mistakes.

    What validates is not sought: thresholds and probabilities are of pictures as they come, not of the hardest.
    """
    detect = make_detector(DetectorSpec("fcos", "", MISTAKEN, FIT), session(graph.read_bytes()), MISTAKEN, None)
    found = list(mistakes(detect, sources(work, "train")))
    kept = np.sort(np.random.default_rng(4).permutation(len(found))[:MOST_PIECES])
    Pictures.of([found[i] for i in kept]).save(work / "detector/mistaken-train.npz")
    print(f"mistaken-train: {len(kept):,} of {len(found):,} pieces", flush=True)


def mistakes(detect: Detector, part: Sources) -> Iterator[Layer]:
    """Pieces about false boxes: in empty pictures at several sizes and turns, beside faces, and on covered heads."""
    rng = np.random.default_rng(3)
    for i in range(len(part.empty)):
        image = part.empty.picture(i).image
        for turn in _TURNS:
            for side in _SIDES:
                seen = scaled(np.ascontiguousarray(np.rot90(image, turn)), side / max(image.shape[:2]), cv2.INTER_AREA)
                yield from _pieces(detect, Layer(seen, no_faces(), np.zeros(0, bool)))
    for j in np.flatnonzero(np.diff(part.scenes.first) == 0):  # elsewhere a mistake may be a face nobody marked
        yield from _pieces(detect, part.scenes.picture(int(j)))
    for j in rng.permutation(len(part.portraits))[:_N_HEADLESS]:
        cover = part.empty.picture(int(rng.integers(len(part.empty)))).image
        yield from _pieces(detect, headless(part.portraits.picture(int(j)), cover, rng))


def _pieces(detect: Detector, layer: Layer) -> Iterator[Layer]:
    boxes = detect(layer.image).boxes
    _, extra = match_faces(boxes, layer)
    for box in boxes[extra][:MOST]:
        piece = piece_about(layer.image, box)
        if min(piece.shape[:2]) >= _SHORTEST:
            yield Layer(piece, no_faces(), np.zeros(0, bool))


def piece_about(image: U8, box: F32) -> U8:
    """The square part of a picture about a box, as much of it as the picture holds."""
    centre, half = (box[:2] + box[2:]) / 2, _AROUND * float((box[2:] - box[:2]).max()) / 2
    (x0, y0), (x1, y1) = np.maximum(centre - half, 0).astype(int), np.ceil(centre + half).astype(int)
    piece = np.ascontiguousarray(image[y0:y1, x0:x1])
    longest = max(1, *piece.shape[:2])
    return piece if longest <= _LONGEST else scaled(piece, _LONGEST / longest, cv2.INTER_AREA)
