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

from ddfa_batch.schemas.arrays import F32, F64, I32, U8, Bools, Floats, check_shape
from ddfa_batch.schemas.errors import DdfaError
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.geometry import motion as moving
from ddfa_batch.tasks.rendering.compiled import compiled
from ddfa_batch.tasks.rendering.completion import completed, doubted, sampled, smoothstep
from ddfa_batch.tasks.rendering.rasteriser import Viewport, normals, rasterise, textured
from ddfa_batch.tasks.rendering.surface import N_RAYS, N_RINGS, Surface

#: Where the fourth ring stands between outline (0) and rim (1).
_NEAR = 0.2
#: The rim, where motion ends, is the image's border, but within these multiples of the face's radius.
_RIM = (1.35, 3.0)
#: The far ring, in multiples of the image's diagonal or the face's radius: beyond any picture.
_FAR = 12.0
#: How much the outline may fall per radian of angle, as a share of the radius: a 45° slope.
#: Less steep is calmer: an outline that jumps from frame to frame makes the background shiver.
_STEEP = 1.0
#: Cosine between surface and viewer below which a vertex may be on the outline.
_TURNING = 0.4
#: A vertex nearer to the centre than this share of the farthest one is not looked at for the outline.
_INNERMOST = 0.25
#: A ray turns with the head by this at most, in radians.
_MAX_RAY_TURN = 0.45
#: A vertex within this share of the way to the outline can be beyond doubt; farther out an ear may face the viewer.
_WITHIN = 0.8
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
#: Pixels of the still that rim is wide.
_RIM_WIDTH = 2.0
#: A vertex this share of the face's radius behind the z-buffer is hidden.
_HIDDEN = 0.03
#: Pixels across the face in the pass that finds out what the still shows.
_VISIBILITY_SIZE = 400.0


@dataclass(frozen=True)
class Rays:
    """The anchors in the still, polar about the face's centre, one row a ray, in pixels.

    angle (K,); radius of the outline (K,), of the first pixel the face leaves free, less a pixel (K,), and of
    the rim (K,); depth (K,) of the outline; follow (K,): how far the background there belongs to the head, 1
    above it and 0 below, where the neck stands still.
    """

    angle: F64
    outline: F64
    inner: F64
    rim: F64
    depth: F64
    follow: F64


@dataclass(frozen=True)
class Still:
    """A photograph made ready: image (H, W, 3); mesh (V + M, 3), face and lining, in its pixels; its normals.

    pose (3, 4) in image pixels, true in depth; centre (3,) in pixels; colours (V + M + anchors, 3) of the whole
    surface, 0 to 255; hidden (V + M,): turned away or behind something; doubt (V + M,): 0 to 1, that a pixel
    shows something else; rays; radius: of a ball about the centre that holds the mesh, in pixels.
    """

    image: U8
    pose: F64
    mesh: F32
    normals: F32
    centre: F64
    colours: F32
    hidden: Bools
    doubt: F32
    rays: Rays
    radius: float


# ------------------------------------------------------------------------------------------------ the still


def prepare(surface: Surface, image: U8, pose: Floats, shape: F32) -> Still:
    """Make a still ready for any number of frames; pose (3, 4) to its pixels, shape (V, 3) in model units.

    `pose` should be true in depth (`motion.true_depth`). The image is BGR, (H, W, 3). Raises `DdfaError` where
    pose or shape are not finite.
    """
    check_shape("image", image, None, None, 3)
    check_shape("pose", pose, 3, 4)
    check_shape("shape", shape, surface.mirror.shape[0], 3)
    T = np.asarray(pose, np.float64)
    mesh = (shape @ T[:, :3].T + T[:, 3]).astype(np.float32)
    if not np.isfinite(mesh).all():
        raise DdfaError("The still's parameters give a face that is not finite.")
    centre = T[:, :3] @ surface.centre + T[:, 3]
    radius = max(float(np.sqrt(((mesh - centre) ** 2).sum(axis=1).max())), 1.0)
    facing = normals(mesh, surface.triangles[: surface.n_face_triangles])
    view = _view_of_face(centre, radius)
    pictured = (mesh @ view.affine[:, :3].T + view.affine[:, 3]).astype(np.float32)
    fragments = rasterise(np.concatenate([pictured, pictured[surface.lined]]),
                          surface.triangles[: surface.n_solid_triangles], view.width, view.height)  # fmt: skip
    hidden = _hidden(pictured, facing, fragments.depth, _HIDDEN * _VISIBILITY_SIZE / 2)
    rays = _rays(surface, image, mesh, facing, T, centre, radius, fragments.triangle, view)
    seen = sampled(image, mesh)
    doubt = doubted(surface, image, mesh, facing[:, 2], hidden, seen, _within(mesh, centre, rays.outline))
    colours = completed(surface, seen, doubt)
    # the lining shows the still as it is: it faces nowhere, so nothing of it opens or hides
    m = len(surface.lined)
    mesh, facing = np.concatenate([mesh, mesh[surface.lined]]), np.concatenate([facing, np.zeros((m, 3), np.float32)])
    hidden, doubt = np.concatenate([hidden, np.zeros(m, np.bool_)]), np.concatenate([doubt, np.zeros(m, np.float32)])
    colours = np.concatenate([colours, np.zeros((m + N_RINGS * N_RAYS, 3), np.float32)])
    return Still(image, T, mesh, facing, centre, colours, hidden, doubt, rays, radius)


