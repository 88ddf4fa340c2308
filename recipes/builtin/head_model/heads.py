"""Plausible adult heads, drawn at random from MakeHuman's targets, and their principal components.

A head has an ancestry, a sex, an age and a build, which blend the macro targets as MakeHuman does, and a value for each
detail: targets come in pairs (incr and decr, up and down, …) or alone, for both halves of the face, nearly equal ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from recipes.builtin.head_model.source import target_names

ANCESTRIES, SEXES, AGES = ("african", "asian", "caucasian"), ("female", "male"), ("young", "old")
#: Ends of a pair of targets: the first is a value above 0, the second one below.
PAIRS = (
    ("incr", "decr"),
    ("up", "down"),
    ("out", "in"),
    ("forward", "backward"),
    ("convex", "concave"),
    ("uncompress", "compress"),
)
#: Folders of details, and by how much they are let vary: standard deviation of a value whose ends are ±1.
DETAILS = {
    "cheek": 0.2,
    "chin": 0.18,
    "ears": 0.2,
    "eyebrows": 0.2,
    "eyes": 0.18,
    "forehead": 0.2,
    "head": 0.15,
    "mouth": 0.18,
    "neck": 0.15,
    "nose": 0.18,
}
#: Details that would make a head implausible or shift it whole.
LEFT_OUT = (
    "head/head-trans",
    "head/head-back",
    "head/head-angle",
    "head/head-age",
    "neck/neck-scale-vert",
    "ears/r-ear-shape-pointed",
    "ears/l-ear-shape-pointed",
    "ears/l-ear-shape-triangle",
    "ears/r-ear-shape-triangle",
)
#: How far the halves of a face go apart, as a share of what both vary by; standard deviation of asymmetries.
HALVES, ASYMMETRY = 0.25, 0.2
#: A head's age is a uniform number to this power, 0 young (25), 1 old (90).
AGE_POWER = 3.0


@dataclass(frozen=True)
class Detail:
    """A value of a head: the targets it blends for values above and below 0."""

    #: For values above 0.
    above: tuple[str, ...]
    #: For values below 0.
    below: tuple[str, ...]
    #: Standard deviation.
    spread: float


def reference_weights() -> dict[str, float]:
    """The mean adult: a third of each ancestry, half of either sex, a quarter of the way from young to old."""
    out = {}
    for ancestry, sex in product(ANCESTRIES, SEXES):
        for age, share in zip(AGES, (0.75, 0.25), strict=True):
            out[f"macrodetails/{ancestry}-{sex}-{age}"] = share / 6
    for sex in SEXES:
        for age, share in zip(AGES, (0.75, 0.25), strict=True):
            out[f"macrodetails/universal-{sex}-{age}-averagemuscle-averageweight"] = share / 2
    return out


def random_weights(details: list[Detail], rng: np.random.Generator) -> dict[str, float]:
    """One head's weight of each target."""
    out = dict(_macro(rng))
    for detail in details:
        value = float(np.clip(rng.normal(scale=detail.spread), -1, 1))
        for name in detail.above if value > 0 else detail.below:
            out[name] = out.get(name, 0.0) + abs(value)
    return out


def _macro(rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    ancestry = rng.dirichlet([0.5] * len(ANCESTRIES))
    male, old = rng.beta(0.7, 0.7), rng.uniform() ** AGE_POWER
    muscle, weight = np.clip(rng.normal(0.0, 0.35, size=2), -1, 1)
    builds = [("maxmuscle", max(muscle, 0)), ("averagemuscle", 1 - abs(muscle)), ("minmuscle", max(-muscle, 0))]
    weights = [("maxweight", max(weight, 0)), ("averageweight", 1 - abs(weight)), ("minweight", max(-weight, 0))]
    for (sex, s), (age, a) in product(
        zip(SEXES, (1 - male, male), strict=True), zip(AGES, (1 - old, old), strict=True)
    ):
        for name, share in zip(ANCESTRIES, ancestry, strict=True):
            yield f"macrodetails/{name}-{sex}-{age}", s * a * share
        for (build, b), (mass, w) in product(builds, weights):
            yield f"macrodetails/universal-{sex}-{age}-{build}-{mass}", s * a * b * w


def details_of(checkout: Path) -> list[Detail]:
    """All details: of the whole face, of both halves alike, of either half, and asymmetries."""
    out = []
    for folder, spread in DETAILS.items():
        names = [name for name in target_names(checkout, folder) if not name.startswith(LEFT_OUT)]
        for above, below in _pairs(names):
            if "/r-" in above:
                continue
            if "/l-" in above:
                other = above.replace("/l-", "/r-"), below.replace("/l-", "/r-")
                out.append(Detail(_named(above, other[0]), _named(below, other[1]), spread))
                out += [Detail(_named(a), _named(b), HALVES * spread) for a, b in ((above, below), other)]
            else:
                sideways = "-trans-in" in above or "-trans-out" in above
                out.append(Detail(_named(above), _named(below), HALVES * spread if sideways else spread))
    for name in target_names(checkout, "asym"):
        if name.endswith("-l"):
            out.append(Detail((name,), (name[:-1] + "r",), ASYMMETRY))
    return out


def _named(*names: str) -> tuple[str, ...]:
    return tuple(name for name in names if name)


def _pairs(names: list[str]) -> Iterator[tuple[str, str]]:
    """Targets above and below 0; a target without a counterpart has none below."""
    below_of = dict(PAIRS)
    above_of = {below: above for above, below in PAIRS}
    for name in names:
        stem, _, end = name.rpartition("-")
        below = f"{stem}-{below_of.get(end)}"
        if end in below_of:
            yield name, below if below in names else ""
        elif f"{stem}-{above_of.get(end)}" not in names:
            yield name, ""
