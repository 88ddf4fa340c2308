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
from numba import njit
from scipy.spatial import cKDTree

from ddfa_batch.schemas.arrays import F32, F64, I32, I64, U8, Bools, Floats, check_shape
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks import motion as moving
from ddfa_batch.tasks.render import Viewport, normals, rasterise, textured

#: Rays that carry anchors: one every two degrees, 3 to 4 pixels of outline on a face of 200.
N_RAYS = 180
#: Anchors of a ray: by the centre, just within the outline, on it, a fifth of the way to the rim, the rim, far.
N_RINGS = 6
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
#: Cosine between surface and viewer above which its pixels are the face's without question …
_CORE = 0.5
#: … if it also lies within this share of the way to the outline (an ear may face the viewer) …
_WITHIN = 0.8
#: … and between which doubt rises from 0 to 1 towards the outline, where a misfit of a pixel or two paints
#: background on the cheek.
_GRAZING = (0.25, 0.12)
#: Grey levels by which pixels between the core and the outline may differ from what the core would lead one to
#: expect there: from the first on doubt rises, at the second they are background, or hair.
_STRANGE = (40.0, 80.0)
#: Doubt above which a vertex has no colour of its own.
_TRUSTED = 0.3
#: Rounds in which doubt spreads to neighbours, to leave no speckles.
_SPREAD = 3
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
#: Sweeps that smooth a filled surface, each replacing every colour by the mean of those around it.
_SWEEPS = 12
#: Rounds in which the plane of symmetry of a face is found.
_MIRROR_ROUNDS = 3
#: Pixels across the face in the pass that finds out what the still shows.
_VISIBILITY_SIZE = 400.0


@dataclass(frozen=True)
class Surface:
    """What profiling needs to know of a morphable model, once per process.

    triangles (T, 3): the face's, the lining's, which closes holes within the face such as an open mouth, and the
    anchors'. Vertices: the model's V, then copies of those in `lined` (M,), then the anchors; neighbours of vertex
    v: neighbours[starts[v] : starts[v + 1]]; mirror (V,): the vertex on the other side; rim (V + M,): on the
    edge of the surface; centre (3,) in model units: the mean of the mean face, about which heads turn.
    """

    triangles: I32
    n_face_triangles: int
    n_solid_triangles: int
    lined: I32
    starts: I32
    neighbours: I32
    mirror: I32
    rim: Bools
    centre: F64

    @staticmethod
    def of(model: MorphableModel) -> Surface:
        """The surface of a model."""
        v = model.n_vertices
        edges = model.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
        keys, uses = np.unique(np.concatenate([edges @ [v, 1], edges @ [1, v]]), return_counts=True)
        starts = np.searchsorted(keys, np.arange(v + 1) * v)
        single = np.isin(edges @ [v, 1], keys[uses == 1])
        loops = sorted(_loops(edges[single]), key=len)
        holes = [_from_a_corner(loop, model.mean) for loop in loops[:-1]]
        lined = np.array([vertex for hole in holes for vertex in hole], np.int32)
        lining = _lining(holes, v)
        rim = np.zeros(v + len(lined), np.bool_)
        rim[loops[-1] if loops else []] = True
        return Surface(
            triangles=np.concatenate([model.triangles, lining, _sheet() + v + len(lined)]).astype(np.int32),
            n_face_triangles=len(model.triangles),
            n_solid_triangles=len(model.triangles) + len(lining),
            lined=lined,
            starts=starts.astype(np.int32),
            neighbours=(keys % v).astype(np.int32),
            mirror=_mirror(model.mean),
            rim=rim,
            centre=model.mean.astype(np.float64).mean(axis=0),
        )


def _loops(edges: I64) -> list[list[int]]:
    """The closed paths that directed edges (n, 2) run along."""
    ahead = dict(edges.tolist())
    loops = []
    while ahead:
        loop = [next(iter(ahead))]
        while loop[-1] in ahead:
            loop.append(ahead.pop(loop[-1]))
        loops.append(loop[:-1])
    return loops


