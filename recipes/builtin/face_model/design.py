"""What the face is designed from: tables of points in millimetres, and the measures of eye, jaw and mouth.

Axes: x to the image's right, y up, z to the viewer, millimetres; an adult face, its eyes' outer corners 90 mm apart.
Everything is told for the right half (x ≥ 0) and mirrored. "Chart" is the face unrolled from a cylinder: u, v in mm.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

TOPOLOGY, UNIT = "builtin_v1", "mm"
#: Identity modes of the model.
N_IDENTITIES = 40
#: What each expression mode does at coefficient 1, in order.
EXPRESSIONS = (
    "jaw open",
    "smile",
    "lips puckered",
    "mouth corners down",
    "upper lip raised",
    "lower lip lowered",
    "eyes closed",
    "brows raised",
    "brows drawn together",
    "jaw to the left",
)

#: Relief on top of the spline: a ridge (mm, outwards) along a polyline of the chart, of a Gaussian section of this
#: standard deviation: (height, width, points). Negative heights are grooves.
RELIEF: tuple[tuple[float, float, tuple[tuple[float, float], ...]], ...] = (
    (-1.3, 1.3, ((25.2, -31), (26.6, -35), (25.2, -40))),  # where the wing of the nose meets the cheek
    (1.0, 3.0, ((19, -35.5), (18.1, -38))),  # the wing
    (-0.6, 2.6, ((26.6, -43), (32.3, -52), (36.1, -62))),  # nasolabial fold
    (-0.7, 1.4, ((0, -46.5), (0, -53.0))),  # philtrum
    (0.5, 1.3, ((3.4, -47), (4.9, -54.5))),  # its ridge
    (-0.8, 3.0, ((-7.6, -79.5), (0, -80), (7.6, -79.5))),  # below the lower lip
    (1.2, 8.0, ((-5.7, -95), (5.7, -95))),  # chin
    (0.9, 4.0, ((19, 19.5), (32.3, 23), (45.6, 24), (57, 18))),  # brow
    (0.9, 1.7, ((0, -59.2), (6.6, -59.0), (16.1, -60.4), (23.8, -62.3))),  # upper lip
    (1.5, 2.3, ((0, -69.4), (9.5, -69.0), (18.1, -67.2), (23.8, -65.2))),  # lower lip
    (-2.2, 1.1, ((5.2, -40.2), (9, -39.8))),  # nostril
)

#: Middle of the right half's eyeball, mm.
EYE_CENTRE = np.array([31.2, 0.8, -13.4])
#: Radius of the eyeball, mm.
EYE_RADIUS = 12.6
#: How much farther out lids lie, mm.
LID_THICKNESS = 0.9
#: The cylinder that is unrolled: u = radius · angle about the axis x = 0, z = −depth, mm.
CYLINDER_RADIUS, CYLINDER_DEPTH = 100.0, 87.0
#: The part of the chart that is surface: |u| up to this, v from bottom to top, mm.
SIDE, TOP, BOTTOM = 165.0, 92.0, -150.0
#: Temporomandibular joint: the axis (y, z) about which the jaw opens, mm.
JAW_JOINT = np.array([-12.0, -84.0])
#: How far the jaw opens at coefficient 1.
JAW_DEGREES = 17.0
#: How far inside the closed mouth its bag reaches, mm, and how much deeper it is when the jaw is open.
BAG_DEPTH, OPEN_BAG_DEPTH = 9.0, 16.0


def table(name: str) -> list[dict[str, float | str]]:
    """The rows of a table beside this file; cells that are numbers are numbers, empty ones are left out."""
    path = Path(__file__).parent / "tables" / f"{name}.csv"
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _cell(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def _cell(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
