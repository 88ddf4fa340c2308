"""Batch 3-D dense face alignment: photographs to parameters, landmarks and meshes, on Dask.

>>> import ddfa_batch
>>> run = ddfa_batch.process("photos/", "out/")            # doctest: +SKIP
>>> run = ddfa_batch.open("out/")                          # doctest: +SKIP
>>> run.faces()  # an Arrow table                          # doctest: +SKIP
>>> run.vertices(face_ids=[0])                             # doctest: +SKIP
>>> faces = ddfa_batch.Pipeline()(image)  # in memory      # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddfa_batch.commands.python import Pipeline, process
    from ddfa_batch.commands.python_runs import compact, merge, select, to_webdataset
    from ddfa_batch.pipeline.picture import PictureFaces
    from ddfa_batch.pipeline.report import write_report as report
    from ddfa_batch.pipeline.results import Results
    from ddfa_batch.pipeline.results import open_run as open

    __version__: str

__all__ = [
    "PictureFaces",
    "Pipeline",
    "Results",
    "__version__",
    "compact",
    "merge",
    "open",
    "process",
    "report",
    "select",
    "to_webdataset",
]

#: What is imported when it is asked for: its module, and what it is called there.
_LAZY = {
    "Pipeline": ("commands.python", "Pipeline"),
    "PictureFaces": ("pipeline.picture", "PictureFaces"),
    "Results": ("pipeline.results", "Results"),
    "compact": ("commands.python_runs", "compact"),
    "merge": ("commands.python_runs", "merge"),
    "open": ("pipeline.results", "open_run"),
    "process": ("commands.python", "process"),
    "report": ("pipeline.report", "write_report"),
    "select": ("commands.python_runs", "select"),
    "to_webdataset": ("commands.python_runs", "to_webdataset"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the command line starts faster without it."""
    if name in _LAZY:
        from importlib import import_module

        module, attribute = _LAZY[name]
        return getattr(import_module(f"ddfa_batch.{module}"), attribute)
    if name == "__version__":
        from importlib.metadata import version

        return version("ddfa-batch")
    raise AttributeError(f"module 'ddfa_batch' has no attribute {name!r}")
