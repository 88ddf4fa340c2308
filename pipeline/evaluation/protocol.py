"""What a protocol of `evaluate` is: how the truth is read, and which errors the answers have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, U8, Bools
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry.reconstruct import PointBasis

#: The picture of a row of the truth; None where it cannot be read.
PictureOf = Callable[[int], U8 | None]


@dataclass(frozen=True)
class EvaluatedModel:
    """The model whose answers are measured."""

    bundle: Bundle
    morphable: MorphableModel
    #: The face model at its 68 landmarks.
    landmarks: PointBasis

    @staticmethod
    def load(folder: str, digest: str) -> EvaluatedModel:
        """The bundle in a folder, which must have this digest."""
        loaded = loaded_model(folder, digest)
        model = loaded.morphable
        return EvaluatedModel(loaded.bundle, model, PointBasis.of(model, model.landmarks))

    @property
    def name(self) -> str:
        """As in the bundle."""
        return self.bundle.manifest.name

    @property
    def size(self) -> int:
        """Side of its crops, pixels."""
        return self.bundle.manifest.input_size

    def prior(self) -> Prior:
        """Of its coefficients."""
        manifest = self.bundle.manifest
        return Prior.of_params(np.array(manifest.param_mean), np.array(manifest.param_std))


@dataclass(frozen=True)
class GroundTruth:
    """Labelled faces, one row each."""

    #: Of their pictures, (N,).
    keys: tuple[str, ...]
    #: Sets of points (N, L, 2 or 3) by name, pixels, NaN where not labelled.
    points: dict[str, F64] = field(default_factory=dict)
    #: What errors of points are divided by, (N,), pixels, by the same names; NaN where the labels do not tell it.
    sizes: dict[str, F64] = field(default_factory=dict)
    #: What a model is shown, (N, 4), pixels; NaN where the labels do not tell it, None where they never do.
    rois: F64 | None = None
    #: Degrees, (N,); NaN where unknown.
    yaw: F64 | None = None
    #: Parameters of whole faces (N, P), in the frame of the crops of `params_rois` (N, 4).
    params: F32 | None = None
    params_rois: F64 | None = None
    #: Which video a frame is of, and its number there, (N,): sorted by both.
    video: I64 | None = None
    frame: I64 | None = None
    #: Scans, (N,) files.
    scans: tuple[Path, ...] = ()
    #: Pictures that come with the labels.
    pictures: PictureOf | None = None

    @property
    def first(self) -> F64 | None:
        """The first set of points: it chooses among the faces of a picture."""
        return next(iter(self.points.values()), None)


@dataclass(frozen=True)
class Answers:
    """What was answered for each labelled face, one row each; NaN where nothing was found."""

    #: (N,)
    found: Bools
    #: (N, P)
    params: F32
    #: (N, 4), pixels.
    rois: F64
    #: (N, 68, 3), pixels.
    landmarks: F64


@dataclass(frozen=True)
class Protocol:
    """One way to measure (paper, section 3.1)."""

    name: str
    #: What is measured.
    measured: str
    #: What it is divided by.
    normaliser: str
    #: Labels, as the user names them, to the truth.
    read: Callable[[tuple[Path, ...], EvaluatedModel], GroundTruth]
    #: Errors (N,) in % by set of labels: infinite where nothing was found, NaN where the labels are too few to tell.
    errors: Callable[[GroundTruth, Answers, EvaluatedModel], dict[str, F64]]
    #: Error (n,) in % of the motion of each pair of adjacent frames that were both found.
    stability: Callable[[GroundTruth, Answers], F64] | None = None


def only_one(labels: tuple[Path, ...], protocol: str) -> Path:
    """The one file or folder of labels that a protocol takes."""
    if len(labels) != 1:
        raise InputError(f"The protocol {protocol} takes the labels of one file or folder, not of {len(labels)}.")
    return labels[0]
