"""Face profiling: one still photograph seen from other sides (Zhu et al., CVPR 2016; the paper's section 2.4, iv).

The fitted mesh gives depth to the face. Rays from the face's centre carry anchors, on its outline, half way out
and far away, and the whole image becomes one mesh of face and anchors. The face turns; the anchors on the outline
turn with the head they belong to, then slide along their ray to stand on the outline of the turned face, and the
motion fades to nothing at the border, so the background stretches and is never torn. The sheet of anchors covers
the plane whatever the motion, and lies behind the face in one z-buffer: no pixel stays empty.

What comes into view was never photographed. There the face takes colours of its mirrored side, where that was
seen, shifted to meet what is around them (a membrane, as in Poisson editing), and else colours grown from the
nearest visible skin.

x_j = (T ∘ F)(x_{j−1}) would sample pixels already sampled, again and again. Here F and T are composed on geometry
(`motion`), and each frame samples the still once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, U8, Floats
from ddfa_batch.tasks.geometry import motion as moving
from ddfa_batch.tasks.rendering.compiled import compiled
from ddfa_batch.tasks.rendering.completion import smoothstep
from ddfa_batch.tasks.rendering.outline import Rays, blurred, outline_of
from ddfa_batch.tasks.rendering.rasteriser import Fragments, Viewport, paint, rasterise, textured
from ddfa_batch.tasks.rendering.stills import Still
from ddfa_batch.tasks.rendering.surface import N_RAYS, Surface

#: Where the fourth ring stands between outline (0) and rim (1).
_NEAR = 0.2
#: The far ring, in multiples of the image's diagonal or the face's radius: beyond any picture.
_FAR = 12.0
#: A ray turns with the head by this at most, in radians.
_MAX_RAY_TURN = 0.45
#: By how much a surface may open towards the viewer before its own stretched pixels give way.
_OPENED = (1.4, 2.5)
#: The old outline goes away from the viewer for good when it recedes by this share of the face's radius …
_AWAY = 0.4
#: … and stays at least at this share of the new outline.
_DEEPEST = 0.5
#: Degrees of turning over which the skin just outside a misfitted outline gives way to what lies beyond it.
_SKIN_RIM = 6.0
#: Degrees of turning by which all of what the still hides has its completed colours; at 0 the still is the still.
_FIRST_TURN = 1.0
#: That rim's width as a share of the face's radius, and in pixels of the still at least.
_RIM_WIDTH, _LEAST_RIM_WIDTH = 0.08, 2.0


@dataclass(frozen=True)
class Scene:
    """The one mesh of a frame, face then anchors."""

    #: (N, 3) picture pixels.
    vertices: F32
    #: (N, 2) pixels of the still.
    uv: F32
    #: (N,) of the completed colours, 0 to 1.
    weight: F32


def scene(surface: Surface, still: Still, turn: Floats, place: Floats, viewport: Viewport) -> Scene:
    """The mesh of the still after F = `turn`, then T = `place`, as seen through `viewport`."""
    Q, S = np.asarray(turn, np.float64), np.asarray(place, np.float64)
    around, around_uv = anchors(surface, still, Q)
    n, to_picture = len(still.mesh), moving.compose(viewport.affine, S)
    vertices = np.empty((n + len(around), 3), np.float32)
    _place(still.mesh, moving.compose(to_picture, Q), vertices[:n])
    vertices[n:] = moving.apply(to_picture, around)
    weight = np.zeros(len(vertices), np.float32)
    _unseen(still.normals, still.hidden, still.doubt, Q, min(_degrees(Q) / _FIRST_TURN, 1.0), weight[:n])
    uv = np.empty((len(vertices), 2), np.float32)
    uv[:n], uv[n:] = still.mesh[:, :2], around_uv
    return Scene(vertices, uv, weight)


def frame(surface: Surface, still: Still, turn: Floats, place: Floats, viewport: Viewport) -> U8:
    """The picture (height, width, 3) of the still after F = `turn`, then T = `place`, seen through `viewport`.

    turn and place (3, 4) are rows of `motion.out_of_plane` and `motion.in_plane` about the still's centre.
    """
    mesh = scene(surface, still, turn, place, viewport)
    fragments = rasterise(mesh.vertices, surface.triangles, viewport.width, viewport.height)
    picture = textured(fragments, mesh.vertices, surface.triangles, still.image, mesh.uv, still.colours, mesh.weight)
    _blend_skirt(picture, surface, still, mesh, fragments)
    return picture


def _blend_skirt(picture: U8, surface: Surface, still: Still, mesh: Scene, painted: Fragments) -> None:
    """Paint the skirt into a picture where it lies before what is painted already, fading to it."""
    height, width = painted.triangle.shape
    triangles = surface.skirt.triangles
    shown = rasterise(mesh.vertices, triangles, width, height, before=painted)
    opacity = np.zeros(len(mesh.vertices), np.float32)
    opacity[len(surface.rim) : len(still.mesh)] = surface.skirt.opacity
    paint(shown, mesh.vertices, triangles, still.image, mesh.uv, still.colours, mesh.weight, opacity, picture)


def frames(surface: Surface, still: Still, motion: moving.Motion, viewports: list[Viewport]) -> list[U8]:
    """Every frame of a motion through its viewport. What does not move at all is the still, pixel for pixel."""
    turns = moving.out_of_plane(still.pose, motion, still.centre)
    places = moving.in_plane(motion, still.centre)
    steps = zip(turns, places, viewports, strict=True)
    return [frame(surface, still, turn, place, viewport) for turn, place, viewport in steps]


def poses(still: Still, motion: moving.Motion) -> F64:
    """The face's T (n, 3, 4) in pixels of the moved image, frame by frame: the labels' geometry."""
    turns = moving.out_of_plane(still.pose, motion, still.centre)
    return moving.compose(moving.compose(moving.in_plane(motion, still.centre), turns), still.pose)


def _degrees(turn: F64) -> float:
    """The angle of a rotation (3, ≥3)."""
    sine = np.linalg.norm(turn[:, :3] - turn[:, :3].T) / np.sqrt(8)
    return float(np.degrees(np.arctan2(sine, (np.trace(turn[:, :3]) - 1) / 2)))


def anchors(surface: Surface, still: Still, turn: F64) -> tuple[F64, F64]:
    """Anchors of a turned head: positions (N_RINGS · K, 3) and where in the still they come from (…, 2)."""
    rays, centre = still.rays, still.centre
    n_solid = len(surface.rim)
    outline, _ = outline_of(surface, still.mesh[:n_solid], still.normals[:n_solid], turn, centre)
    stand, swing = _stand(rays, turn, outline)
    gap, share = stand - rays.outline, stand / rays.outline
    far = np.full(N_RAYS, _FAR * max(still.radius, float(np.hypot(*still.image.shape[:2]))))
    near = rays.outline + _NEAR * (rays.rim - rays.outline)
    before = np.stack([0.05 * rays.outline, rays.inner, rays.outline, near, rays.rim, far])
    after = np.stack([share * before[0], share * before[1], stand, before[3] + (1 - _NEAR) * gap, rays.rim, far])
    skin = float(smoothstep(np.array(_degrees(turn) / _SKIN_RIM)))
    source = before.copy()
    beyond = np.minimum(max(_RIM_WIDTH * still.radius, _LEAST_RIM_WIDTH), near - rays.outline)
    source[:3] += skin * (rays.outline + beyond - before[:3])
    fade = np.array([1, 1, 1, (1 - _NEAR) ** 2, 0, 0])[:, None]
    angle = rays.angle + fade * swing
    behind = np.full(after.shape, centre[2] - 4 * still.radius)
    positions = np.stack([centre[0] + after * np.cos(angle), centre[1] + after * np.sin(angle), behind], axis=-1)
    x, y = centre[0] + source * np.cos(rays.angle), centre[1] + source * np.sin(rays.angle)
    return positions.reshape(-1, 3), np.stack([x, y], axis=-1).reshape(-1, 2)


def _stand(rays: Rays, turn: F64, outline: F64) -> tuple[F64, F64]:
    """Radius (K,) at which the background begins when the head has turned, and each ray's own turn (K,).

    Rays follow the head as far as the background belongs to it. Where the old outline comes nearer to the viewer
    the background stands on the new one; where it goes away it stays with the old, behind the face, and hides
    there, as the far ear does.
    """
    x, y = rays.outline * np.cos(rays.angle), rays.outline * np.sin(rays.angle)
    moved = turn[:, :3] @ np.stack([x, y, rays.depth])
    sideways = (moved[1] - y) * np.cos(rays.angle) - (moved[0] - x) * np.sin(rays.angle)
    swing = np.clip(rays.follow * sideways / rays.outline, -_MAX_RAY_TURN, _MAX_RAY_TURN)
    swing = blurred(swing, 8)
    ahead = rays.angle + swing
    new = np.interp(ahead, rays.angle, outline, period=2 * np.pi)
    old = np.maximum(moved[0] * np.cos(ahead) + moved[1] * np.sin(ahead), _DEEPEST * new)
    away = smoothstep((rays.depth - moved[2]) / rays.outline / _AWAY)
    return new - blurred(away * np.maximum(new - old, 0), 4), swing


# --------------------------------------------------------------------------------------------- the kernels


@compiled()
def _place(mesh, affine, out):  # type: ignore[no-untyped-def]
    for v in range(mesh.shape[0]):
        x, y, z = mesh[v, 0], mesh[v, 1], mesh[v, 2]
        for k in range(3):
            out[v, k] = affine[k, 0] * x + affine[k, 1] * y + affine[k, 2] * z + affine[k, 3]


@compiled()
def _unseen(facing, hidden, doubt, turn, ramp, out):  # type: ignore[no-untyped-def]
    for v in range(facing.shape[0]):
        share = 1.0
        if not hidden[v]:
            before = facing[v, 2]
            now = turn[2, 0] * facing[v, 0] + turn[2, 1] * facing[v, 1] + turn[2, 2] * before
            opened = (now / max(before, 0.02) - _OPENED[0]) / (_OPENED[1] - _OPENED[0])
            opened = min(max(opened, 0.0), 1.0)
            share = doubt[v] * opened * opened * (3 - 2 * opened)
        out[v] = ramp * share
