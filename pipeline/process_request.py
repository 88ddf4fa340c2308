"""What a user asks of `process`, resolved and checked: the one place for the command and for Python."""

from __future__ import annotations

from collections.abc import Sequence

from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.schemas.config import GIVEN_BOXES, FaceOptions, ProcessOptions
from ddfa_batch.schemas.errors import OptionError
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files.given_boxes import read_boxes
from ddfa_batch.tasks.files.inputs import SourceOptions, resolve_sources
from ddfa_batch.tasks.files.run_folders import Named
from ddfa_batch.tasks.files.video_inputs import Sampling


def process_request(
    sources: Sequence[str], out: Named, bundle: Bundle, faces: FaceOptions, shard_size: int | None = None
) -> RunRequest:
    """The request for the faces of what `sources` name, each as one says it on the command line.

    Raises `OptionError` for options that exclude each other, `InputError` for sources or boxes that cannot be read.
    """
    if contradiction := faces.contradiction(lambda name: "track=False" if name == "no_track" else name):
        raise OptionError(contradiction)
    given = read_boxes(faces.boxes) if faces.boxes else None
    options = resolved_options(faces, bundle, given.digest if given else None)
    sampling = Sampling(options.every, options.fps, options.max_pixels, options.formats)
    taken = SourceOptions(
        path_column=faces.path_column,
        image_column=faces.image_column,
        key_column=faces.key_column,
        sample_json=faces.sample_json,
        formats=options.formats,
        sampling=sampling,
    )
    return RunRequest("process", resolve_sources(sources, taken), out, options, bundle, given, shard_size)


def resolved_options(faces: FaceOptions, bundle: Bundle, boxes_digest: str | None = None) -> ProcessOptions:
    """The options with the model's defaults in place of what was not said."""
    detector, min_score = GIVEN_BOXES, 0.0
    if boxes_digest is None:
        detector, spec = bundle.detector(faces.detector)
        min_score = spec.face_threshold if faces.min_score is None else faces.min_score
    return ProcessOptions(
        detector=detector,
        min_score=min_score,
        detect_size=faces.detect_size,
        max_faces=faces.max_faces,
        refine=faces.refine,
        vertices=faces.vertices,
        max_pixels=faces.max_pixels,
        boxes_digest=boxes_digest,
        path_column=faces.path_column,
        image_column=faces.image_column,
        key_column=faces.key_column,
        sample_json=faces.sample_json,
        every=faces.every or 1,
        fps=faces.fps,
        track=faces.track,
        smooth=faces.smooth,
        average=bundle.manifest.average if faces.average is None else faces.average,
        formats=faces.formats,
        decode=faces.decode,
        provider=faces.provider,
    )
