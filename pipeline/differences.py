"""Options that differ between what a folder holds and what is asked for now, named for a person."""

from __future__ import annotations

from typing import Any


def flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options as one level, keys joined by dots; of a table called `options` the keys stand alone."""
    pairs: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            pairs |= flat(value, prefix if name == "options" else f"{prefix}{name}.")
        else:
            pairs[f"{prefix}{name}"] = value
    return pairs


def differing(there: dict[str, Any], asked: dict[str, Any]) -> dict[str, str]:
    """What differs, in words, by key, in the order of the keys; empty where all is equal."""
    was, now = flat(there), flat(asked)
    return {
        key: f"{key.replace('_', '-')} (there {was.get(key)}, asked for {now.get(key)})"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key)
    }
