"""Landmarks, pose and dense points drawn over faces as lines and dots whose width follows the face's size."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, U8, Bools, Floats
from ddfa_batch.tasks.rendering.coverage import Window
from ddfa_batch.tasks.rendering.overlay import HIDDEN, SEEN
from ddfa_batch.tasks.rendering.pictured_faces import PicturedFaces
from ddfa_batch.tasks.rendering.strokes import Strokes, dots, lines
from ddfa_batch.tasks.rendering.topology import Topology

#: BGR of the halo below lines, and how opaque it is: lines show on any ground.
_HALO, _HALO_OPACITY = np.array([20.0, 20.0, 20.0]), 0.45
#: The 68 points as lines: first, last, and whether the line is closed (iBUG markup).
STROKES = (
    (0, 16, False),
    (17, 21, False),
    (22, 26, False),
    (27, 30, False),
    (31, 35, False),
    (36, 41, True),
    (42, 47, True),
    (48, 59, True),
    (60, 67, True),
)
#: Half the width of lines and dots, and the halo's around them, as shares of the head's scale; least and most, pixels.
_LINE, _DOT, _AROUND = 0.013, 0.028, 0.012
_LINE_RANGE, _DOT_RANGE, _AROUND_RANGE = (0.4, 4.0), (0.7, 9.0), (0.5, 3.0)
#: The first track's colour on the wheel, and from there to the next one's, the golden angle; shares of a turn.
_FIRST_HUE, _GOLDEN = 0.52, 0.381966
#: How bright landmarks are that the head hides, of followed faces.
_DIM = 0.45
#: BGR of the axes x, y and z.
_AXES = np.array([(70.0, 70.0, 240.0), (90.0, 210.0, 80.0), (250.0, 150.0, 60.0)])
#: Half the side of the pose's box and the length of its axes, in the head's scale.
_BOX, _AXIS = 1.48, 1.78
#: The landmark that axes start from: the tip of the nose.
_NOSE = 30
#: Corners of a box, and its edges: behind, before, and between.
_CORNERS = np.array([[x, y, z] for z in (-1, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))], np.float64)
_EDGES = np.array([(0, 1), (1, 2), (2, 3), (3, 0), (0, 4), (1, 5), (2, 6), (3, 7), (4, 5), (5, 6), (6, 7), (7, 4)])
#: BGR of the box: behind and before.
_BEHIND, _BEFORE = np.full(3, 150.0), np.full(3, 245.0)
#: How far behind the first surface a vertex is still seen, in the head's scale.
_BEHIND_SURFACE = 0.06
#: Half the width of dots of dense points, in the mean distance between them; least and most, pixels.
_POINT, _POINT_RANGE = 0.30, (0.35, 4.0)


def track_colour(track: int) -> tuple[float, float, float]:
    """The colour, BGR, of a track: the same wherever it is drawn, and far from that of the tracks before it."""
    red, green, blue = colorsys.hsv_to_rgb((_FIRST_HUE + track * _GOLDEN) % 1, 0.62, 0.98)
    return 255 * blue, 255 * green, 255 * red


def _clipped(share: float, scale: float, bounds: tuple[float, float]) -> float:
    return float(np.clip(share * scale, *bounds))


def draw_landmarks(picture: U8, faces: PicturedFaces) -> None:
    """Draw the landmarks of every face and the lines between them into a picture, the farthest face first."""
    scale = faces.scale()
    for i in faces.from_afar():
        seen, hidden = np.array(SEEN, np.float64), np.array(HIDDEN, np.float64)
        if faces.track[i] >= 0:
            seen = np.array(track_colour(int(faces.track[i])))
            hidden = _DIM * seen
        _draw_points68(picture, faces.landmarks[i, :, :2], faces.visible[i], float(scale[i]), seen, hidden)


def _draw_points68(picture: U8, points: Floats, visible: Bools, scale: float, seen: F64, hidden: F64) -> None:
    """Draw 68 points (68, 2) and the lines between them, as wide as suits a head's scale in pixels."""
    ends = np.array([pair for stroke in STROKES for pair in _pairs(*stroke)])
    line, dot = _clipped(_LINE, scale, _LINE_RANGE), _clipped(_DOT, scale, _DOT_RANGE)
    halo = _clipped(_AROUND, scale, _AROUND_RANGE)
    colours = np.where(visible[:, None], seen, hidden)
    between = np.where((visible[ends[:, 0]] & visible[ends[:, 1]])[:, None], seen, hidden)
    first, last = points[ends[:, 0]], points[ends[:, 1]]
    lines(first, last, line + halo, _HALO, _HALO_OPACITY).draw(picture)
    lines(first, last, line, between).draw(picture)
    dots(points, dot + halo * 0.6, _HALO, 2 * _HALO_OPACITY).draw(picture)
    dots(points, dot, colours).draw(picture)


def _pairs(first: int, last: int, closed: bool) -> list[tuple[int, int]]:
    pairs = [(a, a + 1) for a in range(first, last)]
    return [*pairs, (last, first)] if closed else pairs


