"""The built-in model's accuracy beside the official weights', printed and written into its card.

    python -m recipes.builtin.card WORK [--model builtin] [--beside 3ddfa-v2-mb05] [--write]

WORK/dev is what `prepare` made: half of AFLW2000-3D, of which nothing trains and nothing chooses. Every
row is a run of `ddfa-batch process` (its detector, one refinement) or of `evaluate --model` (rois of the labels, one
pass), measured by `evaluate` with the original and with the re-annotated labels. --write puts the table between the
marks of the model's CARD.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.bundle import CARD
from ddfa_batch.schemas.config import BUILTIN, MIRROR, NO_AVERAGE
from ddfa_batch.tasks.bundles.model_bundle import find_bundle

#: Marks in the card between which the table stands.
BEGIN, END = "<!-- recipes/builtin/card.py -->", "<!-- end -->"
#: Of the figures.
COLUMNS = "0–30°|30–60°|60–90°|mean|faces found|extra boxes"
#: How the models are asked: as the card says it, whether they detect, and what the last pass is averaged with.
WAYS = (
    ("detector in the loop, refined once", True, NO_AVERAGE),
    ("the same, averaged with the mirror image", True, MIRROR),
    ("roi of the labels, one pass", False, NO_AVERAGE),
)


def ddfa_batch(*arguments: str | Path) -> None:
    """Run one of the package's commands."""
    subprocess.run(["ddfa-batch", *map(str, arguments), "--quiet"], check=True)


def scores(work: Path, out: Path, model: str, detect: bool, average: str) -> dict[str, list[str]]:
    """The table's cells of each set of labels."""
    dev = work / "dev"
    labels = (dev / "original.parquet", dev / "reannotated.parquet")
    if detect:
        found_by = ("--model", model, "--average", average, "--vertices", "none")
        ddfa_batch("process", dev / "photographs", out / "run", *found_by)
        answers: tuple[str | Path, ...] = ("--run", out / "run")
    else:
        answers = ("--model", model, "--images", dev / "photographs")
    ddfa_batch("evaluate", *labels, out / "scores", *answers, "--overwrite")
    summary = json.loads((out / "scores" / "summary.json").read_text())
    labelled, found = summary["n_labelled"], summary["n_found"]
    extra = f"{(len(open_run(out / 'run').faces(columns=['key'])) - found) / labelled:.1%}" if detect else ""
    share = f"{found / labelled:.1%}"
    cells = {}
    for score in summary["scores"]:
        errors = (*score["bins"], score["mean_of_bins"])
        cells[score["labels"]] = [*("–" if e is None else f"{e:.2f}" for e in errors), share, extra]
    return cells


def table(work: Path, model: str, beside: str) -> str:
    """The card's table, as Markdown."""
    rows = []
    for how, detect, average in WAYS:
        for name in (model, beside):
            out = Path(tempfile.mkdtemp(prefix="card-"))
            try:
                for labels, cells in scores(work, out, name, detect, average).items():
                    rows.append(f"| {Path(name).name} | {how} | {labels} | {' | '.join(cells)} |")
            finally:
                shutil.rmtree(out)
    head = f"| model | how | labels | {' | '.join(COLUMNS.split('|'))} |"
    return "\n".join([head, "|" + "---|" * head.count(" | ") + "---|", *rows])


def main(words: Sequence[str] | None = None) -> None:
    """The step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default=BUILTIN, help="builtin, or a bundle's folder")
    parser.add_argument("--beside", default="3ddfa-v2-mb05")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args(words)
    text = table(arguments.work, arguments.model, arguments.beside)
    print(text)
    if arguments.write:
        file = find_bundle(arguments.model, Path()).folder / CARD
        file.write_text(with_table(file.read_text(encoding="utf-8"), text), encoding="utf-8")


def with_table(card: str, text: str) -> str:
    """The card with another table between its marks."""
    before, rest = card.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    main()
