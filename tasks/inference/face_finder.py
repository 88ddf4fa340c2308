"""The faces of one image: the detector's boxes, the regressor's first look at them, and further looks if unsure.

The detector proposes. Where its bundle says so (`trust`), the regressor, which sees each box at its full size, has a
say in what is a face; and where no face is found for `sure`, the image is looked at again, smaller (`again`) and turned
(`turned`): a face that a detector overlooks at one size it may well find at another, and heads lie.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.arrays import F32, F64, I64, U8, Floats
from ddfa_batch.schemas.bundle import DetectorSpec
from ddfa_batch.schemas.config import FACES_PER_IMAGE
from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.geometry.pose import lean
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points, turned_pose
from ddfa_batch.tasks.inference.detectors import make_detector, non_maximum_suppression
from ddfa_batch.tasks.inference.regressor import FACE, Regressor, confirmed

#: How an image is turned for a head that leans by so many degrees, counter-clockwise, to stand upright.
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, -90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180}
#: Overlap from which boxes found in the image turned differently are of the same face.
_SAME = 0.3


@dataclass(frozen=True)
class Sighted:
    """Faces of an image, best first: boxes and scores (N,), rois (N, 4), the crops (N, size, size, 3) of these, and
    parameters (N, P) in their frame; seconds that detection took.
    """

    found: Detections
    rois: F64
    crops: U8
    params: F32
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.found.scores)

    def take(self, rows: I64) -> Sighted:
        """The faces of `rows`."""
        return Sighted(self.found.take(rows), self.rois[rows], self.crops[rows], self.params[rows], self.seconds)


@dataclass(frozen=True)
class _Proposed:
    """A detector's boxes and scores, in pixels of the image, their rois (N, 4) and by how much these lean (N,)."""

    found: Detections
    rois: F64
    leans: F64

    @staticmethod
    def together(parts: list[_Proposed]) -> _Proposed:
        boxes, scores = (np.concatenate([getattr(part.found, name) for part in parts]) for name in ("boxes", "scores"))
        rois, leans = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rois", "leans"))
        return _Proposed(Detections(boxes, scores), rois, leans)

    def best(self, most: int) -> _Proposed:
        order = np.argsort(-self.found.scores, kind="stable")[:most]
        return _Proposed(self.found.take(order), self.rois[order], self.leans[order])


class Finder:
    """Finds faces by a detector of a bundle and its regressor, which also gives each one's first parameters.

    Raises `BundleError` where the detector asks the regressor what is a face, and that network does not tell.
    """

    def __init__(
        self, spec: DetectorSpec, session: ort.InferenceSession, regressor: Regressor, min_score: float,
        longest_side: int | None = None,
    ) -> None:  # fmt: skip
        if spec.trust and not regressor.tells_faces:
            raise BundleError(
                f"The detector in {spec.file} has the regressor tell what is a face (trust), but the network of this "
                f"bundle has no output '{FACE}'."
            )
        least = spec.candidate_score if spec.trust else min_score
        self._detect = make_detector(spec, session, least, longest_side)
        self._spec, self._regress, self._min_score = spec, regressor, min_score

    def __call__(self, image: U8, most: int = FACES_PER_IMAGE) -> Sighted:
        """At most so many faces of `image` (H, W, 3) BGR, of the look that is surest of one."""
        faces = surest(self.looks(image, most), self._min_score, self._spec.sure)
        return faces.take(np.arange(min(most, len(faces))))

    def looks(self, image: U8, most: int = FACES_PER_IMAGE) -> Iterator[Sighted]:
        """All that may be a face, best first, of one look after the other."""
        for shrink in (1.0, *self._spec.again):
            yield self._look(image, shrink, (0,), most)
        if self._spec.turned:
            # Smaller, if it may: half the time, as many heads, fewer false alarms (measured on validation pictures).
            shrink = self._spec.again[0] if self._spec.again else 1.0
            sighted = self._look(image, shrink, self._spec.turned, most)
            yield sighted.take(non_maximum_suppression(sighted.found.boxes, sighted.found.scores, _SAME))

    def _look(self, image: U8, shrink: float, leans: tuple[int, ...], most: int) -> Sighted:
        begun = time.perf_counter()
        proposed = _Proposed.together([self._proposed(image, shrink, degrees) for degrees in leans])
        seconds = time.perf_counter() - begun
        proposed = proposed.best(FACES_PER_IMAGE if self._spec.trust else most)
        crops = crop.crops(image, proposed.rois, self._regress.size, proposed.leans)
        scores = proposed.found.scores
        if self._spec.trust:
            params, face = self._regress.with_faces(crops)
            scores = confirmed(scores, face, self._spec.trust)
        else:
            params = self._regress(crops)
        params = _turned_back(params, proposed.leans, self._regress)
        sighted = Sighted(Detections(proposed.found.boxes, scores), proposed.rois, crops, params, seconds)
        return sighted.take(np.argsort(-scores, kind="stable"))

    def _proposed(self, image: U8, shrink: float, degrees: int) -> _Proposed:
        seen: U8 = np.asarray(cv2.rotate(image, _TURNS[degrees]), np.uint8) if degrees else image
        found = self._detect(seen, shrink)
        rois = crop.roi_from_boxes(found.boxes, self._spec.roi_scale, self._spec.roi_shift)
        leans = np.full(len(rois), np.radians(degrees))
        if not degrees:
            return _Proposed(found, rois, leans)
        height, width = image.shape[:2]
        boxes = turned_boxes(found.boxes, degrees, height, width).astype(np.float32)
        return _Proposed(Detections(boxes, found.scores), turned_boxes(rois, degrees, height, width), leans)


