"""The ten expressions, named, of MakeHuman's expression units."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import F64
from recipes.builtin.head_model.heads import ANCESTRIES
from recipes.builtin.head_model.region import Region
from recipes.builtin.head_model.source import read_target, target_names

#: What each expression mode is at coefficient 1, in order: how much of which units, of both sides alike.
EXPRESSIONS: dict[str, dict[str, float]] = {
    "jaw_open": {"mouth-open": 1.0},
    "smile": {"mouth-corner-puller": 0.8, "mouth-upward-retraction": 0.3},
    "lips_puckered": {"mouth-pursing": 1.0},
    "mouth_corners_down": {"mouth-depression": 1.0},
    "upper_lip_raised": {"mouth-elevation": 1.0, "nose-elevation": 0.5},
    "lower_lip_lowered": {"mouth-depression-retraction": 1.0},
    "lips_pressed": {"mouth-compression": 1.0},
    "eyes_closed": {"eye-closure": 1.0},
    "brows_raised": {"eyebrows-up": 0.7, "eyebrows-extern-up": 0.7, "eyebrows-inner-up": 0.7},
    "brows_lowered": {"eyebrows-down": 1.0},
}
#: Cords of the neck, which no landmark tells from a longer jaw.
LEFT_OUT = ("neck-platysma",)


def units(checkout: Path, region: Region, n_base: int) -> dict[str, F64]:
    """Displacements (V, 3), mm, of every unit, a mean over ancestries: symmetric; and `…~`, one side less the other."""

    def moves(name: str) -> F64:
        targets = [read_target(checkout, f"expression/units/{ancestry}/{name}", n_base) for ancestry in ANCESTRIES]
        return np.asarray(region.matrix @ np.mean(targets, axis=0))

    def mirrored(field: F64) -> F64:
        return np.asarray(field[region.mirror] * [-1, 1, 1])

    out: dict[str, F64] = {}
    for name in (path.rpartition("/")[2] for path in target_names(checkout, f"expression/units/{ANCESTRIES[0]}")):
        if "-left-" in name:
            left = (moves(name) + mirrored(moves(name.replace("-left-", "-right-")))) / 2
            plain = name.replace("-left-", "-")
            out[plain], out[f"{plain}~"] = left + mirrored(left), left - mirrored(left)
        elif "-right-" not in name and name not in LEFT_OUT:
            out[name] = (moves(name) + mirrored(moves(name))) / 2
    return out


def expressions(of: dict[str, F64]) -> F64:
    """The modes of `EXPRESSIONS` (10, V, 3), mm, at coefficient 1."""
    modes = [[share * of[unit] for unit, share in parts.items()] for parts in EXPRESSIONS.values()]
    return np.stack([np.sum(mode, axis=0) for mode in modes])
