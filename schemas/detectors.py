"""How a model bundle describes a face detector: its network, its scores, and the passes it makes over a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Detector families the project can run.
DETECTOR_KINDS = ("faceboxes", "yunet", "fcos")
#: Strides of the heads of YuNet and of the project's own detector, pixels.
YUNET_STRIDES = (8, 16, 32)
FCOS_STRIDES = (8, 16, 32, 64)
#: The outputs that tell a network's family.
DETECTOR_OUTPUTS = {
    "faceboxes": ("boxes", "scores"),
    "yunet": tuple(f"{part}_{stride}" for part in ("cls", "obj", "bbox") for stride in YUNET_STRIDES),
    "fcos": tuple(f"level_{stride}" for stride in FCOS_STRIDES),
}
#: Degrees, counter-clockwise, by which heads may lean that a pass looks for.
ROTATIONS = (0, 90, -90, 180)
#: Passes a detector may make over one picture.
_MOST_PASSES = 8
#: Bounds of a picture's sides for detection, pixels, and of the numbers that make a roi of a box.
_SIDES, _LARGEST_ROI = (32, 16384), 10.0


def _repeats(values: tuple[int, ...]) -> bool:
    return len(set(values)) < len(values)


def _check_score(name: str, score: float) -> None:
    if not 0 <= score <= 1:
        raise ValueError(f"{name} lies in 0..1, not {score}")


@dataclass(frozen=True)
class DetectionPass:
    """One pass of a detector over a picture."""

    #: The picture is looked at so many times as large as it is, or as `fit` makes it; more than 0, at most 1.
    scale: float = 1.0
    #: Degrees, counter-clockwise, by which the heads lean that are looked for, some of `ROTATIONS`: the picture is
    #: turned so that these stand upright, once for each, and all that is found counts together.
    rotations: tuple[int, ...] = (0,)
    #: A face that this pass finds scores more than this, and than what the run asks of all.
    score_threshold: float = 0.0
    #: It is made only where something scored more than this in a pass before it: what may be a face is worth another
    #: look. None: wherever it comes to it.
    doubt: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise ValueError(f"a pass has a scale above 0 and up to 1, not {self.scale}")
        if not self.rotations or not set(self.rotations) <= set(ROTATIONS) or _repeats(self.rotations):
            allowed = ", ".join(map(str, ROTATIONS))
            raise ValueError(f"a pass has some of {allowed} as rotations, not {list(self.rotations)}")
        _check_score("a pass's score_threshold", self.score_threshold)
        _check_score("a pass's doubt", self.doubt or 0.0)


@dataclass(frozen=True)
class Glance:
    """A look at a small copy of a picture, before all passes, which is enough where its faces are large.

    It settles a picture where its best face scores more than the detector's `stop_score`, no face is smaller than
    `least_size`, and the detector gives nothing so small a score above `doubt`.
    """

    #: Longest side of the copy, pixels. Pictures of which it is no much smaller copy are not glanced at.
    longest_side: int
    #: Mean of a box's sides, pixels of the copy.
    least_size: float
    #: What is smaller and scores more by the detector alone may be a face among others.
    doubt: float

    def __post_init__(self) -> None:
        low, high = _SIDES
        if not low <= self.longest_side <= high:
            raise ValueError(f"a glance's longest_side is {low} to {high}, not {self.longest_side}")
        if not 0 <= self.least_size <= high:
            raise ValueError(f"a glance's least_size is 0 to {high}, not {self.least_size}")
        _check_score("a glance's doubt", self.doubt)


@dataclass(frozen=True)
class DetectorSpec:
    """One detector of a bundle, what is a face of what it finds, and how its boxes become the regressor's roi."""

    #: Its family, one of `DETECTOR_KINDS`.
    kind: str
    #: Its network, within the bundle.
    file: str
    #: A face scores more than this by the detector alone.
    score_threshold: float
    #: (height, width), pixels: larger pictures are detected on a copy scaled down to fit (FaceBoxes: 720×1080).
    fit: tuple[int, int]
    #: Side of the roi, in mean sides of the box (3DDFA_V2, `parse_roi_box_from_bbox`).
    roi_scale: float = 1.58
    #: How far below the box's centre the roi's lies, in the same (likewise).
    roi_shift: float = 0.14
    #: With `detector_weight`: the regressor sees every box that the detector scores above this.
    candidate_threshold: float = 0.0
    #: Above 0, detector and regressor tell together what is a face: score = σ(weight · logit(detector's score) +
    #: what the regressor answers as `face`). 0: the detector's score stands.
    detector_weight: float = 0.0
    #: With `detector_weight`: a face scores more than this by both together.
    face_score: float = 0.0
    #: Passes over the picture, in turn, those that need no `doubt` or have it, until one finds a face that scores more
    #: than `stop_score`; the faces are those of the pass with the best one.
    passes: tuple[DetectionPass, ...] = (DetectionPass(),)
    stop_score: float = 0.0
    #: What is tried before the passes; None: nothing.
    glance: Glance | None = None

    def __post_init__(self) -> None:
        if self.kind not in DETECTOR_KINDS:
            raise ValueError(f"a detector is of one of the kinds {', '.join(DETECTOR_KINDS)}, not '{self.kind}'")
        low, high = _SIDES
        if not all(low <= side <= high for side in self.fit):
            raise ValueError(f"a detector's fit is [height, width], each {low} to {high}, not {list(self.fit)}")
        if not 0 < self.roi_scale <= _LARGEST_ROI or not abs(self.roi_shift) <= _LARGEST_ROI:
            raise ValueError(
                f"a detector's roi_scale lies above 0 and its roi_shift above {-_LARGEST_ROI:g}, both up to "
                f"{_LARGEST_ROI:g}, not {self.roi_scale} and {self.roi_shift}"
            )
        for name in ("score_threshold", "candidate_threshold", "face_score", "stop_score"):
            _check_score(f"a detector's {name}", getattr(self, name))
        if not 0 <= self.detector_weight < math.inf:
            raise ValueError(f"a detector's detector_weight is 0 or more, not {self.detector_weight}")
        if not 1 <= len(self.passes) <= _MOST_PASSES:
            raise ValueError(f"a detector makes 1 to {_MOST_PASSES} passes, not {len(self.passes)}")

    @property
    def face_threshold(self) -> float:
        """The score above which it is a face, by whichever tells."""
        return self.face_score if self.detector_weight else self.score_threshold