def surest(looks: Iterable[Sighted], min_score: float, sure: float) -> Sighted:
    """The faces, those that score more than `min_score`, of the look whose best one scores highest.

    No further look is taken after one whose best face scores more than `sure`: a head that lies is seen in an upright
    look too, but not well.
    """
    best, seconds = None, 0.0
    for sighted in looks:
        seconds += sighted.seconds
        faces = sighted.take(np.flatnonzero(sighted.found.scores > min_score))
        if best is None or _top(faces) > _top(best):
            best = faces
        if _top(faces) > sure:
            break
    assert best is not None
    return replace(best, seconds=seconds)


def _top(faces: Sighted) -> float:
    return float(faces.found.scores[0]) if len(faces) else -1.0


def turned_boxes(boxes: Floats, degrees: int, height: int, width: int) -> F64:
    """Boxes (N, 4) in an image of height × width, of boxes in that image turned clockwise by 90, −90 or 180 degrees."""
    x0, y0, x1, y1 = boxes.astype(np.float64).T
    back = {90: [y0, height - x1, y1, height - x0], -90: [width - y1, x0, width - y0, x1],
            180: [width - x1, height - y1, width - x0, height - y0]}  # fmt: skip
    return np.stack(back[degrees], axis=1)


def look(image: U8, found: Detections, rois: F64, regress: Regressor) -> Sighted:
    """What the regressor sees in the rois (N, 4) of boxes that are faces."""
    crops = crop.crops(image, rois, regress.size)
    return Sighted(found, rois, crops, regress(crops))


def look_again(image: U8, sighted: Sighted, regress: Regressor, landmarks: PointBasis) -> Sighted:
    """The same faces once more, cropped around their own landmarks and turned so that each head stands upright.

    Rois are of the upright crops; parameters are in the frame of the same rois not turned, as everywhere.
    """
    leans = lean(regress.layout.pose(sighted.params))
    rois = crop.upright_rois(points(landmarks, sighted.params, sighted.rois, regress.size), leans)
    crops = crop.crops(image, rois, regress.size, leans)
    return replace(sighted, rois=rois, crops=crops, params=_turned_back(regress(crops), leans, regress))


def _turned_back(params: F32, leans: F64, regress: Regressor) -> F32:
    """Parameters (N, P) of crops that were turned by leans (N,), in the frame of the crops not turned."""
    rows = np.flatnonzero(leans)
    if not len(rows):
        return params
    out = params.copy()
    poses = turned_pose(regress.layout.pose(params[rows]), leans[rows], regress.size)
    out[rows, :N_POSE] = poses.reshape(-1, N_POSE)
    return out
