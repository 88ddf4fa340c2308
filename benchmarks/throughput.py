"""How fast `process` is: beside the official demo's loop, beside bare kernels, with few pictures and with many.

    python benchmarks/throughput.py FOLDER --model 3ddfa-v2-mb05 --detector faceboxes --refine 0 --loop 3ddfa-v2-mb05
    python benchmarks/throughput.py FOLDER --loop 3ddfa-v2-mb05                # the built-in model, default options

Every round measures all of this, one after the other, and ratios are taken within rounds; told are their medians:

    many      the whole command, start-up included, two workers, --images pictures (FOLDER's, again and again)
    few       the same of --few pictures
    one       the same of one picture, no workers
    pair      two commands side by side, each --sample pictures in its own process: what a worker could do at most
    kernels   two processes side by side with nothing but kernels (`pipeline.bench`), on --sample pictures each
    shipped   the official demo's algorithm as a plain loop (`official_loop.py`), --sample pictures, as it ships
    best      the same with OMP_NUM_THREADS=1, which is its best

`--json FILE` keeps all seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.pipeline.bench import bare_kernels
from ddfa_batch.pipeline.plan import read_run
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.files.format_signatures import SUFFIXES

WORKERS = 2
COMMAND = [sys.executable, "-m", "ddfa_batch", "process"]
LOOP = [sys.executable, str(Path(__file__).with_name("official_loop.py"))]
#: As a run's workers have it.
KERNEL_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    **dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(256 << 20)),
}


def outputs(commands: Iterable[Sequence[str | Path]], environment: Mapping[str, str] | None = None) -> list[str]:
    """What commands that run side by side print."""
    env = {**os.environ, **(environment or {})}
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for command in commands]
    printed = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("a measured command failed")
    return printed


def seconds(commands: Iterable[Sequence[str | Path]]) -> float:
    """How long commands take that run side by side, while the disk has nothing else to do."""
    os.sync()
    start = time.perf_counter()
    outputs(commands)
    return time.perf_counter() - start


def listed(images: Sequence[Path], n: int, file: Path) -> Path:
    """A list of n pictures, `images` again and again."""
    file.write_text("".join(f"{images[i % len(images)]}\n" for i in range(n)))
    return file


def kernel_rate(run: Path, raw: Path, n: int) -> float:
    """Pictures a second of two processes of bare kernels, each on its own n pictures of a run."""
    command = [sys.executable, __file__, "--kernels", str(run)]
    commands = [[*command, f"{raw}{i}", str(i * n), str(n)] for i in range(WORKERS)]
    spent = [sum(json.loads(printed).values()) for printed in outputs(commands, KERNEL_ENVIRONMENT)]
    return sum(1e3 / each for each in spent)


def loop_rate(model: str, listing: Path, out: Path, environment: Mapping[str, str] | None = None) -> float:
    """Pictures a second of the official demo's loop, its loading not counted."""
    (printed,) = outputs([[*LOOP, model, listing, out]], environment)
    n, _, spent = printed.split()
    return int(n) / float(spent)


class Bars:
    """What is measured in each round, in pictures a second."""

    def __init__(self, arguments: argparse.Namespace, images: Sequence[Path], work: Path) -> None:
        self.a, self.work = arguments, work
        counts = {"many": arguments.images, "few": arguments.few, "one": 1, "sample": arguments.sample}
        self.lists = {name: listed(images, n, work / f"{name}.txt") for name, n in counts.items()}
        self.counted = work / "counted"
        words = ("--vertices", "float32", "--scheduler", "local", "--workers", str(WORKERS))
        listed(images, WORKERS * arguments.sample, work / "twice.txt")
        seconds([self.command(work / "twice.txt", self.counted, *words)])

    def command(self, listing: Path, out: Path, *words: str) -> list[str | Path]:
        detector = ("--detector", self.a.detector) if self.a.detector else ()
        options = ("--model", self.a.model, "--refine", str(self.a.refine), *detector, "--overwrite", "--quiet")
        return [*COMMAND, listing, out, *options, *words]

    def round(self) -> dict[str, float]:
        """One round."""
        a, work, out = self.a, self.work, self.work / "out"
        shutil.rmtree(out, ignore_errors=True)  # what --overwrite would take time for
        local = ("--scheduler", "local", "--workers", str(WORKERS))
        found = {
            name: n / seconds([self.command(self.lists[name], out / name, *local)])
            for name, n in (("many", a.images), ("few", a.few))
            if n
        }
        found["one"] = 1 / seconds([self.command(self.lists["one"], out / "one")])
        alone = ("--scheduler", "in-process")
        pair = [self.command(self.lists["sample"], out / f"pair{i}", *alone) for i in range(WORKERS)]
        found["pair"] = a.sample / seconds(pair)
        found["kernels"] = kernel_rate(self.counted, work / "raw", a.sample)
        if a.loop:
            arguments = (a.loop, self.lists["sample"], work / "loop.h5")
            found |= {"shipped": loop_rate(*arguments), "best": loop_rate(*arguments, {"OMP_NUM_THREADS": "1"})}
        return found


#: What is compared: the words, and which two rates.
RATIOS = {
    "of the bare kernels": ("many", "kernels"),
    "of one of two independent runs": ("many", "pair"),
    "few pictures, of the rate of many": ("few", "many"),
    "× the official loop as shipped": ("many", "shipped"),
    "× the official loop at its best": ("many", "best"),
}


def told(rounds: Sequence[Mapping[str, float]]) -> None:
    """Print medians of what was measured, and of ratios within rounds."""
    for name in rounds[0]:
        rates = [each[name] for each in rounds]
        words = f"{1 / statistics.median(rates):.2f} s" if name == "one" else f"{statistics.median(rates):.1f} images/s"
        print(f"{name:10} {words:>18}   ({min(rates):.1f} to {max(rates):.1f})")
    for words, (over, under) in RATIOS.items():
        if over in rounds[0] and under in rounds[0]:
            ratios = [each[over] / each[under] for each in rounds]
            print(f"{statistics.median(ratios):6.2f} {words}   ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    """Measure, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=BUILTIN)
    parser.add_argument("--detector")
    parser.add_argument("--refine", type=int, default=1)
    parser.add_argument("--images", type=int, default=8000, help="0 leaves the large run out")
    parser.add_argument("--few", type=int, default=1000, help="0 leaves it out")
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--loop", help="an imported model with FaceBoxes; without it the official loop is not measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    models = default_models_folder()
    for name in ("model", "loop"):
        if getattr(arguments, name):
            setattr(arguments, name, str(find_bundle(getattr(arguments, name), models).folder.absolute()))
    images = sorted(p.absolute() for p in arguments.folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    rounds = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        # As an installed package has it: what is imported was compiled before, here by the run that `Bars` begins with.
        os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}
        bars = Bars(arguments, images, Path(folder))
        for number in range(arguments.rounds):
            rounds.append(bars.round())
            words = "  ".join(f"{name} {rate:.1f}" for name, rate in rounds[-1].items())
            print(f"round {number + 1}: {words}", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(rounds))
    told(rounds)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--kernels"]:
        out, raw, first, most = sys.argv[2:]
        print(json.dumps(asdict(bare_kernels(read_run(out), Path(raw), int(first), int(most)))))
    else:
        main()