def _from_a_corner(loop: list[int], mean: F32) -> list[int]:
    """The loop begun at an end of its longest side: a corner of the mouth."""
    axis = int(np.argmax(np.ptp(mean[loop], axis=0)))
    first = int(np.argmin(mean[loop, axis]))
    return loop[first:] + loop[:first]


def _lining(loops: list[list[int]], first: int) -> I32:
    """Strips of triangles that close loops, seen from either side; vertices are counted loop by loop from `first`."""
    triangles: list[tuple[int, int, int]] = []
    for loop in loops:
        low, high = first, first + len(loop) - 1
        while high - low >= 2:
            triangles += [(low, low + 1, high), (low, high, low + 1)]
            low += 1
            if high - low >= 2:
                triangles += [(low, high - 1, high), (low, high, high - 1)]
                high -= 1
        first += len(loop)
    return np.array(triangles, np.int32).reshape(-1, 3)


def _mirror(mean: F32) -> I32:
    """The vertex nearest to each vertex's mirror image (V,), left and right being along x."""
    tree = cKDTree(mean)
    middle = float(mean[:, 0].min() + mean[:, 0].max()) / 2
    for _ in range(_MIRROR_ROUNDS):
        nearest = tree.query(mean * [-1, 1, 1] + [2 * middle, 0, 0])[1]
        middle = float((mean[:, 0] + mean[nearest, 0]).mean()) / 2
    return np.asarray(nearest, np.int32)


