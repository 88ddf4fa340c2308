"""The door from Python: `ddfa_batch.process` and `ddfa_batch.Pipeline`, with the command's options as keywords."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from ddfa_batch.commands.model_choice import choose_model, default_models_folder
from ddfa_batch.pipeline.context import model_context
from ddfa_batch.pipeline.picture import PictureFaces, picture_faces
from ddfa_batch.pipeline.process import process as run_process
from ddfa_batch.pipeline.process_request import process_request, resolved_options
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.config import (
    BUILTIN,
    CPU,
    DEFAULT_ITEM_SECONDS,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MEMORY_BYTES,
    FULL,
    MAX_SHARD_SIZE,
    NO_SMOOTHING,
    Execution,
    FaceOptions,
    ItemLimits,
    RemoteLimits,
    check_range,
)
from ddfa_batch.schemas.errors import ALL_KINDS, ERROR_KINDS, OptionError, checked_kinds
from ddfa_batch.schemas.picture_formats import DEFAULT_FORMATS
from ddfa_batch.tasks.files.local_paths import check_local
from ddfa_batch.tasks.files.remote_calls import is_url, limited
from ddfa_batch.tasks.files.url_secrets import refuse_secrets

#: How a file or folder is named.
PathName = str | os.PathLike[str]


def process(
    source: PathName | Sequence[PathName],
    out: PathName,
    *,
    model: PathName | None = None,
    detector: str | None = None,
    boxes: PathName | None = None,
    refine: int = 1,
    vertices: str = "float32",
    min_score: float | None = None,
    max_faces: int = 0,
    detect_size: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    formats: Collection[str] = DEFAULT_FORMATS,
    path_column: str | None = None,
    image_column: str | None = None,
    key_column: str | None = None,
    sample_json: bool = False,
    every: int | None = None,
    fps: float | None = None,
    track: bool = True,
    smooth: str = NO_SMOOTHING,
    average: str | None = None,
    decode: str = FULL,
    provider: str = CPU,
    workers: int | None = None,
    scheduler: str = "auto",
    item_timeout: float = DEFAULT_ITEM_SECONDS,
    memory_limit: int = DEFAULT_MEMORY_BYTES,
    remote_attempts: int = RemoteLimits.attempts,
    remote_timeout: float = RemoteLimits.seconds,
    shard_size: int | None = None,
    overwrite: bool = False,
    verify: bool = False,
    extend: bool = False,
    retry_failed: bool | Collection[str] = False,
    models_dir: PathName | None = None,
) -> Results:
    """Find the faces of `source` and write them to the folder `out`, as `ddfa-batch process` does; give its results.

    Options mean what the command's do, and a run begun here can be gone on with there. `source` is one thing or a
    list of things that hold pictures. model: None for that of the run in `out`, else the built-in one. item_timeout:
    seconds, memory_limit: bytes that an input may take before it becomes an error row. retry_failed: True for all error
    rows, or kinds of them. models_dir: where imported models lie; None for the user's data folder.
    Raises `DdfaError`, as `OptionError` (a `ValueError`) for options that cannot be; nothing is printed. A script whose
    work goes to a local cluster needs `if __name__ == "__main__":`, for workers import it.
    """
    check_run(workers, scheduler)
    check_range("shard_size", shard_size, 1, MAX_SHARD_SIZE)
    if overwrite and (extend or retry_failed is not False):
        raise OptionError("overwrite replaces the run in out; leave out extend and retry_failed.")
    limits = ItemLimits(item_timeout, memory_limit)
    folder = run_place(out)
    faces = FaceOptions(
        detector=detector,
        boxes=None if boxes is None else Path(boxes),
        refine=refine,
        vertices=vertices,
        min_score=min_score,
        max_faces=max_faces,
        detect_size=detect_size,
        max_pixels=max_pixels,
        formats=_formats(formats),
        path_column=path_column,
        image_column=image_column,
        key_column=key_column,
        sample_json=sample_json,
        every=every,
        fps=fps,
        track=track,
        smooth=smooth,
        average=average,
        decode=decode,
        provider=provider,
    )
    remote = RemoteLimits(remote_attempts, remote_timeout)
    with limited(remote):
        bundle = choose_model(_models(models_dir), _name(model), None if overwrite else folder).bundle
        request = process_request(_sources(source), folder, bundle, faces, shard_size)
        run, _ = run_process(
            request,
            Execution(scheduler, workers, limits, remote),
            overwrite=overwrite,
            verify=verify,
            extend=extend,
            retry_failed=_kinds(retry_failed),
        )
        return open_run(run.folder)


class Pipeline:
    """A model that is loaded once and called with one picture after another, from any thread.

    Options mean what those of `process` do, and so do the faces: they are what a run writes of the same picture.
    """

    def __init__(
        self,
        model: PathName = BUILTIN,
        *,
        detector: str | None = None,
        refine: int = 1,
        max_faces: int = 0,
        min_score: float | None = None,
        detect_size: int | None = None,
        average: str | None = None,
        provider: str = CPU,
        models_dir: PathName | None = None,
    ) -> None:
        faces = FaceOptions(
            detector=detector,
            refine=refine,
            max_faces=max_faces,
            min_score=min_score,
            detect_size=detect_size,
            average=average,
            provider=provider,
        )
        bundle = choose_model(_models(models_dir), _name(model)).bundle
        self._context = model_context(str(bundle.folder), bundle.digest, resolved_options(faces, bundle))

    def __call__(self, image: U8) -> PictureFaces:
        """The faces of `image` (H, W, 3), BGR uint8 as OpenCV reads it; raises `ShapeError` for anything else."""
        return picture_faces(self._context, image)

    def __repr__(self) -> str:
        options = self._context.options
        name = self._context.model.bundle.manifest.name
        return f"<ddfa_batch.Pipeline {name}, detector {options.detector}, refine {options.refine}>"


def check_run(workers: int | None, scheduler: str) -> None:
    """Raise `OptionError` for workers that cannot be."""
    check_range("workers", workers, 1)
    if scheduler == "in-process" and (workers or 1) > 1:
        raise OptionError("scheduler='in-process' has one worker; leave out workers.")


def run_place(out: PathName) -> PathName:
    """The folder of a run, or its URL; raises `OptionError` for none, `InputError` for a URL with credentials."""
    if not os.fspath(out):
        raise OptionError("out is a folder; an empty string names none.")
    if is_url(os.fspath(out)):
        return refuse_secrets(os.fspath(out))
    return check_local(Path(out))


def _sources(source: PathName | Sequence[PathName]) -> list[str]:
    names = [source] if isinstance(source, str | os.PathLike) else list(source)
    if not names or not all(os.fspath(name) for name in names):
        raise OptionError("source names a folder, a file or a list of them; nothing is named.")
    return [os.fspath(name) for name in names]


def _formats(formats: Collection[str]) -> tuple[str, ...]:
    return tuple(formats.split(",")) if isinstance(formats, str) else tuple(formats)


def _kinds(retry_failed: bool | Collection[str]) -> frozenset[str]:
    if isinstance(retry_failed, bool) or retry_failed == ALL_KINDS:
        return frozenset(ERROR_KINDS) if retry_failed else frozenset()
    return checked_kinds([retry_failed] if isinstance(retry_failed, str) else retry_failed)


def _models(models_dir: PathName | None) -> Path:
    return default_models_folder() if models_dir is None else Path(models_dir)


def _name(model: PathName | None) -> str | None:
    return None if model is None else os.fspath(model)
