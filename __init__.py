"""Batch 3-D dense face alignment: photographs to parameters, landmarks and meshes, on Dask.

>>> import ddfa_batch
>>> run = ddfa_batch.open("out/")                          # doctest: +SKIP
>>> run.faces()  # an Arrow table                          # doctest: +SKIP
>>> run.vertices(face_ids=[0])                             # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddfa_batch.pipeline.results import Results
    from ddfa_batch.pipeline.results import open_run as open

    __version__: str

__all__ = ["Results", "__version__", "open"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the command line starts faster without it."""
    if name in ("open", "Results"):
        from ddfa_batch.pipeline import results

        return results.open_run if name == "open" else results.Results
    if name == "__version__":
        from importlib.metadata import version

        return version("ddfa-batch")
    raise AttributeError(f"module 'ddfa_batch' has no attribute {name!r}")
