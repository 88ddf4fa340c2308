"""Which faces a report shows, as rows of its numbers: best, worst, at random, over all poses, along tracks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.pipeline.report_numbers import ReportNumbers
from ddfa_batch.schemas.arrays import I64

#: Faces of a contact sheet.
_SHEET = 24
#: Points among the poses; degrees of yaw and pitch of which one face is shown as a picture.
_POINTS, _CELL = 2000, 15
#: Tracks that get a strip, the longest first, and pictures in it.
_TRACKS, _FRAMES = 12, 6


@dataclass(frozen=True)
class ChosenTrack:
    """A track that gets a strip."""

    #: Its `track_id`.
    track_id: int
    #: Rows of its faces, in order of time.
    rows: I64
    #: Those that are shown.
    shown: I64


@dataclass(frozen=True)
class ReportChoice:
    """The faces that a report shows."""

    #: Rows with the highest and with the lowest scores, from there on, and some at random.
    best: I64
    worst: I64
    random: I64
    #: Rows of the points among the poses, and of the pictures: the best face of each cell of yaw and pitch.
    posed: I64
    pictured: I64
    #: The longest first.
    tracks: list[ChosenTrack]

    @staticmethod
    def of(numbers: ReportNumbers, rng: np.random.Generator) -> ReportChoice:
        """The choice from all faces of a run; equal numbers and generators choose the same."""
        order = np.lexsort((numbers.faces["face_id"].to_numpy(), -numbers.column("score")))
        some = np.sort(rng.permutation(len(order))[:_SHEET])
        posed = np.sort(rng.permutation(len(order))[:_POINTS])
        worst = order[::-1][:_SHEET]
        return ReportChoice(order[:_SHEET], worst, some, posed, _best_by_pose(numbers, order), _longest_tracks(numbers))

    @property
    def meshed(self) -> set[int]:
        """Rows of the faces whose mesh is shown, too."""
        shown = [self.best, self.worst, self.random, *(track.shown for track in self.tracks)]
        return set(np.concatenate(shown).tolist())

    @property
    def shown(self) -> list[int]:
        """Rows of all faces of which there is a picture, in order."""
        return sorted(self.meshed | set(self.pictured.tolist()))

    def by_turns(self) -> list[int]:
        """Rows of the contact sheets, one of each sheet after the other, each row once."""
        rows = np.stack([self.best, self.worst, self.random], axis=1).ravel().tolist()
        return list(dict.fromkeys(rows))


def _best_by_pose(numbers: ReportNumbers, order: I64) -> I64:
    """Of each cell of yaw and pitch the row that comes first in an order."""
    angles = np.stack([numbers.column("yaw"), numbers.column("pitch")], axis=1)
    cells = np.rint(angles[order] / _CELL).astype(np.int64)
    _, first = np.unique(cells, axis=0, return_index=True)
    return order[first]


def _longest_tracks(numbers: ReportNumbers) -> list[ChosenTrack]:
    if "track_id" not in numbers.faces.column_names:
        return []
    track, time_s = numbers.column("track_id"), numbers.column("time_s")
    ids, n = np.unique(track[np.isfinite(track)], return_counts=True)
    found = []
    for track_id in ids[np.argsort(-n, kind="stable")][:_TRACKS].tolist():
        rows = np.flatnonzero(track == track_id)
        rows = rows[np.argsort(time_s[rows], kind="stable")]
        places = np.unique(np.linspace(0, len(rows) - 1, _FRAMES).round().astype(int))
        found.append(ChosenTrack(int(track_id), rows, rows[places]))
    return found
