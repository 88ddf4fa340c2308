"""What an evaluation leaves: scores, summary.json, faces.parquet, curve.svg and worst.png."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ddfa_batch.pipeline.evaluation.protocol import Answers, GroundTruth, PictureOf
from ddfa_batch.schemas.arrays import F64
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.evaluation.landmark_errors import cumulative, mean_by_yaw
from ddfa_batch.tasks.files import atomic, store
from ddfa_batch.tasks.rendering import curves, overlay, sheets

SUMMARY, FACES, CURVE, WORST = "summary.json", "faces.parquet", "curve.svg", "worst.png"
#: Error in % at which the cumulative curve ends.
_CURVE_END = 10.0
#: Faces in the picture of the worst, and in one of its rows.
_N_WORST, _ACROSS = 25, 5
#: Characters of a caption.
_CAPTION = 38


@dataclass(frozen=True)
class Score:
    """Errors of one set of labels, %; None for what the protocol does not measure."""

    labels: str
    #: Faces that were found and whose labels tell an error.
    n_faces: int
    #: Over all these faces.
    mean: float
    median: float
    #: By bin of |yaw|, None for one without faces.
    bins: tuple[float | None, ...] | None = None
    #: The mean of the bins with faces.
    mean_of_bins: float | None = None
    #: Of videos; None if no two adjacent frames were found.
    stability: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """The outcome, as summary.json holds it."""

    protocol: str
    measured: str
    normaliser: str
    #: Whose answers were measured.
    answers: str
    model: str
    n_labelled: int
    n_found: int
    scores: tuple[Score, ...]
    #: What was written.
    files: tuple[str, ...]


def check_folder(out: Path, overwrite: bool) -> None:
    """Refuse a folder that holds a run, or anything without `overwrite`, which replaces an evaluation's files only."""
    if (out / store.RUN).exists():
        raise InputError(f"{out} holds a run; give the evaluation a folder of its own.")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for the evaluation.")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        what = "an evaluation" if (out / SUMMARY).exists() else "files"
        raise InputError(f"{out} holds {what} already; give another folder, or --overwrite.")


def score(name: str, errors: F64, yaw: F64 | None, stability: F64 | None) -> Score:
    """Means of errors (N,) in %, infinite for faces that were missed, NaN for those without one."""
    fine = np.isfinite(errors)
    if not fine.any():
        raise InputError(f"No face that was found has enough labels in {name} to tell an error.")
    moved = None if stability is None or not len(stability) else float(stability.mean())
    mean, median, n_faces = float(errors[fine].mean()), float(np.median(errors[fine])), int(fine.sum())
    if yaw is None:
        return Score(name, n_faces, mean, median, stability=moved)
    known = fine & np.isfinite(yaw)
    bins = mean_by_yaw(errors[known], yaw[known])
    each = tuple(float(b) if np.isfinite(b) else None for b in bins)
    return Score(name, n_faces, mean, median, each, float(np.nanmean(bins)) if known.any() else None, moved)


def write_tables(out: Path, protocol: str, truth: GroundTruth, answers: Answers, errors: dict[str, F64]) -> None:
    """Write faces.parquet, a row per labelled face, and the cumulative curves over those whose labels tell an error."""
    out.mkdir(parents=True, exist_ok=True)
    (out / SUMMARY).unlink(missing_ok=True)  # of an evaluation before: it would tell of other files
    columns: dict[str, object] = {"key": list(truth.keys), "found": answers.found}
    columns |= {name: values for name in ("yaw", "video", "frame") if (values := getattr(truth, name)) is not None}
    columns |= {f"nme_{name}": pa.array(e, mask=~np.isfinite(e)) for name, e in errors.items()}
    if truth.sizes:
        columns["normaliser_px"] = next(iter(truth.sizes.values()))
    store.write_table(out / FACES, pa.table(columns))
    lines = {name: curves.Curve(*cumulative(e[~np.isnan(e)], _CURVE_END)) for name, e in errors.items()}
    title = f"{protocol}: cumulative error"
    curves.draw_curves(out / CURVE, lines, title, "NME (%)", "share of labelled faces", 1.0)


def draw_worst(out: Path, truth: GroundTruth, answers: Answers, errors: F64, picture_of: PictureOf | None) -> bool:
    """Draw the faces with the greatest errors (N,); False where their pictures are not at hand."""
    tiles = []
    order = np.argsort(np.where(np.isfinite(errors), errors, -1))[::-1][:_N_WORST]
    for i in order[np.isfinite(errors[order])]:
        picture = None if picture_of is None or truth.first is None else picture_of(int(i))
        if picture is not None and truth.first is not None:
            caption = f"{errors[i]:.1f} %  {truth.keys[i]}"[:_CAPTION]
            tiles.append(overlay.compared(picture, truth.first[i], answers.landmarks[i], caption))
    if tiles:
        sheets.write_png(out / WORST, sheets.grid(tiles, _ACROSS))
    else:
        (out / WORST).unlink(missing_ok=True)
    return bool(tiles)


def write_summary(out: Path, outcome: Evaluation) -> None:
    """Write summary.json, last: where it lies the other files are its own."""
    atomic.write_json(out / SUMMARY, asdict(outcome))