def face_shape(model: MorphableModel, params: Floats) -> F32:
    """S = S̄ + A·α (eq. 1), (V, 3) in model units, of one face's params (P,): what stays the same in a clip."""
    alpha = model.layout.coefficients(np.asarray(params, np.float32)[None])[0]
    return np.asarray(model.mean + np.tensordot(alpha, model.basis, axes=1), np.float32)


def _view_of_face(centre: F64, radius: float) -> Viewport:
    """The square around the face at `_VISIBILITY_SIZE` pixels, or as many as the still has, if fewer."""
    size = int(min(np.ceil(2 * radius) + 2, _VISIBILITY_SIZE))
    zoom = size / (2 * radius + 2)
    return Viewport(float(centre[0]) - radius - 1, float(centre[1]) - radius - 1, zoom, zoom, size, size)


def _hidden(mesh: F32, facing: F32, depth: F32, tolerance: float) -> Bools:
    h, w = depth.shape
    x, y = np.clip(np.rint(mesh[:, :2]), 0, [w - 1, h - 1]).astype(np.int64).T
    return np.asarray((facing[:, 2] <= 0) | (depth[y, x] - mesh[:, 2] > tolerance))


def _within(mesh: F32, centre: F64, outline: F64) -> Bools:
    """Vertices (V,) well within the outline."""
    x, y = (mesh[:, :2] - centre[:2]).T
    ray = np.rint(np.arctan2(y, x) * (N_RAYS / (2 * np.pi))).astype(np.int64) % N_RAYS
    return np.asarray(np.hypot(x, y) < _WITHIN * outline[ray])


def _rays(
    surface: Surface,
    image: U8,
    mesh: F32,
    facing: F32,
    pose: F64,
    centre: F64,
    radius: float,
    shown: I32,
    view: Viewport,
) -> Rays:
    outline, depth = _outline(surface, mesh, facing, np.eye(3), centre)
    angle = np.arange(N_RAYS, dtype=np.float64) * (2 * np.pi / N_RAYS)
    middle = view.affine[:2, :2] @ centre[:2] + view.affine[:2, 3]
    free = np.empty(N_RAYS)
    _first_free(shown, middle, outline * view.zoom_x, free)
    free = np.minimum(np.minimum(free, np.roll(free, 1)), np.roll(free, -1)) - 2.0
    h, w = image.shape[:2]
    ends = np.array([[-centre[0], -centre[1]], [w - 1 - centre[0], h - 1 - centre[1]]])
    ahead = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    steps = np.where(ahead > 0, ends[1], ends[0]) / np.where(np.abs(ahead) > 1e-9, ahead, np.inf)
    border = np.where(np.abs(ahead) > 1e-9, steps, np.inf).min(axis=1)
    up = pose[:2, 1] / max(float(np.linalg.norm(pose[:2, 1])), 1e-9)
    upward = np.cos(angle) * up[0] + np.sin(angle) * up[1]
    return Rays(
        angle=angle,
        outline=outline,
        inner=np.clip(free / view.zoom_x, 0.3 * outline, outline),
        rim=_blurred(np.clip(border, _RIM[0] * radius, _RIM[1] * radius), 4),
        depth=depth,
        follow=(1 + upward) / 2,
    )


def _outline(surface: Surface, mesh: F32, facing: F32, turn: F64, centre: F64) -> tuple[F64, F64]:
    """Radius and depth (K,) of the turned mesh's outline along each ray from `centre` (3,), which stays."""
    radius, depth = np.zeros(N_RAYS), np.zeros(N_RAYS)
    _outermost(mesh, facing, surface.rim, turn, centre, radius, depth)
    found = np.flatnonzero(radius > 0)
    if 0 < len(found) < N_RAYS:
        at = np.arange(N_RAYS)
        radius, depth = (np.interp(at, found, values[found], period=N_RAYS) for values in (radius, depth))
    return _blurred(np.maximum(radius, 1.0), 3), _blurred(depth, 6)