def draw_pose(picture: U8, faces: PicturedFaces) -> None:
    """Draw a box around each head and its axes from the nose: x to the image's right, y up, z out of the face."""
    scale = faces.scale()
    for i in faces.from_afar():
        size = float(scale[i])
        turn = faces.rotation[i] * np.array([[1.0], [-1.0], [1.0]])  # the picture's y points down
        middle = (faces.meshes[i].min(axis=0) + faces.meshes[i].max(axis=0)) / 2
        corners = middle + size * _BOX * _CORNERS @ turn.T
        _draw_box(picture, corners, size)
        nose = faces.landmarks[i, _NOSE].astype(np.float64)
        line = _clipped(1.6 * _LINE, size, _LINE_RANGE)
        tips = nose + size * _AXIS * turn.T
        for axis in np.argsort(tips[:, 2]):  # what comes towards the viewer last
            _arrow(picture, nose, tips[axis], line, _AXES[axis])


def _draw_box(picture: U8, corners: F64, size: float) -> None:
    """Edges from behind to before, those behind thinner and darker."""
    depth = corners[_EDGES, 2].mean(axis=1)
    order = np.argsort(depth)
    nearness = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
    line = _clipped(_LINE, size, _LINE_RANGE)
    for edge in order:
        first, last = corners[_EDGES[edge]][:, :2][:, None]
        share = float(nearness[edge])
        colour = _BEHIND + share * (_BEFORE - _BEHIND)
        lines(first, last, line * (1 + 0.4 * share) + 0.8, _HALO, _HALO_OPACITY).draw(picture)
        lines(first, last, line * (1 + 0.4 * share), colour, 0.55 + 0.45 * share).draw(picture)


def _arrow(picture: U8, start: F64, tip: F64, line: float, colour: Floats) -> None:
    """A line with a head at its tip, which shrinks as the arrow points to the viewer."""
    along = tip[:2] - start[:2]
    length = float(np.linalg.norm(along))
    sides = np.zeros((0, 2))
    if length > 4 * line:
        back = tip[:2] - along / length * min(8 * line, length / 2)
        aside = np.array([-along[1], along[0]]) / length * 4 * line
        sides = np.stack([back + aside, back - aside])
    ends = np.concatenate([start[None, :2], sides])
    tips = np.repeat(tip[None, :2], len(ends), axis=0)
    lines(ends, tips, line + 1, _HALO, _HALO_OPACITY).draw(picture)
    lines(ends, tips, line, colour).draw(picture)


def draw_dense(picture: U8, faces: PicturedFaces, topology: Topology, colours: list[F32]) -> None:
    """Draw the vertices of every mesh that can be seen as dots, in colours (V, 3) a face, the farthest face first."""
    scale = faces.scale()
    for i in faces.from_afar():
        mesh = faces.meshes[i]
        seen = np.flatnonzero(_seen(picture, mesh, topology, float(scale[i])))
        if not len(seen):
            continue
        area = float(np.prod(np.ptp(mesh[seen, :2], axis=0)))
        radius = _clipped(_POINT, np.sqrt(area / len(seen)), _POINT_RANGE)
        seen = seen[np.argsort(mesh[seen, 2])]
        each = np.full(len(seen), 1.0, np.float32)
        ends = np.concatenate([mesh[seen, :2], mesh[seen, :2]], axis=1)
        Strokes(ends, radius * each, colours[i][seen], each).draw(picture)


def _seen(picture: U8, mesh: F32, topology: Topology, size: float) -> Bools:
    """Which vertices (V,) of a mesh lie in the picture and before everything else of the mesh."""
    window = Window.around(mesh, picture)
    if not (window.width and window.height):
        return np.zeros(len(mesh), np.bool_)
    placed, fragments = window.samples(mesh, topology.triangles, 1)
    x, y = np.rint(placed[:, :2]).astype(int).T
    inside = (x >= 0) & (x < window.width) & (y >= 0) & (y < window.height)
    depth = fragments.depth[np.clip(y, 0, window.height - 1), np.clip(x, 0, window.width - 1)]
    return np.asarray(inside & (placed[:, 2] >= depth - _BEHIND_SURFACE * size))


def write_caption(picture: U8, text: str, x: float, y: float, size: float) -> None:
    """Write a line of text centred above (x, y), as high as suits a head's scale, with a halo."""
    zoom = float(np.clip(size / 135, 0.32, 1.6))
    thick = max(1, round(zoom * 1.6))
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, zoom, thick)
    left = int(np.clip(x - width / 2, 2, max(picture.shape[1] - width - 2, 2)))
    base = int(np.clip(y, 16 * zoom + 4, picture.shape[0] - 3))
    for grey, width in ((_HALO, thick + 2), (_BEFORE, thick)):
        cv2.putText(picture, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, zoom, grey.tolist(), width, cv2.LINE_AA)
