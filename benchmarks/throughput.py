"""How much of the bare kernels' speed `process` keeps, end to end, on two cores.

    python benchmarks/throughput.py FOLDER [--model NAME-OR-FOLDER] [--images 12000] [--rounds 3]

In every round, side by side: two plain processes run nothing but the kernels (JPEG decode, detector forward,
regressor forward, the dense matrix product, raw write) on the images of FOLDER, then `ddfa-batch process` does the
whole job on the same images with two workers, start-up, tables and fsync included. The share is the kernels' time
over the command's. FOLDER's images are repeated up to --images, so that starting Dask is not what is measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.files.format_signatures import SUFFIXES
from ddfa_batch.tasks.geometry.reconstruct import BLOCK, PointBasis
from ddfa_batch.tasks.inference.detector_io import scaled_to_fit

WORKERS = 2
ENVIRONMENT = {
    **os.environ,
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    **dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(256 << 20)),
}


def kernels(list_file: Path, counts_file: Path, bundle_folder: Path, out: Path, refine: int) -> None:
    """One plain process: the kernels and nothing else, and the seconds each took, on standard output."""
    cv2.setNumThreads(0)
    bundle = find_bundle(str(bundle_folder), bundle_folder)
    model = loaded_model(str(bundle.folder), bundle.digest)
    _, spec = bundle.detector(None)
    detector = model.detector_session(spec)
    dense = PointBasis.of(model.morphable)
    size, vertices = bundle.manifest.input_size, model.morphable.n_vertices
    weights = np.zeros((BLOCK, dense.matrix.shape[0]), np.float32)
    mesh = np.zeros((vertices, 3), np.float32).tobytes()
    paths = list_file.read_text().splitlines()
    counts = [int(line) for line in counts_file.read_text().splitlines()]
    planes: dict[tuple[int, int], np.ndarray] = {}
    faces_done = 0
    seconds = dict.fromkeys(("decode", "detect", "regress", "dense", "write"), 0.0)

    def timed(kernel: str, work: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = work()
        seconds[kernel] += time.perf_counter() - start
        return result

    started = time.perf_counter()
    with out.open("wb") as file:
        for path, n in zip(paths, counts, strict=True):
            raw = np.fromfile(path, np.uint8)
            image = timed("decode", lambda raw=raw: cv2.imdecode(raw, cv2.IMREAD_COLOR))
            shape = scaled_to_fit(image, spec.fit)[0].shape[:2]
            if spec.kind != "faceboxes":
                shape = tuple(-(-side // 32) * 32 for side in shape)
            plane = planes.setdefault(shape, np.zeros((1, 3, *shape), np.float32))
            timed("detect", lambda plane=plane: detector.run(None, {detector.get_inputs()[0].name: plane}))
            crops = np.zeros((n, 3, size, size), np.float32)
            for _ in range(1 + refine if n else 0):
                timed("regress", lambda crops=crops: model.regressor.run(None, {"input": crops}))
            for _ in range(n):
                if faces_done % BLOCK == 0:
                    timed("dense", lambda: weights @ dense.matrix)
                timed("write", lambda: file.write(mesh))
                faces_done += 1
    print(time.perf_counter() - started, *(f"{k}={s:.3f}" for k, s in seconds.items()))


def run_kernels(parts: list[tuple[Path, Path]], bundle: Path, work: Path, refine: int) -> tuple[float, str]:
    """Seconds of the slower of the plain processes, and the first one's breakdown."""
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--kernels", listing, counts, bundle, work / f"raw{i}", str(refine)],
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        for i, (listing, counts) in enumerate(parts)
    ]
    answers = [process.communicate()[0].split(maxsplit=1) for process in started]
    return max(float(seconds) for seconds, _ in answers), answers[0][1].strip()


def run_process(listing: Path, bundle: Path, out: Path, *options: str) -> float:
    """Seconds of the whole command."""
    command = [
        Path(sys.executable).parent / "ddfa-batch",
        "process",
        listing,
        out,
        "--model",
        bundle,
        "--overwrite",
        "--quiet",
        *options,
    ]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=BUILTIN)
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--refine", type=int, default=1)
    arguments = parser.parse_args()
    models = default_models_folder()
    bundle = find_bundle(arguments.model, models).folder
    images = sorted(p.resolve() for p in arguments.folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    images = (images * (arguments.images // len(images) + 1))[: arguments.images]
    refine = ("--refine", str(arguments.refine))

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        work = Path(folder)
        listing = work / "images.txt"
        listing.write_text("\n".join(map(str, images)) + "\n")
        print(f"{len(images):,} images, counting faces once …", flush=True)
        run_process(listing, bundle, work / "out", "--vertices", "none", *refine)
        counts = open_run(work / "out").images(["n_faces"])["n_faces"].to_pylist()
        parts = []
        for i in range(WORKERS):
            parts.append((work / f"list{i}.txt", work / f"counts{i}.txt"))
            parts[i][0].write_text("\n".join(map(str, images[i::WORKERS])))
            parts[i][1].write_text("\n".join(map(str, counts[i::WORKERS])))
        shares = []
        for number in range(arguments.rounds):
            bare, breakdown = run_kernels(parts, bundle, work, arguments.refine)
            whole = run_process(
                listing, bundle, work / "out", "--workers", str(WORKERS), "--scheduler", "local", *refine
            )
            shares.append(bare / whole)
            print(
                f"round {number + 1}: kernels {bare:6.1f} s ({len(images) / bare:5.0f} images/s)   process "
                f"{whole:6.1f} s ({len(images) / whole:5.0f} images/s)   share {bare / whole:.2f}   [{breakdown}]",
                flush=True,
            )
    print(
        f"process keeps {statistics.median(shares):.0%} of the bare kernels' throughput "
        f"(median of {len(shares)}, {min(shares):.0%} to {max(shares):.0%})."
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--kernels"]:
        kernels(*map(Path, sys.argv[2:6]), refine=int(sys.argv[6]))
    else:
        main()
