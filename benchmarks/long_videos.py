"""What one long video costs: throughput of one worker and of two, and the memory of a worker.

    python benchmarks/long_videos.py scaling CLIP.mp4 [--rounds N] [--vertices FORM]
    python benchmarks/long_videos.py memory [--frames N] [--workers N]

`scaling` runs `process` on CLIP with one worker and with two by turns, and tells seconds and their ratio: from when the
workers are ready to the end, and of the whole run with listing, start-up and joining. `memory` makes a film of
1920 × 1080 pixels and as many frames as asked for, in which a face moves, runs `process` on it, and tells the greatest
resident size of any worker, and by how much that of each grows over every thousand frames once a quarter is done.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil
import skimage.data
from worker_processes import local_workers

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.process_request import process_request
from ddfa_batch.pipeline.progress import Phase, Progress
from ddfa_batch.schemas.config import BUILTIN, Execution, FaceOptions
from ddfa_batch.tasks.bundles.model_bundle import find_bundle

#: The film of `memory`: pixels, frames after which it repeats itself, side of the portrait, frames a second.
WIDTH, HEIGHT, LOOP, TILE, RATE = 1920, 1080, 250, 400, 25
#: Seconds between two looks at the workers' memory, and share of the frames before growth counts.
LOOK_SECONDS, WARM_SHARE = 0.5, 0.25
MIB = 1 << 20


@dataclass
class Watched:
    """What was seen of a run while it went."""

    #: Moments (seconds) at which its phases began.
    began: dict[Phase, float] = field(default_factory=dict)
    #: Frames done so far.
    frames: int = 0
    #: (frames done, resident bytes) of each worker, by process.
    resident: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    #: Greatest resident bytes of each worker, as the kernel counts them.
    peak: dict[int, int] = field(default_factory=dict)

    def seconds(self, start: Phase) -> float:
        """From the beginning of a phase to the end of the run."""
        return self.began[Phase.DONE] - self.began[start]

    def hear(self, progress: Progress) -> None:
        """Take a report of the run."""
        self.began.setdefault(progress.phase, time.perf_counter())
        self.frames = progress.images


def watched_run(clip: Path, out: Path, workers: int, model: str, vertices: str) -> Watched:
    """Run `process` on a clip with so many workers."""
    bundle, seen = find_bundle(model, default_models_folder()), Watched()
    request = process_request([str(clip)], out, bundle, FaceOptions(vertices=vertices))
    with looking(seen):
        process(request, Execution("local", workers), report=seen.hear)
    return seen


@contextmanager
def looking(seen: Watched) -> Iterator[None]:
    """Look at the memory of this process's workers now and then."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(LOOK_SECONDS):
            for child in local_workers(psutil.Process()):
                try:
                    status = Path(f"/proc/{child.pid}/status").read_text()
                    seen.peak[child.pid] = 1024 * int(status.split("VmHWM:")[1].split()[0])
                    seen.resident.setdefault(child.pid, []).append((seen.frames, child.memory_info().rss))
                except (psutil.Error, OSError, IndexError):  # it has ended
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# ------------------------------------------------------------------------------------------------ the parts


def scaling(clip: Path, rounds: int, model: str, vertices: str) -> None:
    """Print seconds with one worker and with two, by turns, and the median ratios."""
    at_work: list[tuple[float, float]] = []
    whole: list[tuple[float, float]] = []
    print("| round | workers | ready to done, s | whole run, s |\n|---|---|---|---|")
    for number in range(rounds):
        runs = []
        for workers in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                seen = watched_run(clip, Path(folder) / "out", workers, model, vertices)
            runs.append(seen)
            ready = seen.seconds(Phase.WORKING)
            print(f"| {number + 1} | {workers} | {ready:.2f} | {seen.seconds(Phase.LISTING):.2f} |", flush=True)
        at_work.append((runs[0].seconds(Phase.WORKING), runs[1].seconds(Phase.WORKING)))
        whole.append((runs[0].seconds(Phase.LISTING), runs[1].seconds(Phase.LISTING)))
    for what, pairs in (("start-up left out", at_work), ("start-up counted", whole)):
        print(f"two workers, {what}: × {statistics.median(one / two for one, two in pairs):.2f} (median)")


def memory(n_frames: int, workers: int, model: str) -> None:
    """Print the peak memory of each worker, and its growth."""
    with tempfile.TemporaryDirectory() as folder:
        clip = write_film(Path(folder) / "film.mp4", n_frames)
        seen = watched_run(clip, Path(folder) / "out", workers, model, "none")
    print(f"{n_frames:,} frames of {WIDTH}×{HEIGHT}, {seen.seconds(Phase.WORKING):.0f} s")
    print("| worker | peak, MiB | growth, MiB per 1,000 frames | from, to, MiB |\n|---|---|---|---|")
    for number, (pid, looks) in enumerate(sorted(seen.resident.items())):
        frames, resident = np.array(looks, np.float64).T
        warm = frames >= WARM_SHARE * n_frames
        growth = np.polyfit(frames[warm] / 1000, resident[warm] / MIB, 1)[0] if warm.sum() > 2 else np.nan
        quarter = [np.median(part) / MIB for part in np.array_split(resident[warm], 4)]
        print(f"| {number} | {seen.peak[pid] / MIB:.0f} | {growth:+.2f} | {quarter[0]:.0f}, {quarter[-1]:.0f} |")


def write_film(path: Path, n_frames: int) -> Path:
    """A portrait that goes round; its first `LOOP` frames are encoded, the rest repeats their packets."""
    astronaut = cv2.resize(cv2.cvtColor(skimage.data.astronaut()[:280, 80:360], cv2.COLOR_RGB2BGR), (TILE, TILE))
    rng = np.random.default_rng(0)
    noise = cv2.resize(rng.integers(0, 255, (27, 48, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        packets: list[Any] = []
        for number in range(min(LOOP, n_frames)):
            image, turn = noise.copy(), 2 * np.pi * number / LOOP
            x, y = (round((side - TILE) * (1 + wave(turn)) / 2) for side, wave in ((WIDTH, np.cos), (HEIGHT, np.sin)))
            image[y : y + TILE, x : x + TILE] = astronaut
            packets += stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24"))
        packets += stream.encode(None)
        each = pairwise(sorted(packet.pts for packet in packets))
        tick = min(later - earlier for earlier, later in each)
        for number, packet in enumerate(islice(repeated(packets), n_frames)):
            copy = av.Packet(bytes(packet))
            copy.pts = copy.dts = number * tick
            copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, stream
            file.mux(copy)
    return path


def repeated(packets: list[Any]) -> Iterator[Any]:
    """The packets again and again."""
    while True:
        yield from packets


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("scaling")
    part.add_argument("clip", type=Path)
    part.add_argument("--rounds", type=int, default=3)
    part.add_argument("--vertices", default="none")
    part.add_argument("--model", default=BUILTIN)
    part = parts.add_parser("memory")
    part.add_argument("--frames", type=int, default=20_000)
    part.add_argument("--workers", type=int, default=2)
    part.add_argument("--model", default=BUILTIN)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores")
    if arguments.part == "scaling":
        scaling(arguments.clip, arguments.rounds, arguments.model, arguments.vertices)
    else:
        memory(arguments.frames, arguments.workers, arguments.model)


if __name__ == "__main__":
    main()
