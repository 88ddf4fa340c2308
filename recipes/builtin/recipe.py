"""Make the built-in model, from training data to the wheel's files: `make builtin`.

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

from ddfa_batch.tasks.bundles.model_bundle import builtin_folder

#: How `models import` calls the official release's model.
OFFICIAL = "3ddfa-v2-mb05"
#: Clips for the regressor's mini-batches, which draw noise, blur and motion in the plane anew.
CLIPS = (
    "--frames 6 --speed 2 --yaw-range -50 50 --pitch-range -20 20 --roll 0 0 --scale 1 1 --shift 0 0 --noise 0 0 "
    "--blur 0 0 --format parquet"
)
#: Heads turned far, for the detector.
TURNS = (
    "--frames 2 --yaw-range -80 80 --pitch-range -30 30 --speed 100 --roll -30 30 --scale 1 1 --shift 0 0 --noise 0 0 "
    "--blur 0 0 --format parquet"
)
#: For labels made by hand.
BY_HAND = "--landmarks lrr+lmk --distance plain"

#: For a net that has learnt: the 68 points above all, one picture of each face, an average of the weights.
POLISHING = (
    "--method vdc --landmarks lmk --landmark-weight 2 --distance plain --frames 1 --rotation 12 --ema 0.998 "
    "--schedule cosine"
)


@dataclass(frozen=True)
class Amounts:
    """How much of everything the model is made with."""

    #: Options of the training on human labels with the official face model.
    human: str = "--iterations 400 --stage 0.4 40 --stage 0.8 60"
    #: Options of the labels that the official model's answers make with the human ones.
    distil: str = ""
    #: Options of the face model.
    head: str = ""
    #: Options of the first training with the built-in face model.
    begun: str = "--iterations 110 --stage 0.65 60 --learning-rate 1.5e-3 --seed 11"
    #: Options of the second.
    trained: str = "--iterations 52 --stage 0.5 80 --learning-rate 1e-3 --seed 12"
    #: Options of the third, at the full size alone.
    polished: str = "--iterations 100 --learning-rate 8e-4 --seed 21"
    #: Options of the step that leaves out crops of photographs that are measured on.
    apart: str = ""
    #: Options of the detector's training.
    detector: str = ""
    #: Options of its tuning on what it mistook.
    tuned: str = ""
    #: Options of the face head.
    assemble: str = ""


@dataclass(frozen=True)
class RecipeStep:
    """One command."""

    #: There once it has been run; made empty where the command makes nothing of that name.
    made: Path
    #: As typed in a shell.
    command: str


def steps(shared: Path, work: Path, amounts: Amounts, target: Path) -> Iterator[RecipeStep]:
    """Every step in order; `target` is the folder of the bundle that is made."""
    yield from _labels(shared, work, amounts)
    yield from _regressor(shared, work, amounts)
    yield from _detector(shared, work, amounts)
    assemble = f"python -m recipes.builtin.assemble {work} {work}/detector --target {target} {amounts.assemble}"
    yield RecipeStep(work / "assembled", assemble)
    yield RecipeStep(work / "measured", f"python -m recipes.builtin.card {work} --model {target} --write")


def _labels(shared: Path, work: Path, amounts: Amounts) -> Iterator[RecipeStep]:
    """Labels and clips with the official face model."""
    aflw = work / "aflw"
    fit = f"ddfa-batch fit {aflw}/{{labels}}.parquet {aflw}/images {aflw}/{{run}} --model {OFFICIAL}"
    yield RecipeStep(aflw / "labels21.parquet", f"python -m recipes.builtin.prepare {shared} {work}")
    yield RecipeStep(work / "imported", f"ddfa-batch models import 3ddfa-v2 {shared}/upstream/3DDFA_V2")
    yield RecipeStep(aflw / "fit21/fits.parquet", fit.format(labels="labels21", run="fit21"))
    yield RecipeStep(aflw / "labels-all.parquet", f"python -m recipes.builtin.union {work}")
    yield RecipeStep(aflw / "alike.txt", f"python -m recipes.builtin.apart {work} {amounts.apart}")
    yield RecipeStep(aflw / "fit-all/fits.parquet", fit.format(labels="labels-all", run="fit-all") + " --outline")
    clips = f"ddfa-batch synth-videos {aflw}/images {aflw}/clips-all --params {aflw}/fit-all {CLIPS}"
    yield RecipeStep(work / "clips-all", f"{clips} --model {OFFICIAL}")


def _regressor(shared: Path, work: Path, amounts: Amounts) -> Iterator[RecipeStep]:
    """A net on human labels, distilled labels, the built-in face model, and the net carried over to it and polished."""
    aflw, made = work / "aflw", work / "builtin"
    first = made / "first"
    human = f"ddfa-batch train {aflw}/fit-all {work}/human --model {OFFICIAL} --clips {aflw}/clips-all {BY_HAND}"
    train = f"ddfa-batch train {aflw}/fit-builtin --model {first} --clips {aflw}/clips-builtin {BY_HAND} --rotation 20"
    yield RecipeStep(work / "human/model/model.json", f"{human} {amounts.human}")
    yield RecipeStep(aflw / "distilled.parquet", f"python -m recipes.builtin.distil {work} {amounts.distil}")
    head = f"python -m recipes.builtin.first_bundle {shared}/upstream/makehuman {work} {amounts.head}"
    yield RecipeStep(first / "model.json", head)
    fit = f"ddfa-batch fit {aflw}/distilled.parquet {aflw}/images {aflw}/fit-builtin --model {first}"
    yield RecipeStep(aflw / "fit-builtin/fits.parquet", fit)
    clips = f"ddfa-batch synth-videos {aflw}/images {aflw}/clips-builtin --params {aflw}/fit-builtin {CLIPS}"
    yield RecipeStep(work / "clips-builtin", f"{clips} --model {first}")
    begun = f"{train} {made}/begun --start {work}/human/best.pt --new-head {amounts.begun}"
    yield RecipeStep(made / "begun/model/model.json", begun)
    trained = f"{train} {made}/trained --start {made}/begun/best.pt {amounts.trained}"
    yield RecipeStep(made / "trained/model/model.json", trained)
    polish = f"ddfa-batch train {aflw}/fit-builtin {made}/polished --model {first} --start {made}/trained/best.pt"
    yield RecipeStep(made / "polished/model/model.json", f"{polish} {POLISHING} {amounts.polished}")


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
    make(arguments.shared, arguments.work, Amounts(), builtin_folder())


if __name__ == "__main__":
    main()
