"""`bench`: what a machine does with these pictures, stage by stage, and how much of it is the networks' own time.

Everything is measured: the whole job in this process and on local workers, and the bare kernels (decoding, the
networks' forward passes, the dense product, the raw write) on the same pictures with the same numbers of faces.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.pipeline.cluster import one_thread_each
from ddfa_batch.pipeline.context import RunContext, run_context
from ddfa_batch.pipeline.photographs import photograph
from ddfa_batch.pipeline.plan import PlanRow, Run, RunRequest, read_shard
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.schemas.config import MIRROR, Execution
from ddfa_batch.schemas.errors import ImageError, InputError
from ddfa_batch.tasks.files import input_reader
from ddfa_batch.tasks.geometry.reconstruct import BLOCK
from ddfa_batch.tasks.inference.detector_io import scaled_to_fit

#: Of the pictures, so many are shown to the bare kernels.
_SAMPLED = 200
#: The sides of a detector's input are multiples of this, but for FaceBoxes.
_GRID = 32


@dataclass(frozen=True)
class StageTimes:
    """Where the time of a whole run in one process goes, milliseconds a picture."""

    #: Reading and decoding.
    decode: float
    #: Finding faces.
    detect: float
    #: Cropping and regressing, refinement included.
    regress: float
    #: Geometry, meshes, tables, flushing to disk.
    write: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.decode + self.detect + self.regress + self.write


@dataclass(frozen=True)
class KernelTimes:
    """The same pictures' bare kernels, milliseconds a picture."""

    #: Reading and decoding.
    decode: float
    #: The detector's forward pass, one look.
    detect: float
    #: The regressor's forward passes.
    regress: float
    #: The product that makes dense meshes.
    dense: float
    #: Writing their bytes.
    write: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.decode + self.detect + self.regress + self.dense + self.write


@dataclass(frozen=True)
class WorkerRate:
    """A whole run on a local cluster, its start included."""

    #: Processes.
    workers: int
    #: Of the run, median of the rounds.
    seconds: float
    #: Pictures a second.
    rate: float


@dataclass(frozen=True)
class BenchResult:
    """What was measured."""

    #: Inputs, faces found in them, and inputs that could not be read.
    inputs: int
    faces: int
    errors: int
    #: Pictures a second of a whole run in one process, median of the rounds.
    rate: float
    #: Where that time goes.
    stages: StageTimes
    #: What it would be without anything but kernels.
    kernels: KernelTimes
    #: Whole runs on local clusters.
    workers: tuple[WorkerRate, ...]
    #: Bytes that a run leaves, by face; None without a face.
    bytes_per_face: float | None

    @property
    def share(self) -> float:
        """How much of the bare kernels' throughput a run in one process keeps."""
        return self.kernels.total / self.stages.total

    def core_hours(self, n_pictures: float) -> float:
        """What so many pictures like these cost at the best rate measured, by core."""
        by_core = max([self.rate, *(each.rate / each.workers for each in self.workers)])
        return n_pictures / by_core / 3600


def bench(
    request: Callable[[Path], RunRequest],
    workers: Sequence[int],
    rounds: int,
    scratch: Path | None = None,
    told: Callable[[str], None] = lambda step: None,
) -> BenchResult:
    """Measure runs of `request`, which is given the folder each is to go into: in this process, and by `workers`.

    scratch: where folders are made and removed again. Raises `InputError` where there is no picture.
    """
    with tempfile.TemporaryDirectory(prefix="ddfa-batch-bench-", dir=scratch) as folder:
        runs, seconds = [], []
        for number in range(rounds):
            told(f"in this process, round {number + 1} of {rounds}")
            run, spent = _timed(request(Path(folder) / f"here{number}"), Execution("in-process"))
            runs.append(run)
            seconds.append(spent)
        run = runs[-1]
        if not run.n_inputs:
            raise InputError("There is no picture to measure with.")
        rates = []
        for n in workers:
            spent_by_workers = []
            for number in range(rounds):
                told(f"{n} local worker{'s' if n > 1 else ''}, round {number + 1} of {rounds}")
                folder_of_run = Path(folder) / f"workers{n}-{number}"
                spent_by_workers.append(_timed(request(folder_of_run), Execution("local", n))[1])
            middle = statistics.median(spent_by_workers)
            rates.append(WorkerRate(n, middle, run.n_inputs / middle))
        told("bare kernels")
        kernels = bare_kernels(run, Path(folder) / "raw")
        return _result(run, statistics.median(seconds), kernels, tuple(rates))


def _timed(request: RunRequest, execution: Execution) -> tuple[Run, float]:
    start = time.perf_counter()
    run, _ = process(request, execution)
    return run, time.perf_counter() - start


