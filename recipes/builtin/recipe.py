"""Make the built-in models, from training data to the wheel's files: `make builtin`.

    python -m recipes.builtin.recipe SHARED WORK

SHARED holds the official release and the photographs, which may not be published; WORK is where all else goes. Steps
that are done are left out, trainings go on where they were stopped.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ddfa_batch.schemas.config import BUILTIN, BUILTIN_LARGE
from ddfa_batch.tasks.bundles.model_bundle import builtin_folder
from recipes.builtin.distil import OFFICIAL

#: Heads turned far, for the detector.
TURNS = (
    "--frames 2 --yaw-range -80 80 --pitch-range -30 30 --speed 100 --roll -30 30 --scale 1 1 --shift 0 0 --noise 0 0 "
    "--blur 0 0 --format parquet"
)
#: What nets learn from, and how: the parameters' meshes and, above all, the 68 points, of one picture of each face; an
#: average of the weights is judged.
LEARNING = (
    "--method vdc --landmark-weight 2 --distance plain --stills 512 --frames 1 --ema 0.998 --schedule cosine "
    "--weight-decay 0.02"
)
#: A net from its first weights, with a head for the landmarks that it helps to learn by; then without.
BEGINNING, POLISHING = "--landmarks lrr+lmk --rotation 16", "--landmarks lmk --rotation 12"
#: For a machine with a GPU.
ON_GPU = "--device cuda --pixels-made device --precision bfloat16"


@dataclass(frozen=True)
class Amounts:
    """How much of everything the models are made with."""

    #: Options of the labels that the official model's answers make with the human ones.
    distil: str = ""
    #: Options of the face model.
    head: str = ""
    #: Options of the training of the smaller net, from its first weights, and of its polishing.
    trained: str = "--width 0.5 --iterations 60 --learning-rate 3e-3 --every 10 --seed 41"
    polished: str = "--width 0.5 --iterations 24 --learning-rate 1.2e-3 --every 6 --seed 43"
    #: The same of the larger.
    trained_large: str = "--width 1 --iterations 60 --learning-rate 2e-3 --every 10 --seed 42"
    polished_large: str = "--width 1 --iterations 13 --learning-rate 8e-4 --every 4 --seed 44"
    #: Options of the labels that the larger net's answers make with all others', and of those of video frames.
    distil_again: str = ""
    frames: str = ""
    #: Options of the search for what the detector mistakes.
    distractors: str = ""
    #: Options of what both learn from these, in two rounds.
    taught: str = "--width 0.5 --iterations 62 --learning-rate 1.4e-3 --every 6 --seed 51"
    taught_again: str = "--width 0.5 --iterations 20 --learning-rate 7e-4 --every 6 --seed 53"
    taught_large: str = "--width 1 --iterations 48 --learning-rate 1e-3 --every 6 --seed 52"
    taught_large_again: str = "--width 1 --iterations 14 --learning-rate 5e-4 --every 6 --seed 54"
    #: Options of the step that leaves out crops of photographs that are measured on.
    apart: str = ""
    #: Options of the detector's training.
    detector: str = ""
    #: Options of its tuning on what it mistook.
    tuned: str = ""
    #: Options of the face heads.
    assemble: str = ""
    #: Where the regressors' trainings run: options of each.
    machine: str = ""


@dataclass(frozen=True)
class RecipeStep:
    """One command."""

    #: There once it has been run; made empty where the command makes nothing of that name.
    made: Path
    #: As typed in a shell.
    command: str


def steps(shared: Path, work: Path, amounts: Amounts, target: Path) -> Iterator[RecipeStep]:
    """Every step in order; `target` is the folder of the smaller of the bundles, that of the larger lies beside."""
    yield from _labels(shared, work, amounts)
    yield from _regressors(shared, work, amounts)
    yield from _detector(shared, work, amounts)
    yield from _second_labels(shared, work, amounts)
    yield from _taught(work, amounts)
    for name, folder in ((BUILTIN, target), (BUILTIN_LARGE, target.parent / BUILTIN_LARGE)):
        assemble = f"python -m recipes.builtin.assemble {work} {work}/detector --model {name} --target {folder}"
        yield RecipeStep(work / f"assembled-{name}", f"{assemble} {amounts.assemble}")
        yield RecipeStep(work / f"measured-{name}", f"python -m recipes.builtin.card {work} --model {folder} --write")


def _labels(shared: Path, work: Path, amounts: Amounts) -> Iterator[RecipeStep]:
    """Labels with the official face model."""
    aflw = work / "aflw"
    fit = f"ddfa-batch fit {aflw}/{{labels}}.parquet {aflw}/images {aflw}/{{run}} --model {OFFICIAL}"
    yield RecipeStep(aflw / "labels21.parquet", f"python -m recipes.builtin.prepare {shared} {work}")
    yield RecipeStep(work / "imported", f"ddfa-batch models import 3ddfa-v2 {shared}/upstream/3DDFA_V2")
    yield RecipeStep(aflw / "fit21/fits.parquet", fit.format(labels="labels21", run="fit21"))
    yield RecipeStep(aflw / "labels-all.parquet", f"python -m recipes.builtin.union {work}")
    yield RecipeStep(aflw / "alike.txt", f"python -m recipes.builtin.apart {work} {amounts.apart}")
    yield RecipeStep(aflw / "fit-all/fits.parquet", fit.format(labels="labels-all", run="fit-all") + " --outline")


def _regressors(shared: Path, work: Path, amounts: Amounts) -> Iterator[RecipeStep]:
    """Labels that two models agree on, the built-in face model, and the nets that learn to answer its parameters."""
    aflw, made = work / "aflw", work / "builtin"
    first = made / "first"
    yield RecipeStep(aflw / "distilled.parquet", f"python -m recipes.builtin.distil {work} {amounts.distil}")
    head = f"python -m recipes.builtin.first_bundle {shared}/upstream/makehuman {work} {amounts.head}"
    yield RecipeStep(first / "model.json", head)
    fit = f"ddfa-batch fit {aflw}/distilled.parquet {aflw}/images {aflw}/fit-builtin --model {first}"
    yield RecipeStep(aflw / "fit-builtin/fits.parquet", fit)
    train = f"ddfa-batch train {aflw}/fit-builtin --model {first} {LEARNING} {amounts.machine}"
    for name, trained, polished in (
        (BUILTIN, amounts.trained, amounts.polished),
        (BUILTIN_LARGE, amounts.trained_large, amounts.polished_large),
    ):
        begun, done = made / f"{name}-begun", made / f"{name}-polished"
        yield RecipeStep(begun / "model/model.json", f"{train} {begun} {BEGINNING} {trained}")
        polish = f"{train} {done} --start {begun}/best.pt {POLISHING} {polished}"
        yield RecipeStep(done / "model/model.json", polish)


def _second_labels(shared: Path, work: Path, amounts: Amounts) -> Iterator[RecipeStep]:
    """Labels that the larger net has a say in, of video frames too, whose yaw is that of human points."""
    aflw, teacher = work / "aflw", work / "builtin" / f"{BUILTIN_LARGE}-polished" / "model"
    models = f"--model {OFFICIAL} --model {teacher}"
    distil = f"python -m recipes.builtin.distil {work} {models} --labels distilled-again {amounts.distil_again}"
    yield RecipeStep(aflw / "distilled-again.parquet", distil)
    frames = f"python -m recipes.builtin.frames {shared} {work} {models} {amounts.frames}"
    yield RecipeStep(aflw / "learned.parquet", frames)
    fit = f"ddfa-batch fit {aflw}/{{labels}}.parquet {aflw}/images {aflw}/{{run}} --model {work}/builtin/first"
    yield RecipeStep(aflw / "fit-learned/fits.parquet", fit.format(labels="learned", run="fit-learned"))
    yield RecipeStep(aflw / "turned.parquet", f"python -m recipes.builtin.turned_depth {work}")
    yield RecipeStep(aflw / "fit-turned/fits.parquet", fit.format(labels="turned", run="fit-turned"))
    mistaken = f"python -m recipes.builtin.distractors {work} {work}/detector {amounts.distractors}"
    yield RecipeStep(work / "distractors-found", mistaken)


def _taught(work: Path, amounts: Amounts) -> Iterator[RecipeStep]:
    """The nets once they have learnt from the second labels, beside what is no face."""
    made = work / "builtin"
    train = f"ddfa-batch train {work}/aflw/fit-turned --model {made}/first {LEARNING} {POLISHING} {amounts.machine}"
    train += f" --distractors {work}/distractors"
    for name, first, second in (
        (BUILTIN, amounts.taught, amounts.taught_again),
        (BUILTIN_LARGE, amounts.taught_large, amounts.taught_large_again),
    ):
        taught, again = made / f"{name}-taught", made / f"{name}-taught-again"
        start = f"--start {made}/{name}-polished/best.pt"
        yield RecipeStep(taught / "model/model.json", f"{train} {taught} {start} {first}")
        yield RecipeStep(again / "model/model.json", f"{train} {again} --start {taught}/best.pt {second}")


def _detector(shared: Path, work: Path, amounts: Amounts) -> Iterator[RecipeStep]:
    """The detector, from portraits with turned heads to its network."""
    portraits, detector = work / "portraits", work / "detector"
    make = f"python -m recipes.builtin.detector.make {shared} {work}"
    process = f"ddfa-batch process {portraits}/images {portraits}/run --vertices none --max-faces 1"
    turned = f"ddfa-batch synth-videos {portraits}/images {work}/turned --params {portraits}/run {TURNS}"
    yield RecipeStep(work / "portraits-found", f"{process} --model {OFFICIAL}")
    yield RecipeStep(work / "turned", f"{turned} --model {OFFICIAL}")
    yield RecipeStep(detector / "prepared", f"{make} prepare")
    yield RecipeStep(detector / "trained", f"{make} train {amounts.detector}")
    yield RecipeStep(detector / "mistaken-train.npz", f"{make} mine")
    yield RecipeStep(detector / "tuned/whole", f"{make} tune {amounts.tuned}")
    yield RecipeStep(detector / "fcos.onnx", f"{make} export")


def execute(words: Sequence[str]) -> None:
    """Run a command in a process of its own; raises `CalledProcessError` where it fails."""
    subprocess.run(words, check=True)


def make(
    shared: Path,
    work: Path,
    amounts: Amounts,
    target: Path,
    execute: Callable[[Sequence[str]], None] = execute,
) -> None:
    """Execute every step that is not done."""
    work.mkdir(parents=True, exist_ok=True)
    for step in steps(shared, work, amounts, target):
        if step.made.exists():
            continue
        print(f"\n$ {step.command}", flush=True)
        begun = time.monotonic()
        execute(shlex.split(step.command))
        print(f"{(time.monotonic() - begun) / 60:.1f} minutes", flush=True)
        if not step.made.exists():
            step.made.touch()


def main(words: Sequence[str] | None = None) -> None:
    """Every step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("work", type=Path)
    arguments = parser.parse_args(words)
    amounts = Amounts(machine=ON_GPU if torch.cuda.is_available() else "")
    make(arguments.shared, arguments.work, amounts, builtin_folder())


if __name__ == "__main__":
    main()
