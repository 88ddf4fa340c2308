"""`evaluate`: labels and answers → errors by the paper's protocols (section 3.1) → a table, files and two pictures.

truth (what is labelled) → answers (of a run, or of a model shown the labels' own rois) → errors → OUT.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddfa_batch.pipeline.evaluation import report
from ddfa_batch.pipeline.evaluation.answers import answers_of_model, answers_of_run
from ddfa_batch.pipeline.evaluation.pictures import pictures_of
from ddfa_batch.pipeline.evaluation.protocol import Answers, EvaluatedModel, GroundTruth, PictureOf
from ddfa_batch.pipeline.evaluation.protocols import PROTOCOLS
from ddfa_batch.pipeline.evaluation.report import Evaluation, score
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.config import NO_AVERAGE
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.bundles.model_bundle import Bundle


@dataclass(frozen=True)
class EvaluationRequest:
    """An evaluation as asked for: exactly one of run, and bundle with images, gives the answers."""

    #: One of `schemas.config.PROTOCOLS`.
    protocol: str
    #: Files or folders as the protocol takes them; more than one for the 68 points, told apart by their names.
    labels: tuple[Path, ...]
    out: Path
    #: A run of the labelled pictures.
    run: Path | None = None
    bundle: Bundle | None = None
    #: The folder of the labelled pictures, or of the videos they are frames of.
    images: Path | None = None
    #: Passes after the first, for a bundle's answers.
    refine: int = 0
    #: What the last pass's answer is averaged with, of `schemas.config.AVERAGES`.
    average: str = NO_AVERAGE
    #: Replace an evaluation in `out`.
    overwrite: bool = False


def evaluate(request: EvaluationRequest) -> Evaluation:
    """Measure, and write OUT: summary.json, faces.parquet, curve.svg and worst.png.

    Faces that were not found are counted, left out of the means, and errors without end in the curve; faces whose
    labels are too few to tell an error are left out of both. Raises `InputError` for labels that do not suit the
    protocol, or have none of the answers' pictures, and for an OUT that is in use.
    """
    report.check_folder(request.out, request.overwrite)
    protocol = PROTOCOLS[request.protocol]
    run = None if request.run is None else open_run(request.run)
    model = _model(request, run)
    truth = protocol.read(request.labels, model)
    picture_of = pictures_of(truth, request.images or (None if run is None else Path(run.run.root)))
    answers = _answers(request, run, model, truth, picture_of)
    errors = protocol.errors(truth, answers, model)
    stability = None if protocol.stability is None else protocol.stability(truth, answers)
    scores = tuple(score(name, e, truth.yaw, stability) for name, e in errors.items())
    report.write_tables(request.out, protocol.name, truth, answers, errors)
    drawn = report.draw_worst(request.out, truth, answers, next(iter(errors.values())), picture_of)
    outcome = Evaluation(
        protocol=protocol.name,
        measured=protocol.measured,
        normaliser=protocol.normaliser,
        answers=f"run {request.run}" if run is not None else _passes(request),
        model=model.name,
        n_labelled=len(truth.keys),
        n_found=int(answers.found.sum()),
        scores=scores,
        files=(report.SUMMARY, report.FACES, report.CURVE, *([report.WORST] if drawn else [])),
    )
    report.write_summary(request.out, outcome)
    return outcome


def _passes(request: EvaluationRequest) -> str:
    averaged = "" if request.average == NO_AVERAGE else f", averaged with the {request.average} image"
    return f"rois of the labels, {request.refine} refinements{averaged}"


def _model(request: EvaluationRequest, run: Results | None) -> EvaluatedModel:
    """The run's model, or the one that was named."""
    if run is not None:
        return EvaluatedModel.load(str(run.run.model.folder), str(run.run.model.digest))
    if request.bundle is None:
        raise InputError("An evaluation needs the folder of a run, or a model and the folder of its pictures.")
    return EvaluatedModel.load(str(request.bundle.folder), request.bundle.digest)


def _answers(
    request: EvaluationRequest,
    run: Results | None,
    model: EvaluatedModel,
    truth: GroundTruth,
    picture_of: PictureOf | None,
) -> Answers:
    if run is None and picture_of is None:
        raise InputError("An evaluation of a model needs the folder of the labelled pictures (--images).")
    if run is not None:
        answers = answers_of_run(run, truth, model)
    else:
        assert picture_of is not None
        answers = answers_of_model(model, truth, picture_of, request.refine, request.average)
    if not answers.found.any():
        raise InputError(
            f"None of the {len(truth.keys):,} labelled faces was found: are these labels of those pictures?"
        )
    return answers
