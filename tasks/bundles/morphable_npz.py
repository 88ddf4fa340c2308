"""The morphable model of a bundle as a file: an npz of plain arrays."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ddfa_batch.schemas.arrays import F32, I32
from ddfa_batch.schemas.bundle import MANIFEST
from ddfa_batch.schemas.errors import BundleError, ShapeError
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.schemas.parameters import ParameterLayout

#: A morphable.npz may unpack to at most this much; the official model has 25 MB.
_MAX_BYTES = 4 << 30
#: Arrays a model may have or lack.
_OPTIONAL = ("uv", "ncc")


def write_morphable(path: Path, model: MorphableModel) -> None:
    """Write a morphable model as an npz of plain arrays, each in the smallest type that loses nothing of it."""
    basis = _smallest(model.basis, np.float16)
    arrays: dict[str, Any] = {
        "mean": model.mean,
        "shape_basis": basis[: model.n_shape],
        "expression_basis": basis[model.n_shape :],
        "triangles": _smallest(model.triangles, np.uint16),
        "landmarks": model.landmarks,
        "topology": np.array(model.topology),
        "unit": np.array(model.unit),
    }
    optional = {name: getattr(model, name) for name in _OPTIONAL}
    np.savez(path, **arrays, **{name: array for name, array in optional.items() if array is not None})


def _smallest(array: F32 | I32, smaller: type) -> Any:
    """The array as the smaller type, if every number stays what it is."""
    with np.errstate(over="ignore"):
        cast: Any = array.astype(smaller)
    return cast if np.array_equal(cast.astype(array.dtype), array) else array


def read_morphable(path: Path, layout: ParameterLayout) -> MorphableModel:
    """Read a morphable model with the coefficients of `layout`; pickled arrays and zip bombs are refused.

    Raises `BundleError` naming the file.
    """
    try:
        model = _model_of(_arrays(path))
    except KeyError as fault:
        raise BundleError(f"{path} has no array {fault}; import the model again.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, ShapeError) as fault:
        raise BundleError(f"{path} holds no morphable model ({fault}).") from None
    if model.layout != layout:
        raise BundleError(
            f"{path} has {model.layout.n_shape} + {model.layout.n_expression} coefficients, {MANIFEST} says "
            f"{layout.n_shape} + {layout.n_expression}."
        )
    return model


def _arrays(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > _MAX_BYTES:
            raise BundleError(f"{path} unpacks to more than {_MAX_BYTES >> 30} GiB.")
    with np.load(path, allow_pickle=False) as npz:
        return {name: npz[name] for name in npz.files}


def _model_of(arrays: dict[str, Any]) -> MorphableModel:
    optional = {name: arrays[name].astype(np.float32) for name in _OPTIONAL if name in arrays}
    return MorphableModel(
        mean=arrays["mean"].astype(np.float32),
        basis=np.concatenate([arrays["shape_basis"], arrays["expression_basis"]]).astype(np.float32),
        n_shape=int(arrays["shape_basis"].shape[0]),
        triangles=arrays["triangles"].astype(np.int32),
        landmarks=arrays["landmarks"].astype(np.int32),
        topology=str(arrays["topology"]),
        unit=str(arrays["unit"]),
        **optional,
    )
