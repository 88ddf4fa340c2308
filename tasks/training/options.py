"""What a training is told: how mini-batches are drawn and changed, what is minimised, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ddfa_batch.schemas.errors import ShapeError, TrainingError

#: How the n frames of a still differ: smoothly, as the paper's short videos, or at random (Table 4, "rnd").
MOTIONS = ("smooth", "random")
#: The paper's variants (Table 3), and what the branches of an iteration minimise in each.
METHODS = ("vdc", "fwpdc", "vdc-from-fwpdc", "vanilla-joint", "meta-joint")
#: What is done with the 2-D landmarks (section 2.3, Table 3): nothing, a constraint, a head of their own, or both.
LANDMARK_TERMS = ("none", "lmk", "lrr", "lrr+lmk")
#: How VDC and the landmark terms count a distance: squared, as the paper, or as it is.
DISTANCES = ("squared", "plain")
#: How the learning rate falls after its warm-up, see `TrainConfig.lr_at`.
SCHEDULES = ("line", "cosine")
#: Where a mini-batch's pixels are made: one by one by OpenCV, or all at once by torch on the device that trains.
PIXEL_MAKERS = ("host", "device")
#: What the backbone computes in; losses and heads are float32 always.
PRECISIONS = ("float32", "bfloat16")
#: Smallest side of a training image, pixels: five halvings leave one.
_LEAST_PIXELS = 32


@dataclass(frozen=True)
class Augmentation:
    """How strongly frames are changed; standard deviations unless said otherwise."""

    #: Probability.
    mirror: float = 0.5
    #: Degrees.
    rotation: float = 15.0
    #: Of its logarithm.
    scale: float = 0.08
    #: Share of the roi's side.
    shift: float = 0.05
    #: Of the logarithm of each channel.
    gain: float = 0.12
    #: Grey levels.
    offset: float = 12.0
    #: Probability.
    blur: float = 0.2
    #: Largest, pixels of the crop.
    blur_sigma: float = 1.5
    #: Probability.
    occluder: float = 0.2
    #: Largest share of the crop's side.
    occluder_side: float = 0.5
    #: Largest standard deviation, grey levels.
    noise: float = 6.0
    #: Degrees between adjacent frames of a clip (eq. 8: Δθ).
    step_rotation: float = 2.0
    #: Of the scale's logarithm between adjacent frames (eq. 8: Δs).
    step_scale: float = 0.01
    #: Share of the roi's side between adjacent frames (eq. 8: Δt).
    step_shift: float = 0.01
    #: Largest share of a frame's time for which the shutter is open (motion blur).
    exposure: float = 0.8
    #: Probability that little light is left, noise in it.
    dark: float = 0.1
    #: Probability that the picture was compressed as JPEG.
    compressed: float = 0.25

    @staticmethod
    def none() -> Augmentation:
        """No change at all: the crop as `process` cuts it."""
        return Augmentation(*[0.0] * len(Augmentation.__annotations__))


@dataclass(frozen=True)
class Sampling:
    """What a mini-batch is: so many stills, and of each so many adjacent frames."""

    #: Stills in a mini-batch.
    stills: int = 32
    #: Frames of each still.
    frames: int = 4
    #: How the frames of a still move, of `MOTIONS`.
    motion: str = "smooth"
    #: Share of the sequences that take their frames from the clip, in which the head turns in depth; the others move
    #: the photograph itself in the plane only.
    turned: float = 0.5
    #: Side of the crop that parameters and landmarks refer to, pixels.
    size: int = 120

    def __post_init__(self) -> None:
        if self.motion not in MOTIONS:
            raise ShapeError(f"There is no motion '{self.motion}'; there are {' and '.join(MOTIONS)}.")
        if min(self.stills, self.frames, self.size) < 1:
            raise ShapeError("A mini-batch needs at least one still, one frame and one pixel.")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training computes."""

    #: Of `METHODS`.
    method: str = "meta-joint"
    #: Of `LANDMARK_TERMS`.
    landmarks: str = "lrr"
    #: k, steps of an iteration (the paper's best: 100).
    look_ahead: int = 100
    #: Iterations of k steps.
    iterations: int = 100
    #: Weight of fWPDC in vanilla-joint (the paper's best: 0.5).
    beta: float = 0.5
    #: Share of the iterations after which vdc-from-fwpdc changes over.
    switch: float = 0.5
    #: Of `DISTANCES`.
    distance: str = "squared"
    #: How much each landmark term counts, where 1 is as much as the main loss.
    landmark_weight: float = 1.0
    #: How much it counts, beside the same, by how much the errors of adjacent frames differ.
    steadiness: float = 0.0
    #: How much it counts, beside the same, that faces are told from distractors; see `distractors`.
    face_weight: float = 0.0
    #: Share that the moving average of the weights keeps of itself at a step; it is what is judged and exported. 0 is
    #: none.
    ema: float = 0.0
    #: Of `SCHEDULES`.
    schedule: str = "line"
    #: AdamW's at its highest, see `lr_at`.
    learning_rate: float = 2e-3
    #: AdamW's.
    weight_decay: float = 1e-4
    #: Of `PRECISIONS`.
    precision: str = "float32"
    #: Of `PIXEL_MAKERS`.
    pixels_made: str = "host"
    #: Steps in which the learning rate rises, in each stage.
    warmup: int = 100
    #: Longest gradient.
    clip: float = 5.0
    #: A meta-test vertex error so many times the best yet ends the training.
    diverged: float = 20.0
    #: (share, pixels), rising: up to that share of the iterations images are so small, and the work less by the
    #: square; labels stay those of the full size.
    stages: tuple[tuple[float, int], ...] = ()
    #: Of the weights and of every mini-batch.
    seed: int = 0
    #: What a mini-batch is.
    sampling: Sampling = field(default_factory=Sampling)
    #: How its frames are changed.
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        choices = {
            "method": (self.method, METHODS),
            "landmarks": (self.landmarks, LANDMARK_TERMS),
            "distance": (self.distance, DISTANCES),
            "schedule": (self.schedule, SCHEDULES),
            "precision": (self.precision, PRECISIONS),
            "place to make pixels": (self.pixels_made, PIXEL_MAKERS),
        }
        for name, (value, known) in choices.items():
            if value not in known:
                raise TrainingError(f"There is no {name} '{value}'; there are {', '.join(known)}.")
        if list(self.stages) != sorted(self.stages) or not all(map(_is_stage, self.stages)):
            raise TrainingError(
                f"Stages must be rising shares of up to 1 with {_LEAST_PIXELS} pixels or more, not {self.stages}."
            )
        if self.steadiness > 0 and self.sampling.frames < 2:
            raise TrainingError("Steadiness is learnt from adjacent frames; take at least 2 of each still.")
        if not 0 <= self.ema < 1:
            raise TrainingError(f"The moving average of the weights must keep a share in 0..1, not {self.ema}.")
        if self.look_ahead < 1 or self.iterations < 1:
            raise TrainingError("A training needs at least one iteration of at least one step.")

    def branches(self, iteration: int) -> tuple[str, ...]:
        """What the branches of an iteration minimise."""
        if self.method == "meta-joint":
            return ("fwpdc", "vdc")
        if self.method == "vdc-from-fwpdc":
            return ("fwpdc",) if iteration < self.switch * self.iterations else ("vdc",)
        return (self.method,)

    def pixels(self, iteration: int) -> int:
        """Side of the images of an iteration."""
        for share, pixels in self.stages:
            if iteration < share * self.iterations:
                return pixels
        return self.sampling.size

    def lr_at(self, step: int) -> float:
        """Learning rate of a step: in each stage a linear warm-up, then a line or half a cosine down to 0; peaks halve.

        A net that has learnt faces of one size in pixels must learn anew what is twice as large: with what is left
        of a single line down it cannot.
        """
        ends = [*(math.ceil(share * self.iterations) for share, _ in self.stages), self.iterations]
        starts = [0, *ends[:-1]]
        stage = max(i for i, start in enumerate(starts) if step >= start * self.look_ahead)
        done, total = step - starts[stage] * self.look_ahead, (ends[stage] - starts[stage]) * self.look_ahead
        warm = min(1.0, (done + 1) / max(self.warmup, 1))
        left = max(1 - done / max(total, 1), 0.0)
        fall = left if self.schedule == "line" else (1 - math.cos(math.pi * left)) / 2
        return self.learning_rate * 0.5**stage * warm * fall


def _is_stage(stage: tuple[float, int]) -> bool:
    share, pixels = stage
    return 0 < share <= 1 and pixels >= _LEAST_PIXELS
