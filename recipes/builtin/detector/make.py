"""Make the project's face detector from the private reference files, and measure it.

    python -m recipes.builtin.detector.make SHARED WORK prepare  pictures, boxes, backgrounds: WORK/detector (2 minutes)
    python -m recipes.builtin.detector.make SHARED WORK train    goes on where it stopped; checkpoint.pt, train.log
    python -m recipes.builtin.detector.make SHARED WORK export   fcos.onnx, and by validation its least score and roi
    python -m recipes.builtin.detector.make SHARED WORK report   test photographs, once; times beside FaceBoxes

WORK/aflw/images comes from `prepare`, WORK/aflw/fit-all from `ddfa-batch fit` of them, WORK/turned from
`ddfa-batch synth-videos` of the portraits (recipes/builtin/recipe.py has the commands). Backgrounds are
scikit-image's pictures and the wallpapers and stamps of four Debian packages, fetched with apt-get where that is there;
other pictures without a face may be put into WORK/backgrounds. Where a picture came from decides, by a hash of its
name, whether it trains or validates. Nothing of WORK may be published but fcos.onnx.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from recipes.builtin.detector.export import export
from recipes.builtin.detector.prepare import prepare
from recipes.builtin.detector.report import report
from recipes.builtin.detector.trainer import STEPS, train


def main(words: Sequence[str] | None = None) -> None:
    """One step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("step", choices=["prepare", "train", "export", "report"])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(words)
    if arguments.step == "prepare":
        prepare(arguments.shared, arguments.work)
    elif arguments.step == "train":
        train(arguments.work, arguments.steps, arguments.seed)
    elif arguments.step == "export":
        export(arguments.work)
    else:
        report(arguments.shared, arguments.work)


if __name__ == "__main__":
    main()