# ------------------------------------------------------------------------------------------------ a frame


@dataclass(frozen=True)
class Scene:
    """The one mesh of a frame, face then anchors: vertices (N, 3) in picture pixels, uv (N, 2) in the still,
    weight (N,) of the completed colours.
    """

    vertices: F32
    uv: F32
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
    return textured(fragments, mesh.vertices, surface.triangles, still.image, mesh.uv, still.colours, mesh.weight)


def frames(surface: Surface, still: Still, motion: moving.Motion, viewports: list[Viewport]) -> list[U8]:
    """Every frame of a motion through its viewport. What does not move at all is the still, pixel for pixel."""
    turns = moving.out_of_plane(still.pose, motion, still.centre)
    places = moving.in_plane(motion, still.centre)
    return [frame(surface, still, turn, place, viewport)
            for turn, place, viewport in zip(turns, places, viewports, strict=True)]  # fmt: skip


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
    outline, _ = _outline(surface, still.mesh, still.normals, turn, centre)
    stand, swing = _stand(rays, turn, outline)
    gap, share = stand - rays.outline, stand / rays.outline
    far = np.full(N_RAYS, _FAR * max(still.radius, float(np.hypot(*still.image.shape[:2]))))
    before = np.stack([0.05 * rays.outline, rays.inner, rays.outline,
                       rays.outline + _NEAR * (rays.rim - rays.outline), rays.rim, far])  # fmt: skip
    after = np.stack([share * before[0], share * before[1], stand, before[3] + (1 - _NEAR) * gap, rays.rim, far])
    skin = float(smoothstep(np.array(_degrees(turn) / _SKIN_RIM)))
    source = before.copy()
    source[:3] += skin * (rays.outline + _RIM_WIDTH - before[:3])
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
    swing = _blurred(swing, 8)
    ahead = rays.angle + swing
    new = np.interp(ahead, rays.angle, outline, period=2 * np.pi)
    old = np.maximum(moved[0] * np.cos(ahead) + moved[1] * np.sin(ahead), _DEEPEST * new)
    away = smoothstep((rays.depth - moved[2]) / rays.outline / _AWAY)
    return new - _blurred(away * np.maximum(new - old, 0), 4), swing


# --------------------------------------------------------------------------------------------- the kernels


@compiled()
def _blurred(values, times):  # type: ignore[no-untyped-def]
    """Values (K,) around a circle, each mixed ¼ : ½ : ¼ with its neighbours, that many times."""
    n = values.shape[0]
    for _ in range(times):
        before, out = values, np.empty_like(values)
        for k in range(n):
            out[k] = (before[k - 1] + 2 * before[k] + before[(k + 1) % n]) / 4
        values = out
    return values


@compiled()
def _outermost(mesh, facing, rim, turn, centre, radius, depth):  # type: ignore[no-untyped-def]
    n = radius.shape[0]
    step = 2 * np.pi / n
    largest = 0.0
    for v in range(mesh.shape[0]):
        # only where the surface turns away, or is about to, or ends, can it be the outline
        z = turn[2, 0] * facing[v, 0] + turn[2, 1] * facing[v, 1] + turn[2, 2] * facing[v, 2]
        if abs(z) > _TURNING and not rim[v]:
            continue
        px, py, pz = mesh[v, 0] - centre[0], mesh[v, 1] - centre[1], mesh[v, 2] - centre[2]
        dx = turn[0, 0] * px + turn[0, 1] * py + turn[0, 2] * pz
        dy = turn[1, 0] * px + turn[1, 1] * py + turn[1, 2] * pz
        r = np.sqrt(dx * dx + dy * dy)
        largest = max(largest, r)
        if r < _INNERMOST * largest:
            continue
        at = np.arctan2(dy, dx) / step
        low = int(np.floor(at))
        for k in range(low - 1, low + 3):
            reach = r * (1 - _STEEP * abs(at - k) * step)
            ray = k % n
            if reach > radius[ray]:
                radius[ray] = reach
                depth[ray] = turn[2, 0] * px + turn[2, 1] * py + turn[2, 2] * pz


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


@compiled()
def _first_free(shown, middle, outline, free):  # type: ignore[no-untyped-def]
    n = free.shape[0]
    height, width = shown.shape
    for ray in range(n):
        nearest = outline[ray]
        for part in range(-1, 2):
            angle = (ray + part / 3.0) * 2 * np.pi / n
            r = 0.4 * outline[ray]
            while r < nearest:
                x = int(np.rint(middle[0] + r * np.cos(angle)))
                y = int(np.rint(middle[1] + r * np.sin(angle)))
                if 0 <= x < width and 0 <= y < height and shown[y, x] < 0:
                    nearest = r
                r += 0.5
        free[ray] = nearest
