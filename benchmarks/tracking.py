"""What following faces gains over detecting them in every frame: throughput and steadiness; and what smoothing costs.

    python benchmarks/tracking.py CLIP.mp4 [--model NAME-OR-FOLDER] [--frames N] [--every N] [--average mirror]
        [--save FILE.npz]

CLIP shows one person. Both ways run by turns on the same blocks of frames, one thread, decoding included in both.
Jitter is the mean second difference of the 68 landmarks over √(w·h) of their box, in %; the lag of smoothing is
measured by cross-correlation of the positions. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.schemas.config import AVERAGES, BUILTIN, DEFAULT_MAX_PIXELS, MIRROR, NO_AVERAGE
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.files.video_files import index_video, read_frames
from ddfa_batch.tasks.geometry import quality, smoothing
from ddfa_batch.tasks.geometry.mirroring import MirrorMap
from ddfa_batch.tasks.geometry.reconstruct import PointBasis
from ddfa_batch.tasks.inference.face_finder import FaceFinder
from ddfa_batch.tasks.inference.face_observer import NetworkObserver, ObservedFaces
from ddfa_batch.tasks.inference.regressor import Regressor
from ddfa_batch.tasks.inference.track_state import TrackerOptions, TrackerState
from ddfa_batch.tasks.inference.tracker import advance

#: Frames that each way does before the other has its turn.
BLOCK = 50


def observer(model: str, average: str = NO_AVERAGE) -> NetworkObserver:
    bundle = find_bundle(model, default_models_folder())
    loaded = loaded_model(str(bundle.folder), bundle.digest)
    _, spec = bundle.detector(None)
    regress = Regressor(loaded.regressor, bundle.manifest)
    finder = FaceFinder(spec, loaded.detector_session(spec), regress, spec.face_threshold)
    landmarks = PointBasis.of(loaded.morphable, loaded.morphable.landmarks)
    deviations = np.array(bundle.manifest.param_std)[N_POSE:]
    mirror = MirrorMap.of(loaded.morphable, deviations) if average == MIRROR else None
    return NetworkObserver(finder, regress, landmarks, mirror=mirror)


@dataclass
class Way:
    """One way of finding the faces of a film, and what came of it."""

    seconds: float = 0.0
    #: (frame, track or -1, landmarks (68, 3)) of every face.
    rows: list[tuple[int, int, np.ndarray]] = field(default_factory=list)

    def main_face(self) -> tuple[np.ndarray, np.ndarray]:
        """Frames (T,) and landmarks (T, 68, 3) of the largest face of each."""
        largest: dict[int, np.ndarray] = {}
        for frame, _, landmarks in self.rows:
            if frame not in largest or np.ptp(landmarks[:, 0]) > np.ptp(largest[frame][:, 0]):
                largest[frame] = landmarks
        frames = np.array(sorted(largest))
        return frames, np.stack([largest[frame] for frame in frames])


def measure(clip: Path, see: NetworkObserver, n_frames: int, options: TrackerOptions) -> tuple[np.ndarray, Way, Way]:
    """Times of the frames, and both ways."""
    index = index_video(clip, DEFAULT_MAX_PIXELS)
    numbers = np.arange(min(n_frames or len(index), len(index)))
    detected, tracked, state = Way(), Way(), TrackerState()
    frames = read_frames(index, numbers, DEFAULT_MAX_PIXELS)
    for start in range(0, len(numbers), BLOCK):
        block = numbers[start : start + BLOCK]
        begun = time.perf_counter()
        images = [frame.image for frame in islice(frames, BLOCK) if frame.image is not None]
        decoding = time.perf_counter() - begun
        begun = time.perf_counter()
        for number, image in zip(block, images, strict=True):
            add(detected, int(number), see.detect(image))
        detected.seconds += decoding + time.perf_counter() - begun
        begun = time.perf_counter()
        for number, image in zip(block, images, strict=True):
            state, rows = advance(state, image, see, options, search=bool(number == numbers[-1]))
            tracked.rows += list(zip(rows.frame.tolist(), rows.track_id.tolist(), rows.faces.landmarks, strict=True))
        tracked.seconds += decoding + time.perf_counter() - begun
    return index.times[numbers], detected, tracked


def add(way: Way, number: int, faces: ObservedFaces) -> None:
    way.rows += [(number, -1, landmarks) for landmarks in faces.landmarks]


def jitter_of(frames: np.ndarray, landmarks: np.ndarray) -> float:
    """Jitter over runs of consecutive frames."""
    runs = np.split(np.arange(len(frames)), np.flatnonzero(np.diff(frames) > 1) + 1)
    sizes = quality.face_size(landmarks)
    parts = [(smoothing.jitter(landmarks[run][..., :2], sizes[run]), len(run) - 2) for run in runs if len(run) > 2]
    return float(np.average([j for j, _ in parts], weights=[n for _, n in parts]))


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default=BUILTIN)
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--every", type=int, default=TrackerOptions().detect_every)
    parser.add_argument("--average", choices=AVERAGES, default=NO_AVERAGE)
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    see = observer(arguments.model, arguments.average)
    options = TrackerOptions(detect_every=arguments.every)
    times, detected, tracked = measure(arguments.clip, see, arguments.frames, options)
    raw_frames, raw = detected.main_face()
    frames, followed = tracked.main_face()
    sizes = quality.face_size(followed)
    smooth = smoothing.smooth_track(frames, times[frames], followed, smoothing.LANDMARKS, sizes)
    late = smoothing.lag(followed[..., :2].reshape(len(frames), -1), smooth[..., :2].reshape(len(frames), -1))
    base = jitter_of(raw_frames, raw)
    tracks = {track for _, track, _ in tracked.rows}
    print("| | frames/s | frames with a face | tracks | jitter, % of face size | of detection's | lag, frames |")
    print("|---|---|---|---|---|---|---|")
    n = len(times)
    for name, way, found, j, count, delay in (
        ("detection in every frame", detected, raw_frames, base, "", ""),
        ("followed", tracked, frames, jitter_of(frames, followed), str(len(tracks)), "0"),
        ("followed, one-euro", tracked, frames, jitter_of(frames, smooth), str(len(tracks)), f"{late:.2f}"),
    ):
        cells = (f"{n / way.seconds:.1f}", f"{len(found)} of {n}", count, f"{j:.3f}", f"{j / base:.2f}", delay)
        print(f"| {name} | {' | '.join(cells)} |")
    ratio = detected.seconds / tracked.seconds
    print(f"\nthroughput × {ratio:.2f}; {arguments.clip.name}, detection every {arguments.every}")
    if arguments.save:
        np.savez(arguments.save, times=times, raw=raw, raw_frames=raw_frames, followed=followed, frames=frames)


if __name__ == "__main__":
    main()
