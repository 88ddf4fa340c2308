"""What one process needs to work at a run, loaded once: the run, the model, and its parts."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ddfa_batch.pipeline import plan
from ddfa_batch.pipeline.plan import Run
from ddfa_batch.schemas.config import GIVEN_BOXES, MIRROR, ProcessOptions, SynthOptions
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.bundles.loaded_model import LoadedModel, loaded_model
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.run_folders import run_folder_at
from ddfa_batch.tasks.geometry.mirroring import MirrorMap
from ddfa_batch.tasks.geometry.reconstruct import PointBasis
from ddfa_batch.tasks.geometry.visibility import Occlusion
from ddfa_batch.tasks.inference.face_finder import FaceFinder
from ddfa_batch.tasks.inference.regressor import Regressor

#: Threads of a worker ask for the same context at once; only the first one loads it.
_LOADING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class ModelContext:
    """A model ready to work by some options. It is shared by the process's threads, and changed by none."""

    #: How faces are found and regressed.
    options: ProcessOptions
    #: The bundle, its morphable model and its sessions.
    model: LoadedModel
    #: Finds faces; None where the user gave boxes.
    find: FaceFinder | None
    #: Crops to parameters.
    regressor: Regressor
    #: The 68 landmarks.
    landmarks: PointBasis
    #: All vertices.
    dense: PointBasis
    #: How mirrored answers are read; None where nothing is averaged with them.
    mirror: MirrorMap | None
    #: What may hide a landmark.
    occlusion: Occlusion
    #: The vertices of `occlusion`.
    occluding: PointBasis

    @property
    def size(self) -> int:
        """Side of the regressor's crops, pixels."""
        return self.regressor.size

    @property
    def n_params(self) -> int:
        """Parameters of a face."""
        return self.model.bundle.manifest.layout.size


@dataclass(frozen=True, kw_only=True)
class RunContext(ModelContext):
    """All that one process needs for a run."""

    #: The run that is worked at.
    run: Run


def model_context(folder: str, digest: str, options: ProcessOptions) -> ModelContext:
    """The model in `folder` for these options; raises `BundleError` where it cannot do what they ask for."""
    with _LOADING:
        return _model_context(folder, digest, options)


def _model_context(folder: str, digest: str, options: ProcessOptions) -> ModelContext:
    model = loaded_model(folder, digest, options.provider)
    occlusion = Occlusion.of(model.morphable)
    return ModelContext(
        options=options,
        model=model,
        find=_face_finder(folder, digest, options),
        regressor=Regressor(model.regressor, model.bundle.manifest),
        landmarks=PointBasis.of(model.morphable, model.morphable.landmarks),
        dense=PointBasis.of(model.morphable),
        mirror=_mirror(folder, digest) if options.average == MIRROR else None,
        occlusion=occlusion,
        occluding=PointBasis.of(model.morphable, occlusion.vertices),
    )


def run_context(out: str) -> RunContext:
    """This process's `RunContext` for the run in `out`."""
    with _LOADING:
        return _run_context(out, run_folder_at(out).stamp(store.RUN))


@lru_cache(maxsize=2)
def _run_context(out: str, _: object) -> RunContext:
    run = plan.read_run(out)
    context = _model_context(run.model.folder, run.model.digest, regression_options(run))
    return RunContext(run=run, **vars(context))


def check_model(run: Run) -> None:
    """Load the networks of a run's model; raises `BundleError` where it cannot do what the run's options ask for."""
    with _LOADING:
        _face_finder(run.model.folder, run.model.digest, regression_options(run))


@lru_cache(maxsize=2)
def _mirror(folder: str, digest: str) -> MirrorMap:
    model = loaded_model(folder, digest)
    return MirrorMap.of(model.morphable, np.array(model.bundle.manifest.param_std)[N_POSE:])


@lru_cache(maxsize=2)
def _face_finder(folder: str, digest: str, options: ProcessOptions) -> FaceFinder | None:
    model = loaded_model(folder, digest, options.provider)
    if options.detector == GIVEN_BOXES:
        return None
    spec = model.bundle.manifest.detectors[options.detector]
    regressor = Regressor(model.regressor, model.bundle.manifest)
    return FaceFinder(spec, model.detector_session(spec), regressor, options.min_score, options.detect_size)


def regression_options(run: Run) -> ProcessOptions:
    """How a run finds and regresses faces."""
    if run.kind == "synth-videos":
        return SynthOptions.from_dict(run.options).regression()
    return ProcessOptions.from_dict(run.options)
