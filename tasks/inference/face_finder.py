"""The faces of one image: a detector's boxes, in one pass or more, and what the regressor sees in them.

The detector proposes. Where its bundle says so (`detector_weight`), the regressor, which sees each box at its full
size, has a say in what is a face. Where a glance at a small copy shows large faces for sure and nothing else, they are
the picture's. Where no face is found for sure, further passes look at the image smaller and turned: a face that a
detector overlooks at one size it may well find at another, and heads lie.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.arrays import F32, F64, I64, U8
from ddfa_batch.schemas.config import FACES_PER_IMAGE
from ddfa_batch.schemas.detectors import DetectionPass, DetectorSpec
from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.geometry.boxes import non_maximum_suppression, rotate_boxes
from ddfa_batch.tasks.geometry.picture import Picture
from ddfa_batch.tasks.geometry.reconstruct import turned_params
from ddfa_batch.tasks.inference.detector_io import scale_to_fit
from ddfa_batch.tasks.inference.detectors import make_detector
from ddfa_batch.tasks.inference.regressor import FACE, Regressor, combined_scores

#: How an image is turned for a head that leans by so many degrees, counter-clockwise, to stand upright.
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, -90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180}
#: Degrees by which a turn makes rows of columns.
_QUARTER = 90
#: What scores less in reduced pixels is no face in full ones either: of 1,619 candidates in collages of crowds two of
#: 862 that scored less than 0.2 or 0.4 went above 0.85.
_DOUBTFUL = 0.5
#: A picture is glanced at where the copy is so many times its size, as it fits, or less: else little is saved.
_MUCH_SMALLER = 0.8
#: The best score where nothing is found.
_NOTHING = -1.0
#: Overlap from which boxes found in the image turned differently are of the same face.
_SAME = 0.3


@dataclass(frozen=True)
class FaceCandidates:
    """What may be the faces of an image, best first, and what the regressor sees in them."""

    #: Boxes (N, 4) and scores (N,).
    detections: Detections
    #: The square rois (N, 4) that were cropped.
    rois: F64
    #: The crops (N, size, size, 3) of the rois, turned where the head was taken to lean.
    crops: U8
    #: Parameters (N, P), in the frame of the rois not turned.
    params: F32
    #: Seconds that detection took.
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.detections.scores)

    @property
    def best_score(self) -> float:
        """The first one's score; −1 where there are none."""
        return float(self.detections.scores[0]) if len(self) else _NOTHING

    def scoring(self, above: float) -> FaceCandidates:
        """Those of them that score more than `above`."""
        rows = np.flatnonzero(self.detections.scores > above)
        return self if len(rows) == len(self) else self.take(rows)

    def take(self, rows: I64) -> FaceCandidates:
        """The candidates of `rows`."""
        return FaceCandidates(
            self.detections.take(rows), self.rois[rows], self.crops[rows], self.params[rows], self.seconds
        )


@dataclass(frozen=True)
class _Proposals:
    """A detector's boxes before the regressor has seen them."""

    #: Boxes (N, 4) and scores (N,), in pixels of the image not turned.
    detections: Detections
    #: The boxes' rois (N, 4), likewise.
    rois: F64
    #: By how much the heads lean counter-clockwise (N,), radians.
    angles: F64

    @staticmethod
    def none() -> _Proposals:
        no_box, no_score = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        return _Proposals(Detections(no_box, no_score), np.zeros((0, 4)), np.zeros(0))

    @staticmethod
    def concatenate(parts: list[_Proposals]) -> _Proposals:
        if len(parts) == 1:
            return parts[0]
        found = [part.detections for part in parts]
        boxes = np.concatenate([part.boxes for part in found])
        scores = np.concatenate([part.scores for part in found])
        rois, angles = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rois", "angles"))
        return _Proposals(Detections(boxes, scores), rois, angles)

    def best(self, most: int) -> _Proposals:
        if len(self.angles) <= most and _best_first(self.detections.scores):
            return self
        order = np.argsort(-self.detections.scores, kind="stable")[:most]
        return _Proposals(self.detections.take(order), self.rois[order], self.angles[order])


