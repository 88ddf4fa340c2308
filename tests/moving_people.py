"""A film of four people with exact labels, made of public-domain portraits by face profiling and pasting.

Each person's head moves as in `synth-videos`; the moving portraits are pasted onto a canvas along paths of their own:
two pass each other, one comes in and goes out at the right, one comes up from below, and in the middle there is a cut
to another scene, in which other people stand where others stood.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import portraits

from ddfa_batch.schemas.arrays import F64, U8, Floats
from ddfa_batch.tasks.geometry import motion
from ddfa_batch.tasks.geometry.motion import MotionLimits
from ddfa_batch.tasks.geometry.pose import angles, rotation_and_scale, upright
from ddfa_batch.tasks.geometry.reconstruct import image_pose
from ddfa_batch.tasks.inference.face_observer import NetworkObserver
from ddfa_batch.tasks.rendering import face_profiling, stills
from ddfa_batch.tasks.rendering.rasteriser import Viewport
from ddfa_batch.tasks.rendering.surface import Surface

WIDTH, HEIGHT = 640, 400
#: Frames of each of the two scenes, and of the motion that heads repeat to and fro.
SCENE, MOTION = 80, 24
#: Side of a pasted portrait, pixels, and how much of the picture around the face it shows.
TILE, AROUND = 150, 1.35
#: A face of which less than this share of its landmarks' box is in the picture is not there.
THERE = 0.5
#: Frame, x and y, in pixels of the canvas, of corners of the path of each person's portrait, scene by scene.
PATHS: tuple[tuple[tuple[tuple[int, float, float], ...] | None, ...], ...] = (
    (
        ((0, 90, 100), (80, 400, 110)),
        ((0, 400, 300), (80, 90, 290)),
        ((0, 740, 100), (15, 740, 100), (30, 555, 100), (55, 555, 110), (70, 740, 110), (80, 740, 110)),
        ((0, 555, 500), (25, 555, 500), (45, 555, 295), (80, 550, 295)),
    ),
    (
        ((0, -100, 295), (20, -100, 295), (40, 100, 290), (80, 110, 290)),
        None,
        ((0, 400, 110), (80, 330, 110)),
        ((0, 90, 100), (50, 100, 100), (65, 100, -100), (80, 100, -100)),
    ),
)


@dataclass(frozen=True)
class Film:
    """Frames and what is known of them."""

    #: (H, W, 3) BGR.
    images: list[U8]
    #: (T, people, 68, 2) pixels; NaN where less than `THERE` of a face is in the picture.
    landmarks: F64

    def appearances(self) -> list[tuple[int, int, int]]:
        """Person, first and last frame of each time that somebody is in the picture, no cut between."""
        found = []
        there = np.isfinite(self.landmarks[:, :, 0, 0])
        for person in range(there.shape[1]):
            for start in range(0, len(there), SCENE):
                seen = start + np.flatnonzero(there[start : start + SCENE, person])
                if len(seen):
                    found.append((person, int(seen[0]), int(seen[-1])))
        return found


@dataclass(frozen=True)
class _Person:
    """A portrait that moves: pictures (MOTION, TILE, TILE, 3), and its landmarks (MOTION, 68, 2) in them."""

    pictures: list[U8]
    landmarks: F64


def film(see: NetworkObserver, model: object) -> Film:
    """The film; `see` and `model` are of one bundle, and give each portrait the face that is then moved exactly."""
    people = [_moving(see, model, picture, seed) for seed, picture in enumerate(_portraits())]
    images, landmarks = [], np.full((2 * SCENE, len(people), 68, 2), np.nan)
    for scene, paths in enumerate(PATHS):
        background = _background(scene)
        for t in range(SCENE):
            canvas = background.copy()
            for person, path in enumerate(paths):
                if path is not None:
                    at = landmarks[scene * SCENE + t, person]
                    at[:] = _paste(canvas, people[person], t, path)
                    if _share_inside(at) < THERE:
                        at[:] = np.nan
            images.append(canvas)
    return Film(images, landmarks)


def write(made: Film, path: Path) -> Path:
    """The film at 25 frames a second, H.264 that loses next to nothing, a keyframe a second."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "8", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        stream.codec_context.gop_size = 25
        for image in made.images:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        file.mux(stream.encode(None))
    return path


@cache
def _portraits() -> tuple[U8, ...]:
    """Two people, and two more made of them: mirrored, and of other colours."""
    astronaut, hopper = (cv2.imread(str(path)) for path in (portraits.astronaut(), portraits.hopper()))
    others = [
        cv2.convertScaleAbs(p[:, ::-1], alpha=0.75, beta=20)[:, :, order]
        for p, order in ((astronaut, [1, 0, 2]), (hopper, [0, 2, 1]))
    ]
    return tuple(np.ascontiguousarray(picture, np.uint8) for picture in (astronaut, hopper, *others))


def _moving(see: NetworkObserver, model: object, picture: U8, seed: int) -> _Person:
    faces = see.detect(picture)
    layout, size = model.layout, faces.crops.shape[1]  # type: ignore[attr-defined]
    T = image_pose(motion.true_depth(layout.pose(faces.params[:1])), faces.rois[:1], size)[0]
    shape = stills.face_shape(model, faces.params[0])  # type: ignore[arg-type]
    surface = Surface.of(model)  # type: ignore[arg-type]
    still = stills.prepare(surface, picture, T, shape)
    (now,) = angles(rotation_and_scale(upright(T[None]))[0])
    x0, y0, x1, y1 = faces.rois[0]
    limits = MotionLimits(yaw=(-20, 20), pitch=(-8, 8), roll=(-8, 8), shift=(0, 0), scale=(0.97, 1.03))
    moves = motion.random_motion(np.random.default_rng(seed), limits, MOTION, now, x1 - x0)
    middle, half = np.array([x0 + x1, y0 + y1]) / 2, AROUND * (x1 - x0) / 2
    viewport = Viewport.of_roi(np.concatenate([middle - half, middle + half]), TILE)
    pictures = face_profiling.frames(surface, still, moves, [viewport] * MOTION)
    in_tile = motion.compose(viewport.affine, face_profiling.poses(still, moves))
    points = motion.apply(in_tile, shape[model.landmarks][None])  # type: ignore[attr-defined]
    return _Person(pictures, points[..., :2])


def _paste(canvas: U8, person: _Person, t: int, path: tuple[tuple[int, float, float], ...]) -> F64:
    """Paste the person where the path is in frame t, and give the landmarks (68, 2) there."""
    frames, xs, ys = np.array(path, np.float64).T
    left, top = (round(float(np.interp(t, frames, along)) - TILE / 2) for along in (xs, ys))
    turn = t % (2 * MOTION - 2)
    row = turn if turn < MOTION else 2 * MOTION - 2 - turn
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + TILE, WIDTH), min(top + TILE, HEIGHT)
    if x1 > x0 and y1 > y0:
        canvas[y0:y1, x0:x1] = person.pictures[row][y0 - top : y1 - top, x0 - left : x1 - left]
    return np.asarray(person.landmarks[row] + [left, top])


def _share_inside(landmarks: Floats) -> float:
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    inside = np.clip(np.minimum(high, [WIDTH, HEIGHT]) - np.maximum(low, 0), 0, None)
    return float(inside.prod() / (high - low).prod())


def _background(scene: int) -> U8:
    rng = np.random.default_rng(100 + scene)
    coarse = rng.integers(40, 180, (5, 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))
