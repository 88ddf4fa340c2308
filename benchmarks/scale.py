"""What a run costs when it is large: to plan ten million inputs, to hand out 20,000 shards, to work for hours.

    python benchmarks/scale.py plan [--inputs N]
    python benchmarks/scale.py shards [--shards N] [--workers N] [--chart FILE]
    python benchmarks/scale.py soak [--minutes M] [--workers N] [--chart FILE]

`plan` writes a list of as many names, plans a run of it, and tells how long that took, the peak memory of the process
and the bytes on disk. `shards` sends shards whose stages do nothing through a scheduler and workers, processes of their
own, and tells tasks a second and how the memory and the open files of client, scheduler and workers grow. `soak` works
at pictures of four sizes, over and over, until the time is up, and tells how each worker's memory grows. What is told
of growth leaves the first quarter out, in which processes load what they need: it is the difference of the medians of
the second and the last.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import psutil
import skimage.data
from growth_chart import Line, chart
from worker_processes import local_workers

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.pipeline import graph, plan
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.process_request import process_request
from ddfa_batch.pipeline.progress import Progress
from ddfa_batch.schemas.config import BUILTIN, Execution, FaceOptions, ItemLimits
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.bundles.model_bundle import find_bundle

MIB = 1 << 20
#: Seconds between two looks at a process.
LOOK_SECONDS = 2.0
#: Longer sides of the pictures of `soak`, in pixels, and how many names each run of it has.
SIDES, SOAK_INPUTS = (320, 640, 1280, 2560), 100_000
#: Seconds that an input of `soak` may take: the machine may be stopped for others meanwhile.
ITEM_SECONDS = 3600
STAGES = ("find-faces", "reconstruct", "write", "commit")


@dataclass
class Watched:
    """What was seen of some processes: moments in seconds, and of each its resident bytes and open files."""

    #: Of each process by name.
    times: dict[str, list[float]] = field(default_factory=dict)
    resident: dict[str, list[int]] = field(default_factory=dict)
    files: dict[str, list[int]] = field(default_factory=dict)

    def look(self, name: str, process: psutil.Process, now: float) -> None:
        with suppress(psutil.Error):
            resident, files = process.memory_info().rss, process.num_fds()
            self.times.setdefault(name, []).append(now)
            self.resident.setdefault(name, []).append(resident)
            self.files.setdefault(name, []).append(files)

    def told(self, name: str) -> str:
        resident, files = self.resident[name], self.files[name]
        before, after = _second_and_last_quarter(resident)
        files_before, files_after = _second_and_last_quarter(files)
        return (
            f"{name:10s} {before / MIB:7.1f} → {after / MIB:7.1f} MiB ({(after - before) / MIB:+.1f}), "
            f"most {max(resident) / MIB:.1f}; open files {files_before:.0f} → {files_after:.0f}, most {max(files)}"
        )

    def lines(self) -> list[Line]:
        return [Line(name, self.times[name], [r / MIB for r in self.resident[name]]) for name in self.times]


def _second_and_last_quarter(values: list[int]) -> tuple[float, float]:
    quarter = max(len(values) // 4, 1)
    return statistics.median(values[quarter : 2 * quarter] or values), statistics.median(values[-quarter:])


@contextmanager
def watching(processes: Any) -> Iterator[Watched]:
    """Look at what `processes()` gives, by name, now and then."""
    seen, done, start = Watched(), threading.Event(), time.monotonic()

    def look() -> None:
        while not done.wait(LOOK_SECONDS):
            for name, each in processes().items():
                seen.look(name, each, time.monotonic() - start)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


# ------------------------------------------------------------------------------------------------- plan


def measure_plan(n: int) -> None:
    """Plan in a process of its own, whose peak memory is its own, too."""
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "names.txt")
        with names.open("w") as file:
            file.writelines(f"/photos/{i // 1000:05d}/{i:08d}.jpg\n" for i in range(n))
        subprocess.run([sys.executable, __file__, "planned", str(names), str(Path(folder, "out"))], check=True)


def tell_plan(names: str, out: Path) -> None:
    bundle = find_bundle(BUILTIN, default_models_folder())
    start = time.monotonic()
    run = plan.prepare(process_request([names], out, bundle, FaceOptions(vertices="none")))
    seconds = time.monotonic() - start
    peak = int(next(r for r in Path("/proc/self/status").read_text().splitlines() if r.startswith("VmHWM")).split()[1])
    size = (out / "plan.parquet").stat().st_size
    print(
        f"{run.n_inputs:,} inputs planned in {seconds:.0f} s ({run.n_inputs / seconds:,.0f}/s), "
        f"{run.n_shards:,} shards of {run.shard_size:,}; peak memory {peak / 1024:.0f} MiB; "
        f"plan.parquet {size / MIB:.0f} MiB"
    )


# ------------------------------------------------------------------------------------------------- shards


def idle_stages() -> graph.Stages:
    """Stages that do nothing, named as those of `process` are."""

    def nothing(out: str, shard: int, *before: Any) -> int:
        return shard

    def receipt(out: str, shard: int, *before: Any) -> Receipt:
        return Receipt(shard, {"images": 0})

    return dict.fromkeys(STAGES[:-1], nothing) | {STAGES[-1]: receipt}


def sound() -> None:
    """No worker has a fault."""


@contextmanager
def dask_processes(folder: str, n_workers: int) -> Iterator[tuple[Path, dict[str, psutil.Process]]]:
    """A scheduler and workers on loopback: the scheduler's file, and the processes by name."""
    file = Path(folder, "scheduler.json")
    common = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--dashboard-address", ":0"]
    commands = {"scheduler": ["scheduler", "--port", "0", *common]}
    commands |= {f"worker {i + 1}": ["worker", "--nthreads", "1", "--no-nanny", *common] for i in range(n_workers)}
    started = {
        name: subprocess.Popen([sys.executable, "-m", "dask", *words], cwd=folder, stderr=subprocess.DEVNULL)
        for name, words in commands.items()
    }
    try:
        while not file.exists():
            time.sleep(0.1)
        yield file, {name: psutil.Process(process.pid) for name, process in started.items()}
    finally:
        for process in reversed(started.values()):
            process.terminate()
            process.wait()


