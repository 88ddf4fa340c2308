"""Make the project's face detector from the private reference files, and measure it.

    python -m recipes.builtin.detector.make SHARED WORK prepare  pictures, boxes, backgrounds: WORK/detector (2 minutes)
    python -m recipes.builtin.detector.make SHARED WORK train    goes on where it stopped; checkpoint.pt, train.log
    python -m recipes.builtin.detector.make SHARED WORK mine     what the last checkpoint takes for faces that are none
    python -m recipes.builtin.detector.make SHARED WORK tune     trains it on with those; tuned/ as train
    python -m recipes.builtin.detector.make SHARED WORK export   fcos.onnx, and by validation its least score and roi
    python -m recipes.builtin.detector.make SHARED WORK report   test photographs, once; times beside FaceBoxes

WORK/aflw/images comes from `prepare`, WORK/aflw/fit-all from `ddfa-batch fit` of them, WORK/turned from
`ddfa-batch synth-videos` of the portraits (recipes/builtin/recipe.py has the commands). Backgrounds are
scikit-image's pictures and what Debian packages hold (`backgrounds.DEBIAN`), fetched with apt-get where that is there;
other pictures without a face may be put into WORK/backgrounds. Where a picture came from decides, by a hash of its
name, whether it trains or validates. Nothing of WORK may be published but fcos.onnx. `mine` and `tune` begin with
the last checkpoint of `train`, or with the detector --start.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from recipes.builtin.detector.export import export, last_graph
from recipes.builtin.detector.mining import mine
from recipes.builtin.detector.prepare import prepare
from recipes.builtin.detector.report import report
from recipes.builtin.detector.trainer import STEPS, TUNING_STEPS, train, tune


def main(words: Sequence[str] | None = None) -> None:
    """One step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("step", choices=["prepare", "train", "mine", "tune", "export", "report"])
    parser.add_argument("--steps", type=int, help=f"{STEPS} of train, {TUNING_STEPS} of tune")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="an fcos.onnx to mine with and to tune")
    arguments = parser.parse_args(words)
    if arguments.step == "prepare":
        prepare(arguments.shared, arguments.work)
    elif arguments.step == "train":
        train(arguments.work, arguments.steps or STEPS, arguments.seed)
    elif arguments.step == "mine":
        mine(arguments.work, arguments.start or last_graph(arguments.work / "detector"))
    elif arguments.step == "tune":
        start = arguments.start or last_graph(arguments.work / "detector")
        tune(arguments.work, start, arguments.steps or TUNING_STEPS, arguments.seed)
    elif arguments.step == "export":
        export(arguments.work)
    else:
        report(arguments.shared, arguments.work)


if __name__ == "__main__":
    main()