def _result(run: Run, seconds: float, kernels: KernelTimes, workers: tuple[WorkerRate, ...]) -> BenchResult:
    found = open_run(run.out)
    table = found.images(["error_kind", "n_faces", "decode_ms", "detect_ms", "regress_ms"]).to_pydict()
    n, n_faces = run.n_inputs, int(sum(table["n_faces"]))
    decode, detect, regress = (
        sum(ms or 0.0 for ms in table[f"{stage}_ms"]) / n for stage in ("decode", "detect", "regress")
    )
    rest = 1e3 * seconds / n - decode - detect - regress
    size = sum(file.stat().st_size for file in found.path.rglob("*") if file.is_file())
    return BenchResult(
        inputs=n,
        faces=n_faces,
        errors=sum(kind is not None for kind in table["error_kind"]),
        rate=n / seconds,
        stages=StageTimes(decode, detect, regress, max(rest, 0.0)),
        kernels=kernels,
        workers=workers,
        bytes_per_face=size / n_faces if n_faces else None,
    )


def bare_kernels(run: Run, raw: Path, first: int = 0, most: int = _SAMPLED) -> KernelTimes:
    """The kernels' times on so many pictures of a run from number `first` on, as it found so many faces in each.

    raw: the file that meshes are written to. Pictures are decoded in full, on one thread as all else.
    """
    context = run_context(str(run.out))
    counts = open_run(run.out).images(["n_faces"])["n_faces"].to_pylist()
    passes = 1 + run.options["refine"] + (run.options.get("average") == MIRROR)
    clock = dict.fromkeys(("decode", "detect", "regress", "dense", "write"), 0.0)
    n = faces = 0
    with one_thread_each(), raw.open("wb") as file:
        for row in itertools.islice(_rows(run), first, first + most):
            n, n_faces = n + 1, counts[row.image_id]
            products = _blocks(faces + n_faces) - _blocks(faces)
            faces += n_faces
            for kernel, work in _work(context, row, n_faces, passes, products, file.write):
                start = time.perf_counter()
                work()
                clock[kernel] += time.perf_counter() - start
    return KernelTimes(**{kernel: 1e3 * seconds / n for kernel, seconds in clock.items()})


def _blocks(n_faces: int) -> int:
    return -(-n_faces // BLOCK)


def _rows(run: Run) -> Iterator[PlanRow]:
    for shard in range(run.n_shards):
        yield from read_shard(run.out, shard)


def _work(
    context: RunContext, row: PlanRow, n_faces: int, passes: int, products: int, write: Callable[[bytes], object]
) -> Iterator[tuple[str, Callable[[], object]]]:
    """The kernels of one picture with n_faces, by name, and so many dense products of a block of faces."""
    pictures: list[U8] = []

    def decode() -> None:
        with contextlib.suppress(ImageError):  # to find out that a file cannot be read takes time as well
            pictures.append(_decoded(context, row))

    yield "decode", decode
    if not pictures:
        return
    if context.find is not None:
        plane, forward = _detector_input(context, pictures[0])
        yield "detect", lambda: forward(plane)
    crops = np.zeros((n_faces, 3, context.size, context.size), np.float32)
    for _ in range(passes if n_faces else 0):
        yield "regress", lambda: context.model.regressor.run(None, {"input": crops})
    if context.options.vertices == "none" or not n_faces:
        return
    basis = context.dense.matrix
    weights = np.zeros((BLOCK, basis.shape[0]), np.float32)
    mesh = np.zeros((context.dense.n_points, 3), np.float32).tobytes()
    for _ in range(products):
        yield "dense", lambda: weights @ basis
    yield "write", lambda: write(mesh * n_faces)


def _decoded(context: RunContext, row: PlanRow) -> U8:
    """A picture as OpenCV alone decodes it; whatever that cannot read, and frames of videos, as a run does."""
    if row.video is None:
        data = input_reader.read_input(context.run.root, row.item)
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if picture is not None:
            return np.asarray(picture, np.uint8)
    return photograph(context.run, row.item, row.frame, context.options.max_pixels)


def _detector_input(context: RunContext, picture: U8) -> tuple[F32, Callable[[F32], object]]:
    """A detector's input of the size that it has for a picture, and the forward pass."""
    spec = context.model.bundle.manifest.detectors[context.options.detector]
    side = context.options.detect_size
    fit = spec.fit if side is None else (side, side)
    height, width = scaled_to_fit(picture, fit)[0].shape[:2]
    if spec.kind != "faceboxes":
        height, width = (-(-length // _GRID) * _GRID for length in (height, width))
    session = context.model.detector_session(spec)
    name = session.get_inputs()[0].name
    return np.zeros((1, 3, height, width), np.float32), lambda plane: session.run(None, {name: plane})