def measure_shards(n: int, n_workers: int, file: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder, dask_processes(folder, n_workers) as (scheduler, others):
        job = graph.Job(folder, idle_stages(), sound, Execution(str(scheduler)), few=False)
        watched = {"client": psutil.Process()} | others
        start = time.monotonic()
        with watching(lambda: watched) as seen:
            done = sum(1 for _ in graph.run_shards(job, list(range(n)), lambda progress: None))
        seconds = time.monotonic() - start
    print(f"{done:,} shards of {len(STAGES)} stages in {seconds:.0f} s: {done * len(STAGES) / seconds:,.0f} tasks/s")
    tell(seen, file, f"Resident memory over {done:,} shards, {n_workers} workers")


# ------------------------------------------------------------------------------------------------- soak


def soak_pictures(folder: Path) -> list[Path]:
    astronaut = skimage.data.astronaut()[..., ::-1]
    paths = []
    for side in SIDES:
        paths.append(folder / f"{side}.jpg")
        cv2.imwrite(str(paths[-1]), cv2.resize(astronaut, (side, side)))
    return paths


class TimeIsUpError(Exception):
    """The soak is over."""


def measure_soak(minutes: float, n_workers: int, file: Path | None) -> None:
    bundle = find_bundle(BUILTIN, default_models_folder())
    with tempfile.TemporaryDirectory() as folder:
        pictures = soak_pictures(Path(folder))
        names = Path(folder, "names.txt")
        names.write_text("".join(f"{_named(pictures, i)}\n" for i in range(SOAK_INPUTS)))
        done, end = 0, time.monotonic() + minutes * 60

        def report(progress: Progress) -> None:
            nonlocal done
            done = max(done, progress.images)
            remove_meshes(Path(folder, "out"))
            if time.monotonic() > end:
                raise TimeIsUpError

        request = process_request([str(names)], Path(folder, "out"), bundle, FaceOptions(vertices="float32"), 64)
        with watching(workers_below) as seen, suppress(TimeIsUpError):
            process(request, Execution("local", n_workers, ItemLimits(ITEM_SECONDS)), report=report)
    print(f"{done:,} pictures in {minutes:.0f} minutes by {n_workers} workers")
    tell(seen, file, f"Resident memory over {minutes:.0f} minutes, {n_workers} workers")


def remove_meshes(out: Path) -> None:
    """Remove the meshes of shards that are finished: hours of them would fill the disk."""
    for receipt in out.glob("shards/*.json"):
        Path(out, "vertices", f"{receipt.stem}.h5").unlink(missing_ok=True)


def _named(pictures: list[Path], i: int) -> Path:
    """A name of its own for every input: a link to one of the pictures."""
    link = pictures[0].parent / f"{i // 1000:03d}" / f"{i:06d}.jpg"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(pictures[i % len(pictures)])
    return link


def workers_below() -> dict[str, psutil.Process]:
    """The workers below this process, and itself, by name."""
    me = psutil.Process()
    return {"client": me} | {f"worker {child.pid}": child for child in local_workers(me)}


def tell(seen: Watched, file: Path | None, title: str) -> None:
    for name in seen.times:
        print(seen.told(name))
    if file is not None:
        file.write_text(chart(title, "MiB", seen.lines()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("plan").add_argument("--inputs", type=int, default=10_000_000)
    planned = commands.add_parser("planned", help=argparse.SUPPRESS)
    planned.add_argument("names")
    planned.add_argument("out", type=Path)
    for name in ("shards", "soak"):
        command = commands.add_parser(name)
        command.add_argument("--workers", type=int, default=2)
        command.add_argument("--chart", type=Path)
    commands.choices["shards"].add_argument("--shards", type=int, default=20_000)
    commands.choices["soak"].add_argument("--minutes", type=float, default=120)
    given = parser.parse_args()
    if given.command == "plan":
        measure_plan(given.inputs)
    elif given.command == "planned":
        tell_plan(given.names, given.out)
    elif given.command == "shards":
        measure_shards(given.shards, given.workers, given.chart)
    else:
        measure_soak(given.minutes, given.workers, given.chart)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
