"""What the tracker knows between two frames, and what it gives for each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, U8, check_shape
from ddfa_batch.tasks.inference.face_observer import ObservedFaces

#: Share of a face's last movement that is expected again.
_MOMENTUM = 1.0
#: A roi goes by this share of the way to where the face says it should be, and by so much more for each share of its
#: side that this is farther away than `_STILL`.
_PULL, _PULL_MORE, _STILL = 0.05, 20.0, 0.03


@dataclass(frozen=True)
class TrackerOptions:
    """How faces are followed."""

    #: Frames from one search of the whole frame to the next.
    detect_every: int = 10
    #: A followed face that scores no more than this is lost: faces have 0.6 and more, other things less than 0.6 (most
    #: below 0.3), measured on portraits in quick motion and on photographs without faces.
    lost_score: float = 0.4
    #: Frames after which a lost face is given up: half a second at 25 frames a second.
    patience: int = 12
    #: Searches in a row that may miss a followed face; None for any number, for the detector overlooks what a regressor
    #: that tells faces still sees.
    unconfirmed: int | None = None

    @staticmethod
    def suited(tells_faces: bool, detect_every: int = 10) -> TrackerOptions:
        """Options for a bundle whose regressor tells faces from other things, or does not.

        Without, a face scores by the overlap of the roi that was looked at with its own: 0.9 and more for faces, mostly
        less than 0.6, but up to 0.96, for other things (3DDFA_V2's mb05), so that the detector must confirm it too.
        """
        if tells_faces:
            return TrackerOptions(detect_every)
        return TrackerOptions(detect_every, lost_score=0.6, unconfirmed=1)


@dataclass(frozen=True)
class Track:
    """A face as it was last seen."""

    track_id: int
    #: Frame in which it was last seen, as the tracker counts them, from 0.
    frame: int
    #: (68, 3), pixels.
    landmarks: F32
    #: (4,) of the square in which it is looked for, pixels, and radians by which that leans counter-clockwise as seen.
    roi: F64
    angle: float
    #: (2,) pixels by which the face moved in that frame; 0 where it only shook.
    velocity: F64
    #: Searches in a row that missed it.
    unconfirmed: int = 0
    #: Its upright head (24, 24), grey; only where the face is lost.
    head: U8 | None = None
    #: Whether what looks like a cut lies between then and now.
    cut_off: bool = False

    def expected_roi(self) -> F64:
        """Where it is looked for in the next frame: it moves on, less and less."""
        return np.asarray(self.roi + np.tile(_MOMENTUM * self.velocity, 2))

    def moved(self, frame: int, face: ObservedFaces, roi: F64, angle: float) -> Track:
        """The track with this face, seen in `frame`, whose own roi (4,) and angle these are."""
        looked_at = self.expected_roi()
        turn = (angle - self.angle + np.pi) % (2 * np.pi) - np.pi
        away = deviation(looked_at, roi) + abs(turn) / 2
        pull = min(_PULL + _PULL_MORE * max(away - _STILL, 0.0), 1.0)
        step = (face.landmarks[0] - self.landmarks)[:, :2].mean(axis=0).astype(np.float64)
        moves = np.abs(step).max() > _STILL * (roi[2] - roi[0])
        return replace(
            self,
            frame=frame,
            landmarks=face.landmarks[0],
            roi=looked_at + pull * (roi - looked_at),
            angle=self.angle + pull * turn,
            velocity=step if moves else np.zeros(2),
            cut_off=False,
        )


def deviation(a: F64, b: F64) -> float:
    """How far roi b (4,) is from roi a (4,), in shares of the side of a."""
    return float(np.abs(b - a).max() / max(a[2] - a[0], 1e-6))


@dataclass(frozen=True)
class Past:
    """A frame that no search has seen, and who was known to be in it."""

    frame: int
    image: U8
    landmarks: F32


@dataclass(frozen=True)
class TrackerState:
    """All that the tracker knows between two frames."""

    #: Frames seen so far.
    frame: int = 0
    next_id: int = 0
    #: Faces seen in the last frame.
    live: tuple[Track, ...] = ()
    #: Faces not seen in it, which may come back.
    lost: tuple[Track, ...] = ()
    #: Frames since the last search, oldest first; the last frame is always among them.
    past: tuple[Past, ...] = ()
    scene: F32 | None = None


@dataclass(frozen=True)
class TrackedFaces:
    """Rows of faces with the track and the frame, as the tracker counts them, that each belongs to."""

    track_id: I64
    frame: I64
    faces: ObservedFaces

    def __post_init__(self) -> None:
        check_shape("track_id", self.track_id, len(self.faces))
        check_shape("frame", self.frame, len(self.faces))

    def __len__(self) -> int:
        return len(self.faces)
