"""Whether a run of many images costs more of each: time and memory of 100 to 50,000 images, in one chart.

    python benchmarks/run_sizes.py FOLDER [--sizes N ...] [--workers 2] [--chart FILE.svg] [-- OPTION ...]

The images of FOLDER are repeated under other names. Each size is one `ddfa-batch process` with local workers; options
after `--` are handed to it. Told are seconds on the clock and seconds of processor time, both by image, start-up
included, and the most memory that the command and its largest worker held. On a machine with other work the processor
time is what to look at.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from growth_chart import Line, log_chart

from ddfa_batch.tasks.files.format_signatures import SUFFIXES

MIB = 1 << 20
#: Seconds between two looks at the processes.
LOOK_SECONDS = 0.1
#: Names of a folder.
NAMES = 1000


@dataclass
class Cost:
    """What a run cost."""

    #: How many images it had.
    n: int
    #: Seconds on the clock, and of processors.
    seconds: float
    cpu: float
    #: The most bytes resident in the command, and in its largest worker.
    command: int
    worker: int

    def __str__(self) -> str:
        return (
            f"| {self.n:,} | {self.seconds:.1f} | {1e3 * self.seconds / self.n:.2f} | {1e3 * self.cpu / self.n:.2f} | "
            f"{self.command / MIB:.0f} | {self.worker / MIB:.0f} |"
        )


def named(sources: list[Path], folder: Path, n: int) -> Path:
    """A folder of so many names of the images."""
    inputs = folder / f"inputs{n}"
    for number in range(n):
        name = inputs / f"{number // NAMES:04d}" / f"{number:07d}{sources[number % len(sources)].suffix}"
        name.parent.mkdir(parents=True, exist_ok=True)
        name.symlink_to(sources[number % len(sources)])
    return inputs


def run(inputs: Path, n: int, out: Path, workers: int, options: list[str]) -> Cost:
    """One run of the command, looked at from outside."""
    command = [str(Path(sys.executable).parent / "ddfa-batch"), "process", str(inputs), str(out)]
    words = [*command, "--quiet", "--scheduler", "local", "--workers", str(workers), *options]
    began = time.monotonic()
    started = subprocess.Popen(words)
    command_process = psutil.Process(started.pid)
    cpu: dict[int, float] = {}
    most = {"command": 0, "worker": 0}
    while started.poll() is None:
        for process in [command_process, *_below(command_process)]:
            with suppress(psutil.Error):
                times, resident = process.cpu_times(), process.memory_info().rss
                cpu[process.pid] = times.user + times.system
                who = "command" if process.pid == started.pid else "worker"
                most[who] = max(most[who], resident)
        time.sleep(LOOK_SECONDS)
    if started.returncode:
        raise SystemExit(f"The run of {n:,} ended with {started.returncode}.")
    return Cost(n, time.monotonic() - began, sum(cpu.values()), most["command"], most["worker"])


def _below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return list(process.children(recursive=True))
    return []


def drawn(costs: list[Cost]) -> str:
    numbers = [cost.n for cost in costs]
    panels = {
        "ms an image": [
            Line("clock", numbers, [1e3 * cost.seconds / cost.n for cost in costs]),
            Line("processors", numbers, [1e3 * cost.cpu / cost.n for cost in costs]),
        ],
        "MiB": [
            Line("command", numbers, [cost.command / MIB for cost in costs]),
            Line("largest worker", numbers, [cost.worker / MIB for cost in costs]),
        ],
    }
    return log_chart("Time by image, and most memory, of runs of so many images", panels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000, 50_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--scratch", type=Path, help="Where runs are written and removed again.")
    parser.add_argument("options", nargs="*")
    given = parser.parse_args()
    sources = sorted(path.resolve() for path in given.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    print("| images | seconds | ms an image | processor ms an image | command, MiB | largest worker, MiB |")
    print("|---|---|---|---|---|---|", flush=True)
    costs = []
    for n in given.sizes:
        with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
            inputs = named(sources, Path(folder), n)
            costs.append(run(inputs, n, Path(folder, "out"), given.workers, given.options))
        print(costs[-1], flush=True)
    if given.chart is not None:
        given.chart.write_text(drawn(costs))


if __name__ == "__main__":
    main()
