"""In which order a table has the coordinates of landmarks: x, y (, z) of each point by turns, or all x, then all y."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import F64
from ddfa_batch.schemas.errors import InputError

#: Points of the markups that can be read: iBUG's 68 and AFLW's 21.
MARKUPS = (68, 21)
_NEEDED = "68 or 21 points of x, y or x, y, z are needed"
#: A coordinate's mean step from point to point over its spread: .28 for 68 points and .57 for 21, in the right order,
#: for numbers by chance 1.15. Above this no order shows.
_NO_ORDER = 0.8
#: The step with all x first over the step by turns, median of a table. Of 68 points, whatever the face: 3.0 and more by
#: turns, 1.5 and less with all x first (AFLW2000-3D's and AFLW's labels). Between these it cannot be told.
_BY_TURNS, _ALL_X_FIRST = 2.0, 1.7
#: So many faces of 21 points are told apart as surely as one of 68: single ones overlap.
_FACES_OF_21 = 10


def points_of(path: Path, name: str, values: F64) -> F64:
    """Points (N, L, 2 or 3) of a table's lists of numbers (N, n), or of lists of lists (N, m, n).

    Lists of lists tell their order by their lengths. Lists of numbers are x, y (, z) by turns, unless their numbers say
    clearly that all x come first. Raises `InputError` for other lengths, and where the order cannot be told.
    """
    if values.ndim == 3:
        if values.shape[1] in MARKUPS and values.shape[2] in (2, 3):
            return values
        if values.shape[2] in MARKUPS and values.shape[1] in (2, 3):
            return values.transpose(0, 2, 1)
        raise InputError(
            f"{path}: column '{name}' has {values.shape[1]} × {values.shape[2]} numbers a face; {_NEEDED}."
        )
    n_points = next((n for n in MARKUPS if values.shape[1] in (2 * n, 3 * n)), None)
    if n_points is None:
        raise InputError(f"{path}: column '{name}' has {values.shape[1]} numbers a face; {_NEEDED}.")
    by_turns = values.reshape(len(values), n_points, -1)
    all_x_first = values.reshape(len(values), -1, n_points).transpose(0, 2, 1)
    return all_x_first if _is_all_x_first(path, name, by_turns, all_x_first) else by_turns


def _is_all_x_first(path: Path, name: str, by_turns: F64, all_x_first: F64) -> bool:
    first, turns = _step(all_x_first), _step(by_turns)
    known = np.isfinite(first) & np.isfinite(turns) & (turns > 0)
    if not known.any() or min(np.median(first[known]), np.median(turns[known])) > _NO_ORDER:
        return False
    ratio = np.median(first[known] / turns[known])
    if ratio >= _BY_TURNS:
        return False
    if ratio <= _ALL_X_FIRST and (by_turns.shape[1] == MARKUPS[0] or known.sum() >= _FACES_OF_21):
        return True
    raise InputError(
        f"{path}: it cannot be told whether column '{name}' has x, y of each point by turns or all x first; write "
        f"it as lists of lists, {by_turns.shape[1]} × {by_turns.shape[2]}."
    )


def _step(points: F64) -> F64:
    """Mean step of the coordinates of points (N, L, k) from one point to the next over their spread, (N,)."""
    steps = np.abs(np.diff(points, axis=1))
    n_steps, n_points = np.isfinite(steps).sum(axis=1), np.isfinite(points).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(points, axis=1) / n_points
        spread = np.sqrt(np.nansum((points - mean[:, None]) ** 2, axis=1) / n_points)
        return np.asarray((np.nansum(steps, axis=1) / n_steps / spread).mean(axis=1), np.float64)
