"""The head model put together: a checkout of MakeHuman and labelled photographs in, a morphable model out."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64
from ddfa_batch.schemas.morphable import N_LANDMARKS, MorphableModel
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry.mirroring import FLIP68
from ddfa_batch.tasks.rendering.rasteriser import normals
from recipes.builtin.head_model.expressions import EXPRESSIONS, expressions, units
from recipes.builtin.head_model.heads import reference_weights
from recipes.builtin.head_model.identities import draw_heads, from_photographs, head_space, strongest
from recipes.builtin.head_model.photographs import Gaussian
from recipes.builtin.head_model.region import Region, region
from recipes.builtin.head_model.source import read_base, read_target
from recipes.builtin.head_model.uv import texture_coordinates

TOPOLOGY, UNIT = "builtin_v2", "mm"
#: The model's origin lies this far before the middle of the eyeballs, mm: at the bridge of the nose, as before.
_ORIGIN = np.array([0.0, 0.0, 13.4])
#: Landmarks of lids and lips, from this on, lie where the surface's normal has at least this share towards the viewer:
#: not on a lid's or a lip's underside.
_FIRST_OF_EYES, _FORWARD = 36, 0.35
#: Least standard deviation that an expression keeps in the prior: estimates shrink.
_LEAST_EXPRESSION = 0.15


@dataclass(frozen=True)
class Amounts:
    """How much of everything."""

    #: Heads drawn.
    heads: int = 1500
    #: Rounds of expectation maximisation.
    rounds: int = 3
    #: Seed of what is drawn.
    seed: int = 0


@dataclass(frozen=True)
class Built:
    """A morphable model and what was measured on the way."""

    model: MorphableModel
    #: Of its coefficients.
    prior: Prior
    #: (V,), the vertex on the other side of each.
    mirror: I64
    #: Of the last round's fits, a share of the face's size.
    residual: float
    #: Of the drawn and enlarged heads' variance, the modes' share; of the expression units' at the landmarks, the named
    #: expressions' share.
    identities_kept: float
    expressions_kept: float


def build(checkout: Path, faces: list[F64], amounts: Amounts | None = None) -> Built:
    """The model of a checkout of MakeHuman and sets of labels (N, 68, 2 or 3), NaN where unlabelled."""
    how = amounts or Amounts()
    base = read_base(checkout)
    n = len(base.vertices)
    adult = base.vertices + sum(w * read_target(checkout, name, n) for name, w in reference_weights().items())
    balls = np.unique(np.concatenate([base.quads["helper-l-eye"], base.quads["helper-r-eye"]]))
    head = adult - adult[balls].mean(axis=0) - _ORIGIN
    part = region(base, head)
    points = part.matrix @ head
    landmarks = landmark_vertices(part, points)
    drawn = draw_heads(checkout, part, n, how.heads, np.random.default_rng(how.seed))
    space = head_space(drawn, part.matrix @ base.vertices, points, part, landmarks)
    moves = units(checkout, part, n)
    learnt = from_photographs(space, moves, part, landmarks, faces, how.rounds)
    modes, kept = strongest(learnt.space, learnt.heads, landmarks)
    neutral = learnt.space.neutral + np.tensordot(learnt.heads.mean, learnt.space.components, axes=1)
    named, spanned = _named(moves, learnt.units, landmarks)
    prior = Prior(
        np.concatenate([np.zeros(len(modes)), named.mean]),
        np.concatenate([np.ones(len(modes)), np.maximum(np.sqrt(np.diag(named.covariance)), _LEAST_EXPRESSION)]),
    )
    model = _assembled(part, neutral, np.concatenate([modes, expressions(moves)]), len(modes), landmarks)
    return Built(model, prior, part.mirror, learnt.residual, kept, spanned)


def landmark_vertices(part: Region, points: F64) -> I64:
    """The vertices (68,) at the places of landmarks.csv, on the mean adult (V, 3), and opposite them."""
    with (Path(__file__).parent / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        places = {int(row["landmark"]): np.array([float(row[axis]) for axis in "xyz"]) for row in csv.DictReader(file)}
    # `normals` is for pictures, whose y points down
    picture = (points * [1, -1, 1]).astype(np.float32)
    forward = normals(picture, part.triangles.astype(np.int32))[:, 2]
    found = np.full(N_LANDMARKS, -1)
    for landmark, place in places.items():
        seen = np.flatnonzero(part.outside & ~part.ball & (forward > (_FORWARD if landmark >= _FIRST_OF_EYES else -1)))
        vertex = seen[np.argmin(np.linalg.norm(points[seen] - place, axis=1))]
        found[landmark], found[FLIP68[landmark]] = vertex, part.mirror[vertex]
    return found


def _named(moves: dict[str, F64], of_units: Gaussian, landmarks: I64) -> tuple[Gaussian, float]:
    """Coefficients of the named expressions as a Gaussian; what share they span of how units move the landmarks."""
    at_marks = np.stack([move[landmarks].ravel() for move in moves.values()])
    names = list(moves)
    shares = np.zeros((len(EXPRESSIONS), len(names)))
    for row, parts in enumerate(EXPRESSIONS.values()):
        shares[row, [names.index(unit) for unit in parts]] = list(parts.values())
    to_named = at_marks @ np.linalg.pinv(shares @ at_marks)
    left = at_marks - to_named @ shares @ at_marks
    variance = [np.trace(part.T @ of_units.covariance @ part) for part in (left, at_marks)]
    named = Gaussian(to_named.T @ of_units.mean, to_named.T @ of_units.covariance @ to_named)
    return named, float(1 - variance[0] / variance[1])


def exactly_symmetric(shapes: F32, mirror: I64) -> F32:
    """Shapes (M, V, 3) that are symmetric or antisymmetric but for rounding, to the bit: one half is the other's image.

    `mirror` (V,) is the vertex opposite each. Rounding may part numbers that differ in their last bit alone.
    """
    reflect = np.array([-1, 1, 1], np.float32)
    image = shapes[:, mirror] * reflect
    even = np.abs(image - shapes).max(axis=(1, 2)) <= np.abs(image + shapes).max(axis=(1, 2))
    image = np.where(even[:, None, None], image, -image)
    out = np.where((mirror < np.arange(len(mirror)))[:, None], image, shapes)
    on_the_plane = (mirror == np.arange(len(mirror)))[:, None]
    moves_off = (reflect < 0) == even[:, None, None]
    out[np.broadcast_to(on_the_plane & moves_off, out.shape)] = 0
    return np.asarray(out, np.float32)


def _assembled(part: Region, neutral: F64, basis: F64, n_shape: int, landmarks: I64) -> MorphableModel:
    low, high = neutral.min(axis=0), neutral.max(axis=0)
    stored = basis.astype(np.float16).astype(np.float32)  # so many bits are kept in the file
    return MorphableModel(
        mean=exactly_symmetric(neutral.astype(np.float32)[None], part.mirror)[0],
        basis=exactly_symmetric(stored, part.mirror),
        n_shape=n_shape,
        triangles=part.triangles.astype(np.int32),
        landmarks=landmarks.astype(np.int32),
        topology=TOPOLOGY,
        unit=UNIT,
        uv=texture_coordinates(part, neutral),
        ncc=((neutral - low) / (high - low)).astype(np.float32),
    )
