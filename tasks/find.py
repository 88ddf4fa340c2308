"""The faces of one image: the detector's boxes, the regressor's first look at them, and further looks where none is.

The detector proposes. Where its bundle says so (`trust`), the regressor, which sees each box at its full size, has a
say in what is a face; and where no face is found, the image is looked at again, smaller (`again`): a face that a
detector overlooks at one size it may well find at another.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.arrays import F32, F64, U8
from ddfa_batch.schemas.bundle import DetectorSpec
from ddfa_batch.schemas.config import FACES_PER_IMAGE
from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks import crop
from ddfa_batch.tasks.detect import make_detector
from ddfa_batch.tasks.regress import FACE, Regressor, confirmed


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
        """At most so many faces of `image` (H, W, 3) BGR."""
        seconds = 0.0
        for shrink in (1.0, *self._spec.again):
            begun = time.perf_counter()
            found = self._detect(image, shrink)
            seconds += time.perf_counter() - begun
            sighted = self._seen(image, found, most)
            if len(sighted):
                break
        return replace(sighted, seconds=seconds)

    def _seen(self, image: U8, found: Detections, most: int) -> Sighted:
        spec = self._spec
        if not spec.trust:
            return look(image, found.best(most), self._regress, spec.roi_scale, spec.roi_shift)
        found = found.best(FACES_PER_IMAGE)
        rois = crop.roi_from_boxes(found.boxes, spec.roi_scale, spec.roi_shift)
        crops = crop.crops(image, rois, self._regress.size)
        params, face = self._regress.with_faces(crops)
        scores = confirmed(found.scores, face, spec.trust)
        order = np.argsort(-scores, kind="stable")
        chosen = order[scores[order] > self._min_score][:most]
        return Sighted(Detections(found.boxes[chosen], scores[chosen]), rois[chosen], crops[chosen], params[chosen])


def look(image: U8, found: Detections, regress: Regressor, roi_scale: float, roi_shift: float) -> Sighted:
    """What the regressor sees in boxes that are faces."""
    rois = crop.roi_from_boxes(found.boxes, roi_scale, roi_shift)
    crops = crop.crops(image, rois, regress.size)
    return Sighted(found, rois, crops, regress(crops))
