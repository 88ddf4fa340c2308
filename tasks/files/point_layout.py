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
#: Under this mean step read with all x first over the mean step read by turns, a face speaks for all x first. Of 68
#: points, whatever the face, it is 0.75 and less with all x first, 2.97 and more by turns (31,000 faces of AFLW2000-3D
#: and AFLW, in both orders); of 21 points one face in a hundred misleads.
_TURNING = 1.5
#: The share of a table's faces that must agree.
_AGREED = 0.8
#: So many faces of 21 points are told apart as surely as one of 68; fewer are taken to be by turns.
_FACES_OF_21 = 30


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
    turns, first = _mean_step(by_turns), _mean_step(all_x_first)
    known = np.isfinite(turns) & np.isfinite(first) & (turns > 0)
    few = by_turns.shape[1] != MARKUPS[0] and known.sum() < _FACES_OF_21
    if few or not known.any() or min(_roughness(by_turns), _roughness(all_x_first)) > _NO_ORDER:
        return False
    share = float((first[known] / turns[known] < _TURNING).mean())
    if 1 - _AGREED < share < _AGREED:
        raise InputError(
            f"{path}: it cannot be told whether column '{name}' has x, y of each point by turns or all x first; write "
            f"it as lists of lists, {by_turns.shape[1]} × {by_turns.shape[2]}."
        )
    return share >= _AGREED


def _mean_step(points: F64) -> F64:
    """How far coordinates of points (N, L, k) change from one point to the next, on average, (N,); NaN for none."""
    steps = np.abs(np.diff(points, axis=1))
    known = np.isfinite(steps).sum(axis=(1, 2))
    return np.asarray(np.where(known, np.nansum(steps, axis=(1, 2)) / np.maximum(known, 1), np.nan), np.float64)


def _roughness(points: F64) -> float:
    """The mean step of points (N, L, k) over the spread of a face's coordinates, median of the faces."""
    known = np.maximum(np.isfinite(points).sum(axis=1), 1)
    mean = np.nansum(points, axis=1) / known
    spread = np.sqrt(np.nansum((points - mean[:, None]) ** 2, axis=1) / known).mean(axis=1)
    return float(np.nanmedian(_mean_step(points) / np.maximum(spread, np.finfo(np.float64).tiny)))
