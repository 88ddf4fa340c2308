"""What a refinement pass gains in accuracy and costs in time.

    python benchmarks/refinement.py ../shared/data/aflw2000_dev [--model NAME-OR-FOLDER] [--rounds 3]

Runs `process` with --refine 0, 1 and 2, and 0 and 1 with --average mirror, side by side, in this process, and prints
the NME (68 points, 2-D, in % of √(w·h) of the true points' box, three yaw bins and their mean, original and
re-annotated labels) and the time per image as a ratio to --refine 0. FOLDER holds photographs and labels.parquet, as
AFLW2000-3D's dev half does.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.config import BUILTIN, DEFAULT_MAX_PIXELS, MIRROR, NO_AVERAGE, Execution, ProcessOptions
from ddfa_batch.tasks.bundles.model_bundle import Bundle, find_bundle
from ddfa_batch.tasks.evaluation.landmark_errors import match_box, mean_by_yaw, nme
from ddfa_batch.tasks.files.inputs import resolve_source

#: --refine and --average.
PASSES = ((0, NO_AVERAGE), (0, MIRROR), (1, NO_AVERAGE), (1, MIRROR), (2, NO_AVERAGE))


def run(folder: Path, out: Path, bundle: Bundle, refine: int, average: str) -> float:
    """Seconds of one run."""
    name, spec = bundle.detector(None)
    options = ProcessOptions(
        name, spec.face_threshold, None, 0, refine, "none", DEFAULT_MAX_PIXELS, None, None, average=average
    )
    start = time.perf_counter()
    request = RunRequest("process", resolve_source(folder, None), out, options, bundle)
    process(request, Execution("in-process"), overwrite=True)
    return time.perf_counter() - start


def accuracy(results: Results, labels: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """NME by yaw bin on the original and the re-annotated labels, and how many faces were found."""
    faces = dict(iter(results.faces(["key", "box", "landmarks68"]).to_pandas().groupby("key")))
    found, original, again, yaws = [], [], [], []
    for label in pq.read_table(labels).to_pylist():
        truth = np.reshape(label["pts68"], (3, 68))[:2].T - 1  # MATLAB counts from 1
        group = faces.get(label["name"])
        row = None if group is None else match_box(np.stack(group.box.to_numpy()), truth.mean(axis=0))
        if row is not None and group is not None:
            found.append(group.landmarks68.iloc[row].reshape(68, 3)[:, :2])
            original.append(truth)
            again.append(np.reshape(label["pts68_reannotated"], (2, 68)).T - 1)
            yaws.append(label["yaw_deg"])
    rows = [mean_by_yaw(nme(np.array(found), np.array(t)), np.array(yaws)) for t in (original, again)]
    return rows[0], rows[1], len(found)


def _out(folder: str, passes: tuple[int, str]) -> Path:
    return Path(folder) / "-".join(map(str, passes))


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=BUILTIN)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    models = default_models_folder()
    bundle = find_bundle(arguments.model, models)
    seconds: dict[tuple[int, str], list[float]] = {passes: [] for passes in PASSES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for passes in PASSES:
                seconds[passes].append(run(arguments.folder, _out(folder, passes), bundle, *passes))
        print("| --refine | --average | 0–30 | 30–60 | 60–90 | mean | mean, re-annotated | time |")
        print("|---|---|---|---|---|---|---|---|")
        for passes in PASSES:
            first, second, n = accuracy(open_run(_out(folder, passes)), arguments.folder / "labels.parquet")
            ratio = statistics.median(s / base for s, base in zip(seconds[passes], seconds[PASSES[0]], strict=True))
            cells = [f"{value:.2f}" for value in (*first, first.mean(), second.mean())]
            print(f"| {passes[0]} | {passes[1]} | {' | '.join(cells)} | ×{ratio:.2f} |")
        print(f"\n{bundle.manifest.name}, {n} faces, median of {arguments.rounds} rounds")


if __name__ == "__main__":
    main()
