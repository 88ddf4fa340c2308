"""Landmarks as iBUG's .pts files have them."""

from __future__ import annotations

import numpy as np


def pts(points: np.ndarray) -> str:
    """The text of a .pts file of `points` (L, 2), counted from 0."""
    lines = "\n".join(f"{x + 1:.6f} {y + 1:.6f}" for x, y in points)
    return f"version: 1\nn_points:  {len(points)}\n{{\n{lines}\n}}\n"
