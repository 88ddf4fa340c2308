"""Rows of faces held against the film of moving people: who each track is, and how far its landmarks are off."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from moving_people import Film

from ddfa_batch.schemas.arrays import F64, I64, Floats
from ddfa_batch.schemas.tables import matrix

#: A found face within this distance of a labelled one, in units of its size, is that one.
SAME = 0.3


@dataclass(frozen=True)
class Rows:
    """Faces (N,) of a film."""

    frame: I64
    #: -1 where faces are not followed.
    track: I64
    #: (N, 68, 2), pixels.
    landmarks: F64

    @staticmethod
    def of(faces: pa.Table) -> Rows:
        """The rows of a run's faces table."""
        track = faces["track_id"].fill_null(-1).to_numpy().astype(np.int64)
        landmarks = matrix(faces["landmarks68"]).reshape(-1, 68, 3)[..., :2].astype(np.float64)
        return Rows(faces["frame"].to_numpy().astype(np.int64), track, landmarks)


def distances(found: Floats, labels: Floats) -> F64:
    """Mean distance, in sizes of a face (68, 2), from each labelled one (people, 68, 2); inf where there is none."""
    size = np.sqrt(np.prod(np.ptp(found, axis=0)))
    away = np.linalg.norm(labels - found, axis=-1).mean(axis=-1) / size
    return np.where(np.isnan(away), np.inf, away)


def people(film: Film, rows: Rows) -> I64:
    """The person (N,) that each row is, -1 where nobody is labelled there."""
    away = [distances(face, film.landmarks[frame]) for frame, face in zip(rows.frame, rows.landmarks, strict=True)]
    return np.array([int(np.argmin(each)) if each.min() < SAME else -1 for each in away], np.int64)


def whose_frames(film: Film, rows: Rows) -> dict[int, list[tuple[int, int]]]:
    """Person and frame of every row of each track, in order of frames."""
    found = defaultdict(list)
    for track, frame, person in sorted(zip(rows.track, rows.frame, people(film, rows), strict=True)):
        found[int(track)].append((int(person), int(frame)))
    return dict(found)


def errors(film: Film, rows: Rows) -> F64:
    """Landmark error (frames, people) of the nearest row, in sizes of a face; inf where a person is not found."""
    found = np.full(film.landmarks.shape[:2], np.inf)
    for frame, face in zip(rows.frame, rows.landmarks, strict=True):
        np.minimum(found[frame], distances(face, film.landmarks[frame]), out=found[frame])
    return np.where(found < SAME, found, np.inf)
