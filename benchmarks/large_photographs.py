"""What it saves to decode large JPEGs only as large as their faces need, and by how much answers move.

    python benchmarks/large_photographs.py FOLDER [--megapixels 12] [--images 60] [--rounds 5] [--model NAME]
    python benchmarks/large_photographs.py FOLDER --memory --megapixels 100

Photographs of FOLDER are enlarged to so many megapixels (bicubic, JPEG of quality 90) and repeated under other names.
In every round, side by side, `ddfa-batch process` works at them in this process with `--decode full` and with
`--decode scaled`; start-up is left out. Then the landmarks of both are compared, in pixels of the large picture and in
thousandths of the face's size, beside what it changes to save the same picture once more with quality 95. `--memory`
tells the peak memory of one such picture in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

import ddfa_batch
from ddfa_batch.schemas.config import BUILTIN, MAX_MAX_PIXELS
from ddfa_batch.tasks.files.format_signatures import SUFFIXES

#: Sides are multiples of this, as cameras' are.
MULTIPLE = 16
QUALITY = 90


def enlarged(path: Path, megapixels: float) -> np.ndarray:
    """A photograph as large as asked for."""
    image = cv2.imread(str(path))
    height, width = image.shape[:2]
    scale = (megapixels * 1e6 / (height * width)) ** 0.5
    size = tuple(round(side * scale / MULTIPLE) * MULTIPLE for side in (width, height))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC))


def make(sources: list[Path], folder: Path, megapixels: float, n: int) -> tuple[Path, Path]:
    """Folders of the large photographs, repeated, and of each once as it is saved again."""
    photographs, again = folder / "photographs", folder / "again"
    photographs.mkdir()
    again.mkdir()
    for number, source in enumerate(sources):
        original = photographs / f"{number:04d}.jpg"
        cv2.imwrite(str(original), enlarged(source, megapixels), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        cv2.imwrite(str(again / original.name), cv2.imread(str(original)), [cv2.IMWRITE_JPEG_QUALITY, 95])
    for number in range(len(sources), n):
        (photographs / f"{number:04d}.jpg").symlink_to(photographs / f"{number % len(sources):04d}.jpg")
    return photographs, again


def run(images: Path, out: Path, decode: str, model: str) -> float:
    """Seconds of a run in this process."""
    began = time.perf_counter()
    options = {"scheduler": "in-process", "overwrite": True, "max_pixels": MAX_MAX_PIXELS}
    ddfa_batch.process(images, out, model=model, decode=decode, **options)
    return time.perf_counter() - began


def landmarks(out: Path) -> dict[tuple[str, int], np.ndarray]:
    faces = ddfa_batch.open(out).faces(columns=["key", "face_index", "landmarks68"]).to_pylist()
    return {(row["key"], row["face_index"]): np.reshape(row["landmarks68"], (68, 3)) for row in faces}


def compared(name: str, out: Path, reference: Path) -> None:
    ours, theirs = landmarks(out), landmarks(reference)
    both = sorted(ours.keys() & theirs.keys())
    apart = np.array([np.linalg.norm(ours[key] - theirs[key], axis=1)[:, None] for key in both])[..., 0]
    sizes = np.array([np.sqrt(np.prod(np.ptp(theirs[key][:, :2], axis=0))) for key in both])
    share = 1e3 * apart / sizes[:, None]
    counted = f"{len(both)} faces in both of {len(ours)} and {len(theirs)}"
    pixels = f"{np.median(apart):.2f} px (median) and {np.percentile(apart, 99):.2f} px (99 %)"
    size = f"a face's {np.median(sizes):.0f} px"
    thousandths = f"{np.median(share):.2f} and {np.percentile(share, 99):.2f} thousandths of {size}"
    print(f"{name}: {counted}; landmarks apart by {pixels}, {thousandths}", flush=True)


def peak_memory(photograph: Path, decode: str, model: str) -> float:
    """MiB that one process needs at most for one picture."""
    words = [sys.executable, __file__, "--one", str(photograph), "--decode", decode, "--model", model]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def tell_own_peak(photograph: Path, decode: str, model: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(photograph, Path(folder, "out"), decode, model)
    status = Path("/proc/self/status").read_text().splitlines()
    print(int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024)


def measure(sources: list[Path], work: Path, given: argparse.Namespace) -> None:
    photographs, again = make(sources, work, given.megapixels, given.images)
    if given.memory:
        for decode in ("full", "scaled"):
            peak = peak_memory(photographs / "0000.jpg", decode, given.model)
            print(f"--decode {decode}: at most {peak:.0f} MiB for a picture of {given.megapixels:g} megapixels")
        return
    run(again, work / "again_out", "full", given.model)  # loads and warms what all share
    ratios = []
    for number in range(given.rounds):
        seconds = {decode: run(photographs, work / decode, decode, given.model) for decode in ("full", "scaled")}
        ratios.append(seconds["full"] / seconds["scaled"])
        told = ", ".join(f"{decode} {given.images / spent:.1f} images/s" for decode, spent in seconds.items())
        print(f"round {number + 1}: {told}: ×{ratios[-1]:.2f}", flush=True)
    print(f"×{statistics.median(ratios):.2f} (median of {len(ratios)})")
    compared("scaled beside full", work / "scaled", work / "full")
    compared("saved again beside not", work / "again_out", work / "full")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=BUILTIN)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--decode", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        tell_own_peak(given.one, given.decode, given.model)
        return
    sources = sorted(p for p in given.folder.rglob("*") if p.suffix.lower() in SUFFIXES)[: given.images]
    with tempfile.TemporaryDirectory(prefix="large-photographs-") as folder:
        measure(sources, Path(folder), given)


if __name__ == "__main__":
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    main()
