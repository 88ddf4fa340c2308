"""Loops over pixels and vertices, compiled by numba: one place that says how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar, cast

from ddfa_batch.schemas.extras import from_extra

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def compiled(inline: bool = False) -> Callable[[Kernel], Kernel]:
    """Compile a function of arrays and numbers, without the GIL, at its first call.

    What was compiled is kept on disk for the next process, beside the code or in the user's cache folder. Where neither
    can be written (numba then raises `RuntimeError`) every process compiles anew. `inline`: within its callers.
    """
    how: Literal["always", "never"] = "always" if inline else "never"

    njit = from_extra("numba").njit

    def decorate(function: Kernel) -> Kernel:
        try:
            return cast(Kernel, njit(cache=True, nogil=True, inline=how)(function))
        except RuntimeError:
            return cast(Kernel, njit(nogil=True, inline=how)(function))

    return decorate
