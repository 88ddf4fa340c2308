"""The ten expressions: handles that move, and the smoothest field over the surface that follows them."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import splu

from ddfa_batch.schemas.arrays import F64, I32, I64
from recipes.builtin.face_model.chart import feature_rows, on_the_right
from recipes.builtin.face_model.design import (
    EXPRESSIONS,
    EYE_CENTRE,
    EYE_RADIUS,
    JAW_DEGREES,
    JAW_JOINT,
    LID_THICKNESS,
    OPEN_BAG_DEPTH,
    table,
)
from recipes.builtin.face_model.template import Template


def expressions(template: Template) -> F64:
    """The modes of `EXPRESSIONS` (10, V, 3): displacement of every vertex at coefficient 1, mm."""
    spread, still = Biharmonic(template), _still(template)
    rows = table("expressions")
    modes = {name: spread(_handles(template, name, rows), still) for name in {str(row["expression"]) for row in rows}}
    share = _share_of_jaw(template, spread, still)
    modes["jaw open"] = share * _opened(template.vertices)
    modes["jaw open"][template.bag, 2] -= OPEN_BAG_DEPTH
    modes["jaw to the left"] = share * [6.0, 0.0, 0.0]
    modes["eyes closed"] = _closed_eyes(template, spread)
    out = np.stack([modes[name] for name in EXPRESSIONS])
    out[:, template.ball] = 0.0
    return out


def _opened(vertices: F64) -> F64:
    angle = np.radians(JAW_DEGREES)
    y, z = vertices[:, 1] - JAW_JOINT[0], vertices[:, 2] - JAW_JOINT[1]
    turned = np.column_stack([y * np.cos(angle) - z * np.sin(angle), y * np.sin(angle) + z * np.cos(angle)])
    return np.column_stack([np.zeros(len(y)), turned - np.column_stack([y, z])])


def _share_of_jaw(template: Template, spread: Biharmonic, still: I64) -> F64:
    """How far each vertex (V, 1) goes with the jaw: told for the landmarks of the lower face."""
    handles = {}
    for row in table("jaw"):
        vertex = int(template.landmarks[int(row["landmark"])])
        for side in (int(template.mirror[vertex]), vertex):
            handles[side] = np.array([float(row["share"]), 0.0, 0.0])
    return np.clip(spread(handles, still)[:, :1], 0, 1.05)


def _handles(template: Template, name: str, rows: list[dict[str, float | str]]) -> dict[int, F64]:
    """Displacements (3,) by vertex of an expression, and of its mirror image; a vertex told twice keeps the last."""
    handles = {}
    for row in rows:
        if row["expression"] != name:
            continue
        if "landmark" in row:
            vertex = int(template.landmarks[int(row["landmark"])])
        else:
            place = np.array([row["chart_u"], row["chart_v"]])
            vertex = int(np.argmin(np.linalg.norm(template.chart - place, axis=1)))
        move = np.array([row["dx"], row["dy"], row["dz"]], np.float64)
        handles[int(template.mirror[vertex])] = move * [-1, 1, 1]
        handles[vertex] = move
    return handles


def _still(template: Template) -> I64:
    """Vertices that no expression moves unless it says so: edges, eyes, brows, nose, jaw."""
    edge = _edge_vertices(template.triangles)
    upper = edge[template.chart[edge, 1] > -40]
    marks = template.landmarks[[*range(17), *range(17, 48)]]
    return np.unique(np.concatenate([upper, marks, np.flatnonzero(template.ball)]))


def _edge_vertices(triangles: I32) -> I64:
    sides = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    pairs, count = np.unique(sides, axis=0, return_counts=True)
    return np.unique(pairs[count == 1]).astype(np.int64)


class Biharmonic:
    """Biharmonic fields over the chart: the smoothest that take given values at given vertices."""

    def __init__(self, template: Template) -> None:
        n = len(template.chart)
        rows, columns, values, area = [], [], [], np.zeros(n)
        for i in range(3):
            a, b, c = (template.triangles[:, (i + k) % 3] for k in range(3))
            p, q = template.chart[b] - template.chart[a], template.chart[c] - template.chart[a]
            cross = np.abs(p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0])
            cotangent = (p * q).sum(axis=1) / np.maximum(cross, 1e-3) / 2
            for row, column in ((b, c), (c, b)):
                rows += [row, row]
                columns += [column, row]
                values += [-cotangent, cotangent]
            np.add.at(area, a, cross / 6)
        stiffness = csr_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(n, n))
        self._energy = (stiffness @ diags_array(1 / np.maximum(area, 1e-3)) @ stiffness).tocsr()

    def __call__(self, handles: dict[int, F64], still: I64) -> F64:
        """Field (V, 3) with these values (3,) at the handles and 0 at the vertices `still` that are no handles."""
        n = self._energy.shape[0]
        field, known = np.zeros((n, 3)), np.zeros(n, bool)
        known[still] = True
        for vertex, value in handles.items():
            field[vertex], known[vertex] = value, True
        free = np.flatnonzero(~known)
        system = self._energy[free][:, free].tocsc()
        right = -(self._energy[free][:, np.flatnonzero(known)] @ field[known])
        field[free] = splu(system).solve(right)
        return field


def _closed_eyes(template: Template, spread: Biharmonic) -> F64:
    """Both lids meet near the lower one, sliding over the eyeball."""
    points, chart = template.vertices, template.chart
    eye = feature_rows(chart[template.landmarks])["eye"]
    centre = eye.mean(axis=0)
    right = on_the_right(chart)
    lower, upper = eye[18:], eye[:19]
    line_low = np.interp(right[:, 0], lower[::-1, 0], lower[::-1, 1])
    line_up = np.interp(right[:, 0], upper[:, 0], upper[:, 1])
    meet = line_low + 0.15 * (line_up - line_low)
    ring = np.min(np.linalg.norm(right[:, None] - eye[None], axis=2), axis=1) < 0.4
    moved = np.zeros_like(points)
    moved[ring, 1] = (meet - right[:, 1])[ring]
    handles = {int(v): moved[v] for v in np.flatnonzero(ring)}
    # the fold above the lid stays, the lid's skin follows in part
    around = np.linalg.norm((right - centre) / [20.0, 13.5], axis=1)
    still = np.flatnonzero((around > 1) | template.ball)
    field = spread(handles, np.setdiff1d(still, list(handles)))
    lid = (around < 1) & ~template.ball
    target = points[lid] + field[lid]
    side = np.sign(target[:, 0])
    flat = (target[:, 0] - side * EYE_CENTRE[0]) ** 2 + (target[:, 1] - EYE_CENTRE[1]) ** 2
    front = EYE_CENTRE[2] + np.sqrt(np.maximum((EYE_RADIUS + LID_THICKNESS) ** 2 - flat, 0))
    over = (flat < (EYE_RADIUS + LID_THICKNESS) ** 2 * 0.9) & (front > target[:, 2])
    field[np.flatnonzero(lid)[over], 2] += (front - target[:, 2])[over]
    return field
