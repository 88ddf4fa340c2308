"""What the processes of a command take of the cores: seconds that do not depend on what else the machine does.

    python benchmarks/cpu_seconds.py process ./images out --overwrite --quiet --workers 2

Told are, for every process that took a hundredth of a second or more: when it began, and its seconds in all. A process
is looked at every 20 ms, so the last of its seconds may be missing.
"""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

#: Seconds between two looks.
LOOK = 0.02


def cpu_seconds(words: list[str]) -> dict[int, tuple[float, float, str]]:
    """When each process of a command began, counted from its own start, its CPU seconds, and its words, by its id."""
    command = subprocess.Popen([sys.executable, "-m", "ddfa_batch", *words])
    root = psutil.Process(command.pid)
    started, seen = root.create_time(), {}
    while command.poll() is None:
        for process in (root, *root.children(recursive=True)):
            try:
                times = process.cpu_times()
                told = (process.create_time() - started, times.user + times.system, " ".join(process.cmdline())[:60])
            except psutil.NoSuchProcess:
                continue
            seen[process.pid] = told
        time.sleep(LOOK)
    if command.returncode:
        raise SystemExit("the measured command failed")
    return seen


def main() -> None:
    """Measure, and print a line a process and their sum."""
    start = time.perf_counter()
    found = sorted(cpu_seconds(sys.argv[1:]).values())
    wall = time.perf_counter() - start
    for begun, spent, words in found:
        if spent >= LOOK / 2:
            print(f"{begun:6.2f} s: {spent:6.2f} s   {words}")
    print(f"{sum(spent for _, spent, _ in found):.2f} s of the cores in {wall:.2f} s")


if __name__ == "__main__":
    main()
