"""Models in memory, once per process: the morphable model, and the sessions that run a bundle's networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import onnxruntime as ort

from ddfa_batch.schemas.bundle import MORPHABLE, REGRESSOR
from ddfa_batch.schemas.config import CPU
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.schemas.parameters import ParameterLayout
from ddfa_batch.tasks.bundles.model_bundle import Bundle, load_bundle, recorded_folder
from ddfa_batch.tasks.bundles.morphable_npz import read_morphable
from ddfa_batch.tasks.bundles.providers import open_session


def load_morphable(bundle: Bundle) -> MorphableModel:
    """Read the morphable model of a bundle, once per process."""
    return _morphable(bundle.folder / MORPHABLE, bundle.digest, bundle.manifest.layout)


@lru_cache(maxsize=2)
def _morphable(path: Path, _: str, layout: ParameterLayout) -> MorphableModel:
    return read_morphable(path, layout)


@dataclass(frozen=True)
class LoadedModel:
    """A bundle with its morphable model in memory and its sessions open. Lives in one process."""

    #: Its files.
    bundle: Bundle
    #: The face model.
    morphable: MorphableModel
    #: The network that gives the parameters.
    regressor: ort.InferenceSession

    #: What runs its networks, one of `schemas.config.PROVIDERS`.
    provider: str = CPU

    def detector_session(self, spec: DetectorSpec) -> ort.InferenceSession:
        """Open the network of a detector."""
        path = self.bundle.folder / spec.file
        return open_session(path.read_bytes(), str(path), self.provider)


@lru_cache(maxsize=2)
def loaded_model(folder: str, digest: str, provider: str = CPU) -> LoadedModel:
    """The model in `folder`, loaded once per process; `digest` is what the run was planned with."""
    bundle = load_bundle(recorded_folder(folder, digest))
    if bundle.digest != digest:
        raise BundleError(
            f"The model in {folder} is not the one this run was planned with (its model.json changed); "
            "put the old one back, or start again with --overwrite."
        )
    path = bundle.folder / REGRESSOR
    session = open_session(path.read_bytes(), str(path), provider)
    return LoadedModel(bundle, load_morphable(bundle), session, provider)
