"""Packages that only some commands need, and the extra of ddfa-batch that brings each."""

from __future__ import annotations

import importlib
from typing import Any

from ddfa_batch.schemas.errors import MissingPackageError

#: The extra that brings a package, by the name it is imported by, and what it is needed for.
EXTRAS: dict[str, tuple[str, str]] = {
    "numba": ("render", "Drawing faces and giving them other poses"),
    "scipy": ("labels", "Reading .mat files"),
    "onnx": ("official", "Importing the official release, or training"),
    "torch": ("train", "Training"),
    "dask_jobqueue": ("jobqueue", "A queue's cluster"),
    "dask_kubernetes": ("kubernetes", "A Kubernetes cluster"),
    "openvino": ("openvino", "--provider openvino"),
}


def from_extra(module: str) -> Any:
    """The module, such as `scipy.io`; `MissingPackageError` names the extra where its package is not installed."""
    package = module.partition(".")[0]
    extra, purpose = EXTRAS[package]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as fault:
        if (fault.name or "").partition(".")[0] != package:
            raise
        distribution = package.replace("_", "-")
        raise MissingPackageError(
            f"{purpose} needs {distribution}, which is not installed here: pip install 'ddfa-batch[{extra}]'."
        ) from None
