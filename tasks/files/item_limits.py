"""The limits that hold for the item at work: set where a stage begins, looked at by whoever runs foreign code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from ddfa_batch.schemas.config import ItemLimits


@dataclass(frozen=True)
class _InForce:
    limits: ItemLimits
    #: Whether the process may be ended for an item: a worker may, since another takes its place.
    may_end: bool


_USUAL = _InForce(ItemLimits(), may_end=False)
_in_force: ContextVar[_InForce] = ContextVar("item_limits", default=_USUAL)


@contextlib.contextmanager
def item_limits(limits: ItemLimits, may_end: bool) -> Iterator[None]:
    """Let `limits` hold for every item at work inside the block; may_end: the process may be ended for one."""
    token = _in_force.set(_InForce(limits, may_end))
    try:
        yield
    finally:
        _in_force.reset(token)


def limits_in_force() -> ItemLimits:
    """The limits that hold here."""
    return _in_force.get().limits


def may_end_process() -> bool:
    """Whether this process may be ended for an item that is over its limits."""
    return _in_force.get().may_end
