"""How long a user waits for `--help`, and for the first picture: python benchmarks/startup.py [PICTURE]

Without a picture, scikit-image's astronaut is used. Commands are started anew each time, after one that fills the disk
cache. Wall time is the best of some; processor time, user's and system's, tells more on a machine that is not idle.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 7


def best(*words: str) -> tuple[float, float]:
    """Least wall and processor seconds of `RUNS` starts of a command."""
    walls, processors = [], []
    for _ in range(RUNS + 1):
        wall, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-m", "ddfa_batch", *words], check=True, capture_output=True)
        after = os.times()
        walls.append(time.perf_counter() - wall)
        processors.append(after[2] + after[3] - before[2] - before[3])
    return min(walls[1:]), min(processors[1:])


def main() -> None:
    if len(sys.argv) > 1:
        picture = sys.argv[1]
    else:
        import skimage

        picture = str(Path(skimage.__file__).parent / "data/astronaut.png")
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "--help": ("--help",),
            "process --help": ("process", "--help"),
            "process, 1 picture": ("process", picture, f"{folder}/out", "--overwrite"),
        }
        for name, words in commands.items():
            wall, processor = best(*words)
            print(f"{name:20} {wall:6.2f} s, of the processor {processor:5.2f} s")


if __name__ == "__main__":
    main()
