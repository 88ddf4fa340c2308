"""How fast are synthetic clips, and where does the time go?

    python benchmarks/synth_speed.py --images IMAGES --run RUN --model BUNDLE [--stills 20] [--frames 10]

RUN is a finished `ddfa-batch process` run over IMAGES with BUNDLE. One process, one thread. For whole photographs and
for 120-pixel crops: medians over the stills of frames per second (a) of a clip with everything that is done once a
still, and (b) of its frames alone, without noise, blur and encoding; then milliseconds by step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ddfa_batch.schemas.arrays import F32, F64, U8
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import load_bundle
from ddfa_batch.tasks.files import images
from ddfa_batch.tasks.geometry import motion
from ddfa_batch.tasks.geometry.reconstruct import image_pose
from ddfa_batch.tasks.rendering import degradation, face_profiling, rasteriser, stills
from ddfa_batch.tasks.rendering.rasteriser import Viewport
from ddfa_batch.tasks.rendering.surface import Surface

STEPS = ("shape of the face", "prepare the still", "anchors", "place vertices", "rasterise", "paint")


def milliseconds(work: Callable[[], object], times: int = 3) -> float:
    """The median time of a call; the first call is not counted."""
    work()
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return float(np.median(spent)) * 1e3


def frame_steps(surface: Surface, still: stills.Still, path: motion.Motion, view: Viewport) -> list[float]:
    """Milliseconds of a middle frame: anchors, place, rasterise, paint."""
    turn = motion.out_of_plane(still.pose, path, still.centre)[len(path) // 2]
    place = motion.in_plane(path, still.centre)[len(path) // 2]
    scene = face_profiling.scene(surface, still, turn, place, view)
    vertices, triangles = scene.vertices, surface.triangles
    shown = rasteriser.rasterise(vertices, triangles, view.width, view.height)
    anchors = milliseconds(lambda: face_profiling.anchors(surface, still, turn))
    return [
        anchors,
        milliseconds(lambda: face_profiling.scene(surface, still, turn, place, view)) - anchors,
        milliseconds(lambda: rasteriser.rasterise(vertices, triangles, view.width, view.height)),
        milliseconds(
            lambda: rasteriser.textured(shown, vertices, triangles, still.image, scene.uv, still.colours, scene.weight)
        ),
    ]


def measure(
    surface: Surface, model: MorphableModel, image: U8, params: F32, T: F64, path: motion.Motion, view: Viewport
) -> list[float]:
    """Milliseconds of one still: the whole clip, its frames, the steps, and noise and blur of one frame."""
    shape = stills.face_shape(model, params)
    still = stills.prepare(surface, image, T, shape)
    once = [
        milliseconds(lambda: stills.face_shape(model, params)),
        milliseconds(lambda: stills.prepare(surface, image, T, shape)),
    ]
    frames = milliseconds(lambda: face_profiling.frames(surface, still, path, [view] * len(path)))
    picture = face_profiling.frames(surface, still, path[-1:], [view])[0]
    rng = np.random.default_rng(0)
    spoil = milliseconds(lambda: degradation.degrade(picture, 5.0, np.array([4.0, 2.0]), rng))
    return [sum(once) + frames, frames, *once, *frame_steps(surface, still, path, view), spoil]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("images", "run", "model"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--stills", type=int, default=20)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    bundle = load_bundle(args.model)
    model = loaded_model(str(bundle.folder), bundle.digest).morphable
    surface = Surface.of(model)
    columns = ["key", "params", "roi", "yaw", "pitch", "roll"]
    faces = pd.concat([pd.read_parquet(f, columns=columns) for f in sorted((args.run / "faces").glob("*.parquet"))])
    rng = np.random.default_rng(args.seed)
    chosen = faces.iloc[rng.choice(len(faces), min(args.stills, len(faces)), replace=False)]
    for size in ("original", "120"):
        table = []
        for face in chosen.itertuples():
            image = images.decode(images.read_bytes(args.images / face.key), 10**9)
            params, roi = np.array(face.params, np.float32), np.array(face.roi, np.float64)
            pose = motion.true_depth(model.layout.pose(params[None]))
            T = image_pose(pose, roi[None], bundle.manifest.input_size)[0]
            angles = np.array([face.yaw, face.pitch, face.roll])
            path = motion.random_motion(rng, motion.MotionLimits(), args.frames, angles, float(roi[2] - roi[0]))
            view = Viewport.of_image(image) if size == "original" else Viewport.of_roi(roi, 120)
            table.append(measure(surface, model, image, params, T, path, view))
        clip, frames, *steps, spoil = np.median(table, axis=0)
        n = args.frames
        print(f"{size}: {1e3 * n / clip:.0f} frames/s with preparation (clips of {n}), {1e3 * n / frames:.0f} without")
        for name, ms in zip(STEPS, steps, strict=True):
            print(f"  {name:<20} {ms:6.2f} ms a {'clip' if name in STEPS[:2] else 'frame'}")
        print(f"  {'noise and blur':<20} {spoil:6.2f} ms a frame, not in the figures above")


if __name__ == "__main__":
    main()