class FaceFinder:
    """Finds faces by a detector of a bundle and its regressor, which also gives each one's first parameters.

    A face scores more than `score_threshold`. Raises `BundleError` where the detector asks the regressor what is a
    face, and that network does not tell.
    """

    def __init__(
        self,
        spec: DetectorSpec,
        session: ort.InferenceSession,
        regressor: Regressor,
        score_threshold: float,
        longest_side: int | None = None,
    ) -> None:
        if spec.detector_weight and not regressor.tells_faces:
            raise BundleError(
                f"The detector in {spec.file} has the regressor tell what is a face (detector_weight), but the network "
                f"of this bundle has no output '{FACE}'."
            )
        proposed = spec.candidate_threshold if spec.detector_weight else score_threshold
        self._detect = make_detector(spec, session, proposed, longest_side)
        self._spec, self._regress = spec, regressor
        self._fit = (longest_side, longest_side) if longest_side else spec.fit
        #: What a face of each pass scores more than.
        self.thresholds = tuple(max(score_threshold, each.score_threshold) for each in spec.passes)

    def first_scale(self, picture: Picture) -> float:
        """How large a picture is looked at in the first pass, as a share of itself; a glance needs no more."""
        return scale_to_fit(picture.height, picture.width, self._fit, self._spec.passes[0].scale)

    def __call__(self, image: U8 | Picture, most: int = FACES_PER_IMAGE) -> FaceCandidates:
        """At most so many faces of `image` (H, W, 3) BGR, of the glance or of the pass that found the best one."""
        picture, begun = Picture.of(image), time.perf_counter()
        faces = self._at_a_glance(picture)
        if faces is None:
            glanced = time.perf_counter() - begun
            faces = best_pass(self.passes(picture, most), self.thresholds, self._spec.stop_score)
            faces = replace(faces, seconds=faces.seconds + glanced)
        return faces if len(faces) <= most else faces.take(np.arange(most))

    def _glance_scale(self, picture: Picture) -> float | None:
        """How large the copy is that is glanced at, of the picture as it fits; None where none is."""
        if self._spec.glance is None:
            return None
        longest = max(picture.height, picture.width) * scale_to_fit(picture.height, picture.width, self._fit)
        scale = self._spec.glance.longest_side / longest
        return scale if scale <= _MUCH_SMALLER else None

    def _at_a_glance(self, picture: Picture) -> FaceCandidates | None:
        """The faces of a picture that a glance settles, best first; None where it settles nothing."""
        glance, scale = self._spec.glance, self._glance_scale(picture)
        if glance is None or scale is None:
            return None
        begun = time.perf_counter()
        proposed = self._propose(picture, scale, 0)
        seconds = time.perf_counter() - begun
        copied = glance.longest_side / max(picture.height, picture.width)
        small = _mean_sides(proposed.detections.boxes) * copied < glance.least_size
        if small.all() or (small & (proposed.detections.scores > glance.doubt)).any():
            return None
        faces = self._looked_at(picture, proposed, seconds).scoring(self.thresholds[0])
        if faces.best_score <= self._spec.stop_score:
            return None
        return faces if (_mean_sides(faces.detections.boxes) * copied >= glance.least_size).all() else None

    def passes(self, image: U8 | Picture, most: int = FACES_PER_IMAGE) -> Iterator[FaceCandidates]:
        """All that may be a face, best first, of one pass after the other; a pass not asked for is not made.

        Of a pass that would need something in doubt before it, and has nothing, there is none.
        """
        picture, best = Picture.of(image), _NOTHING
        for each in self._spec.passes:
            if each.doubt is not None and best <= each.doubt:
                yield self._looked_at(picture, _Proposals.none(), 0.0)
                continue
            found = self._one_pass(picture, each, most)
            if len(each.rotations) > 1:
                found = found.take(non_maximum_suppression(found.detections.boxes, found.detections.scores, _SAME))
            best = max(best, found.best_score)
            yield found

    def _one_pass(self, picture: Picture, each: DetectionPass, most: int) -> FaceCandidates:
        begun = time.perf_counter()
        proposed = _Proposals.concatenate([self._propose(picture, each.scale, degrees) for degrees in each.rotations])
        seconds = time.perf_counter() - begun
        return self._looked_at(picture, proposed.best(FACES_PER_IMAGE if self._spec.detector_weight else most), seconds)

    def _looked_at(self, picture: Picture, proposed: _Proposals, seconds: float) -> FaceCandidates:
        """What the regressor sees in proposals that were made in so many seconds, best first."""
        crops, params, scores = self._seen(picture, proposed)
        params = np.asarray(turned_params(params, proposed.angles, self._regress.layout, self._regress.size))
        detections = Detections(proposed.detections.boxes, scores)
        found = FaceCandidates(detections, proposed.rois, crops, params, seconds)
        return found if _best_first(scores) else found.take(np.argsort(-scores, kind="stable"))

    def _seen(self, picture: Picture, proposed: _Proposals) -> tuple[U8, F32, F32]:
        """Crops (N, size, size, 3) of proposals, parameters (N, P) in the crops' frame, and scores (N,).

        They are looked at in the pixels that the detector saw, and those that may be faces in finer ones where these
        keep too few: most of what is small in a large photograph is none, and need not be decoded.
        """
        decoded = picture.as_decoded()
        crops = crop.crops(decoded, proposed.rois, self._regress.size, proposed.angles)
        params, scores = self._regressed(crops, proposed.detections.scores)
        sides = (proposed.rois[:, 2] - proposed.rois[:, 0]) / max(decoded.reduction, 1)
        small = np.flatnonzero((sides < self._regress.size) & (scores > _DOUBTFUL))
        if decoded.reduction > 1 and len(small):
            again = crop.crops(picture, proposed.rois[small], self._regress.size, proposed.angles[small])
            crops[small] = again
            params[small], scores[small] = self._regressed(again, proposed.detections.scores[small])
        return crops, params, scores

    def _regressed(self, crops: U8, scores: F32) -> tuple[F32, F32]:
        """Parameters (N, P) and scores (N,) of crops that the detector gave these scores."""
        if not self._spec.detector_weight:
            return self._regress(crops), scores.copy()
        params, face = self._regress.with_faces(crops)
        return params, combined_scores(scores, face, self._spec.detector_weight)

    def _propose(self, picture: Picture, scale: float, degrees: int) -> _Proposals:
        lies = abs(degrees) == _QUARTER
        height, width = (picture.width, picture.height) if lies else (picture.height, picture.width)
        wanted = scale_to_fit(height, width, self._fit, scale)
        pixels, reduction = picture.at_least(wanted)
        seen: U8 = np.asarray(cv2.rotate(pixels, _TURNS[degrees]), np.uint8) if degrees else pixels
        if reduction > 1:  # what is left to scale
            scale = min(wanted * reduction / scale_to_fit(seen.shape[0], seen.shape[1], self._fit), 1.0)
        found = self._detect(seen, scale)
        boxes = found.boxes * np.float32(reduction)
        rois = crop.roi_from_boxes(boxes, self._spec.roi_scale, self._spec.roi_shift)
        angles = np.full(len(rois), np.radians(degrees))
        if degrees:
            height, width = (side * reduction for side in pixels.shape[:2])
            boxes = rotate_boxes(boxes, degrees, height, width).astype(np.float32)
            rois = rotate_boxes(rois, degrees, height, width)
        return _Proposals(Detections(boxes, found.scores), rois, angles)


def _best_first(scores: F32) -> bool:
    return bool((scores[:-1] >= scores[1:]).all())


def _mean_sides(boxes: F32) -> F32:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).sum(axis=1) / 2)


def best_pass(passes: Iterable[FaceCandidates], thresholds: Sequence[float], stop_score: float) -> FaceCandidates:
    """The faces, those that score more than their pass's threshold, of the pass whose best one scores highest.

    No further pass is made after one whose best face scores more than `stop_score`: a head that lies is seen in an
    upright pass too, but not well.
    """
    best, seconds = None, 0.0
    for found, threshold in zip(passes, thresholds, strict=False):
        seconds += found.seconds
        faces = found.scoring(threshold)
        if best is None or faces.best_score > best.best_score:
            best = faces
        if faces.best_score > stop_score:
            break
    assert best is not None
    return replace(best, seconds=seconds)