def _sheet() -> I32:
    """Triangles of the anchors, ring by ring from the centre, clockwise on a picture whose y points down."""
    ray, ring = (a.ravel() for a in np.meshgrid(np.arange(N_RAYS), np.arange(N_RINGS - 1), indexing="ij"))
    here, there = ring * N_RAYS + ray, ring * N_RAYS + (ray + 1) % N_RAYS
    out_here, out_there = here + N_RAYS, there + N_RAYS
    sheet = np.stack([here, there, out_there, here, out_there, out_here], axis=1)
    # the left half is cut the other way, so that mirrored anchors have mirrored triangles
    left = (ray >= N_RAYS // 4) & (ray < 3 * N_RAYS // 4)
    sheet[left] = np.stack([here, there, out_here, there, out_there, out_here], axis=1)[left]
    sheet = sheet.reshape(-1, 3)
    # close the middle with a fan, lest a pixel at the very centre stay empty
    fan = np.stack([np.zeros(N_RAYS - 2), np.arange(2, N_RAYS), np.arange(1, N_RAYS - 1)], axis=1)
    return np.concatenate([sheet, fan]).astype(np.int32)


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
    shows something else; rays; radius: of a ball
    about the centre that holds the mesh, in pixels.
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

    `pose` should be true in depth (`motion.true_depth`). The image is BGR, (H, W, 3).
    """
    check_shape("image", image, None, None, 3)
    check_shape("pose", pose, 3, 4)
    check_shape("shape", shape, surface.mirror.shape[0], 3)
    T = np.asarray(pose, np.float64)
    mesh = (shape @ T[:, :3].T + T[:, 3]).astype(np.float32)
    centre = T[:, :3] @ surface.centre + T[:, 3]
    radius = max(float(np.sqrt(((mesh - centre) ** 2).sum(axis=1).max())), 1.0)
    facing = normals(mesh, surface.triangles[: surface.n_face_triangles])
    view = _view_of_face(centre, radius)
    pictured = (mesh @ view.affine[:, :3].T + view.affine[:, 3]).astype(np.float32)
    fragments = rasterise(np.concatenate([pictured, pictured[surface.lined]]),
                          surface.triangles[: surface.n_solid_triangles], view.width, view.height)  # fmt: skip
    hidden = _hidden(pictured, facing, fragments.depth, _HIDDEN * _VISIBILITY_SIZE / 2)
    rays = _rays(surface, image, mesh, facing, T, centre, radius, fragments.triangle, view)
    seen = np.empty((len(mesh), 3), np.float32)
    _sample(image, mesh, seen)
    doubt = _doubt(surface, image, mesh, facing[:, 2], hidden, seen, _within(mesh, centre, rays.outline))
    colours = _complete(surface, seen, doubt < _TRUSTED)
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


def _doubt(surface: Surface, image: U8, mesh: F32, facing: F32, hidden: Bools, seen: F32, within: Bools) -> F32:
    """How unlikely it is (V,), 0 to 1, that the pixel at a vertex shows the face; 1 where it is hidden."""
    h, w = image.shape[:2]
    inside = (mesh[:, 0] >= 0) & (mesh[:, 0] <= w - 1) & (mesh[:, 1] >= 0) & (mesh[:, 1] <= h - 1)
    visible = inside & ~hidden
    core = visible & within & (facing > _CORE)
    expected = np.where(core[:, None], seen, 0).astype(np.float32)
    _grow(expected, core, visible & ~core, surface.starts, surface.neighbours, 1)
    strange = np.maximum.reduce(np.abs(seen - expected).T)
    doubt = _smoothstep((strange - _STRANGE[0]) / (_STRANGE[1] - _STRANGE[0]))
    doubt = np.maximum(doubt, _smoothstep((facing - _GRAZING[0]) / (_GRAZING[1] - _GRAZING[0])))
    doubt = np.where(core, 0, np.where(visible, doubt, 1)).astype(np.float32)
    for _ in range(_SPREAD):
        spread = np.empty_like(doubt)
        _mean_of_neighbours(doubt, surface.starts, surface.neighbours, spread)
        doubt = spread
    return np.where(core, 0, np.where(visible, doubt, 1)).astype(np.float32)


def _within(mesh: F32, centre: F64, outline: F64) -> Bools:
    """Vertices (V,) well within the outline."""
    x, y = (mesh[:, :2] - centre[:2]).T
    ray = np.rint(np.arctan2(y, x) * (N_RAYS / (2 * np.pi))).astype(np.int64) % N_RAYS
    return np.asarray(np.hypot(x, y) < _WITHIN * outline[ray])


def _complete(surface: Surface, seen: F32, trusted: Bools) -> F32:
    """A colour for every vertex (V, 3): its own where `trusted`, or the mirrored, or grown from its neighbours."""
    if not trusted.any():
        return seen
    both = trusted[surface.mirror]
    colours = np.where(trusted[:, None], seen, 0).astype(np.float32)
    opposite = seen[surface.mirror]
    # the membrane: what must be added to the other side's colours for them to meet this side's
    membrane = np.where((trusted & both)[:, None], seen - opposite, 0).astype(np.float32)
    borrowed = both & ~trusted
    _grow(membrane, trusted & both, borrowed, surface.starts, surface.neighbours, _SWEEPS)
    colours[borrowed] = np.clip(opposite[borrowed] + membrane[borrowed], 0, 255)
    known = trusted | borrowed
    _grow(colours, known, ~known, surface.starts, surface.neighbours, _SWEEPS)
    return colours


def _rays(
    surface: Surface, image: U8, mesh: F32, facing: F32, pose: F64, centre: F64, radius: float, shown: I32,
    view: Viewport,
) -> Rays:
    outline, depth = _outline(surface, mesh, facing, np.eye(3), centre)
    angle = np.arange(N_RAYS) * (2 * np.pi / N_RAYS)
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
    """  # noqa: D205

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


def _smoothstep(t: Floats) -> Floats:
    t = np.clip(t, 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


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
    skin = float(_smoothstep(np.array(_degrees(turn) / _SKIN_RIM)))
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
    away = _smoothstep((rays.depth - moved[2]) / rays.outline / _AWAY)
    return new - _blurred(away * np.maximum(new - old, 0), 4), swing


# --------------------------------------------------------------------------------------------- the kernels


@njit(cache=True, nogil=True)
def _blurred(values, times):  # type: ignore[no-untyped-def]
    """Values (K,) around a circle, each mixed ¼ : ½ : ¼ with its neighbours, that many times."""
    n = values.shape[0]
    for _ in range(times):
        before, out = values, np.empty_like(values)
        for k in range(n):
            out[k] = (before[k - 1] + 2 * before[k] + before[(k + 1) % n]) / 4
        values = out
    return values


@njit(cache=True, nogil=True)
def _sample(image, mesh, out):  # type: ignore[no-untyped-def]
    h, w = image.shape[0], image.shape[1]
    for v in range(mesh.shape[0]):
        x, y = min(max(mesh[v, 0], 0.0), w - 1.0), min(max(mesh[v, 1], 0.0), h - 1.0)
        x0, y0 = int(x), int(y)
        x1, y1 = min(x0 + 1, w - 1), min(y0 + 1, h - 1)
        fx, fy = x - x0, y - y0
        for ch in range(3):
            top = image[y0, x0, ch] * (1 - fx) + image[y0, x1, ch] * fx
            out[v, ch] = top * (1 - fy) + (image[y1, x0, ch] * (1 - fx) + image[y1, x1, ch] * fx) * fy


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _mean_of_neighbours(values, starts, neighbours, out):  # type: ignore[no-untyped-def]
    for v in range(values.shape[0]):
        total = values[v]
        for e in range(starts[v], starts[v + 1]):
            total += values[neighbours[e]]
        out[v] = total / (1 + starts[v + 1] - starts[v])


@njit(cache=True, nogil=True)
def _place(mesh, affine, out):  # type: ignore[no-untyped-def]
    for v in range(mesh.shape[0]):
        x, y, z = mesh[v, 0], mesh[v, 1], mesh[v, 2]
        for k in range(3):
            out[v, k] = affine[k, 0] * x + affine[k, 1] * y + affine[k, 2] * z + affine[k, 3]


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _grow(values, known, wanted, starts, neighbours, sweeps):  # type: ignore[no-untyped-def]
    """Fill `values` (V, 3) in place where `wanted`: outwards from what is known, ring by ring, then smoothed.

    No vertex depends on the order in which its ring is filled, so mirrored faces are filled alike.
    """
    n = values.shape[0]
    order = np.empty(n, np.int32)
    fresh = np.empty((n, 3), np.float32)
    reached = ~wanted
    done = known.copy()
    head, tail = 0, 0
    for v in range(n):
        if known[v]:
            tail = _reach(v, order, reached, tail, starts, neighbours)
    while head < tail:
        end = tail
        for i in range(head, end):
            _average(values, order[i], done, starts, neighbours, fresh[i])
        for i in range(head, end):
            values[order[i]] = fresh[i]
            done[order[i]] = True
        for i in range(head, end):
            tail = _reach(order[i], order, reached, tail, starts, neighbours)
        head = end
    for _ in range(sweeps):
        for i in range(tail):
            _average(values, order[i], done, starts, neighbours, fresh[i])
        for i in range(tail):
            values[order[i]] = fresh[i]


@njit(cache=True, nogil=True, inline="always")
def _reach(v, order, reached, tail, starts, neighbours):  # type: ignore[no-untyped-def]
    for e in range(starts[v], starts[v + 1]):
        u = neighbours[e]
        if not reached[u]:
            reached[u] = True
            order[tail] = u
            tail += 1
    return tail


@njit(cache=True, nogil=True, inline="always")
def _average(values, v, usable, starts, neighbours, out):  # type: ignore[no-untyped-def]
    blue, green, red, count = np.float32(0), np.float32(0), np.float32(0), 0
    for e in range(starts[v], starts[v + 1]):
        u = neighbours[e]
        if usable[u]:
            blue += values[u, 0]
            green += values[u, 1]
            red += values[u, 2]
            count += 1
    share = np.float32(1.0) / np.float32(max(count, 1))
    out[0], out[1], out[2] = blue * share, green * share, red * share
