"""Identity modes: drawn heads, their principal components, what photographs ask of them, and the strongest 40."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.linalg import block_diag
from scipy.spatial.distance import cdist

from ddfa_batch.schemas.arrays import F32, F64, I64, Bools, Floats
from ddfa_batch.tasks.geometry.mirroring import FLIP68
from recipes.builtin.head_model.heads import details_of, random_weights
from recipes.builtin.head_model.photographs import Gaussian, learn, leftovers
from recipes.builtin.head_model.region import Region
from recipes.builtin.head_model.seats import seated
from recipes.builtin.head_model.source import read_target

#: Identity modes of the model.
N_IDENTITIES = 40
#: Components of drawn heads that photographs may enlarge: symmetric ones, and antisymmetric ones.
N_SYMMETRIC, N_ANTISYMMETRIC = 64, 22
#: Components of what fits leave over, likewise.
N_LEFT_SYMMETRIC, N_LEFT_ANTISYMMETRIC = 24, 8
#: How far a landmark's motion spreads, mm, and how much of it is given up for smoothness.
KERNEL, RIDGE = 18.0, 0.1
#: What an expression unit is let vary by before photographs are seen: of both sides alike, and of one side.
_UNIT_STD, _ONE_SIDED_STD = 0.25, 0.1
#: How much a mode's motion of the 68 points counts beside that of all vertices, where the strongest are chosen: a ratio
#: of root mean squares.
LANDMARKS_COUNT = 3.0


@dataclass(frozen=True)
class HeadSpace:
    """Heads as a mean and components, for V vertices."""

    #: The mean head (V, 3), mm, symmetric, its mouth shut.
    neutral: F64
    #: (N_SYMMETRIC + N_ANTISYMMETRIC, V, 3), mm, each as long as one standard deviation of the drawn heads.
    components: F64
    #: Which of the components are antisymmetric.
    one_sided: Bools


def draw_heads(checkout: Path, region: Region, n_base: int, count: int, rng: np.random.Generator) -> F32:
    """Displacements (count, V, 3), mm, of random heads from the base mesh."""
    details = details_of(checkout)
    known: dict[str, F32] = {}
    heads = np.zeros((count, region.matrix.shape[0], 3), np.float32)
    for row in range(count):
        for name, weight in random_weights(details, rng).items():
            if weight and name not in known:
                known[name] = (region.matrix @ read_target(checkout, name, n_base)).astype(np.float32)
            if weight:
                heads[row] += np.float32(weight) * known[name]
    return heads


def head_space(heads: F32, base: F64, points: F64, region: Region, landmarks: I64) -> HeadSpace:
    """Principal components of heads, displacements (n, V, 3) from base (V, 3); points (V, 3) is the mean adult.

    Rigid motion and scale belong to the pose: they are taken out as the landmarks tell.
    """
    moves = seated(
        _without_pose(heads + (base - points).astype(np.float32), points, landmarks), region, points, landmarks
    )
    mean = moves.mean(axis=0, dtype=np.float64)
    mean = (mean + mean[region.mirror] * [-1, 1, 1]) / 2
    moves -= mean.astype(np.float32)
    mirrored = moves[:, region.mirror] * np.array([-1, 1, 1], np.float32)
    parts = ((moves + mirrored) / 2, N_SYMMETRIC), ((moves - mirrored) / 2, N_ANTISYMMETRIC)
    components = [_principal(part, count) for part, count in parts]
    one_sided = np.repeat([False, True], [len(part) for part in components])
    return HeadSpace(points + mean, np.concatenate(components), one_sided)


def _without_pose(moves: F32, points: F64, landmarks: I64) -> F32:
    """Displacements (n, V, 3) less the small shift, turn and growth that fits those of the landmarks best."""
    centre = points[landmarks].mean(axis=0)

    def motions(at: F64) -> F64:
        away = at - centre
        shifts = [np.broadcast_to(axis, at.shape) for axis in np.eye(3)]
        return np.stack([*shifts, away, *(np.cross(axis, away) for axis in np.eye(3))]).reshape(7, -1)

    wanted = moves[:, landmarks].reshape(len(moves), -1).astype(np.float64)
    share = np.linalg.lstsq(motions(points[landmarks]).T, wanted.T, rcond=None)[0]
    return (moves.reshape(len(moves), -1) - (share.T @ motions(points)).astype(np.float32)).reshape(moves.shape)


def _principal(moves: Floats, count: int) -> F64:
    """The strongest components (up to count, V, 3) of displacements (n, V, 3), each one standard deviation long."""
    flat = moves.reshape(len(moves), -1)
    vectors = np.linalg.eigh((flat @ flat.T / len(flat)).astype(np.float64))[1][:, ::-1][:, :count]
    return np.asarray(vectors.T.astype(np.float32) @ flat / np.sqrt(len(flat)), np.float64).reshape(
        -1, moves.shape[1], 3
    )


@dataclass(frozen=True)
class Learnt:
    """What labelled faces say."""

    #: Heads, with components for what their fits left over.
    space: HeadSpace
    #: Of the space's components, and of the expression units.
    heads: Gaussian
    units: Gaussian
    #: Of the last fits, a share of the face's size.
    residual: float


def from_photographs(
    space: HeadSpace, units: dict[str, F64], region: Region, landmarks: I64, faces: Sequence[F64], rounds: int
) -> Learnt:
    """Heads and expressions as labelled faces show them; the first set of `faces` is whole, (N, 68, 3).

    What fits leave over of it is spread over the surface, and added to the mean and to the components; then the rounds
    are gone through once more.
    """
    first = _learn(space, units, landmarks, faces, rounds)
    marks = np.concatenate([space.components[:, landmarks], np.stack([move[landmarks] for move in units.values()])])
    both = Gaussian(
        np.concatenate([first.heads.mean, first.units.mean]), block_diag(first.heads.covariance, first.units.covariance)
    )
    left = leftovers(faces[0], both, space.neutral[landmarks], marks)
    more = _with_leftovers(space, left, region, landmarks)
    return _learn(more, units, landmarks, faces, rounds)


def _with_leftovers(space: HeadSpace, left: F64, region: Region, landmarks: I64) -> HeadSpace:
    mirrored = left[:, FLIP68] * [-1, 1, 1]
    mean = (left + mirrored).mean(axis=0) / 2
    parts = ((left + mirrored) / 2 - mean, N_LEFT_SYMMETRIC), ((left - mirrored) / 2, N_LEFT_ANTISYMMETRIC)
    more = [_principal(part.astype(np.float32), count) for part, count in parts]
    dense = seated(
        spread(np.concatenate([mean[None], *more]), space.neutral, landmarks), region, space.neutral, landmarks
    )
    one_sided = np.concatenate([space.one_sided, np.repeat([False, True], [len(part) for part in more])])
    return HeadSpace(space.neutral + dense[0], np.concatenate([space.components, dense[1:]]), one_sided)


def spread(moves: F64, points: F64, landmarks: I64) -> F64:
    """Displacements of the 68 landmarks (M, 68, 3) spread over points (V, 3) by Gaussian kernels: (M, V, 3)."""
    near = np.exp(-0.5 * np.square(cdist(points, points[landmarks]) / KERNEL))
    weights = np.linalg.solve(
        near[landmarks] + RIDGE * np.eye(len(landmarks)), moves.transpose(1, 0, 2).reshape(len(landmarks), -1)
    )
    return np.ascontiguousarray((near @ weights).reshape(len(points), len(moves), 3).transpose(1, 0, 2))


def _learn(space: HeadSpace, units: dict[str, F64], landmarks: I64, faces: Sequence[F64], rounds: int) -> Learnt:
    n = len(space.components)
    basis = np.concatenate([space.components[:, landmarks], np.stack([move[landmarks] for move in units.values()])])
    unit = np.arange(len(basis)) >= n
    one_sided = np.concatenate([space.one_sided, np.array([name.endswith("~") for name in units])])
    std = np.where(unit, np.where(one_sided, _ONE_SIDED_STD, _UNIT_STD), 1.0)
    blocks = [np.flatnonzero((unit == a) & (one_sided == b)) for a in (False, True) for b in (False, True)]
    start = Gaussian(np.zeros(len(basis)), np.diag(std**2))
    found, residual = learn(start, space.neutral[landmarks], basis, blocks, list(faces), one_sided, rounds)
    parts = (slice(None, n), slice(n, None))
    of_heads, of_units = (Gaussian(found.mean[part], found.covariance[part, part]) for part in parts)
    return Learnt(space, of_heads, of_units, residual)


def strongest(space: HeadSpace, gaussian: Gaussian, landmarks: I64, count: int = N_IDENTITIES) -> tuple[F64, float]:
    """The strongest modes (count, V, 3) of a Gaussian of components, one standard deviation each, and their share."""
    n, v = space.components.shape[:2]
    flat = space.components.reshape(n, -1)
    marks = space.components[:, landmarks].reshape(n, -1)
    gram = flat @ flat.T / v + LANDMARKS_COUNT**2 * (marks @ marks.T) / len(landmarks)
    modes, strengths = [], []
    for part in (~space.one_sided, space.one_sided):
        root = _root(gaussian.covariance[np.ix_(part, part)])
        values, vectors = np.linalg.eigh(root.T @ gram[np.ix_(part, part)] @ root)
        modes.append((root @ vectors).T @ flat[part])
        strengths.append(values)
    strength = np.concatenate(strengths)
    order = np.argsort(-strength)[:count]
    return np.concatenate(modes)[order].reshape(count, v, 3), float(strength[order].sum() / strength.sum())


def _root(covariance: F64) -> F64:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))
