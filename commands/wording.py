"""Counts, bytes and durations as people read them."""

from __future__ import annotations


def count(n: int, noun: str, plural: str | None = None) -> str:
    """`n` things: "1 face", "12,345 faces", "2 meshes"."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def printable(text: str) -> str:
    """Text on one line in which nothing commands a terminal: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def byte_size(n: float) -> str:
    """Bytes in decimal units, three digits: "76.4 kB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:,.3g} TB" if n < 1000 else f"{n:,.0f} TB"


def duration(seconds: float) -> str:
    """Seconds in the unit that tells most: "8.2 s", "45 s", "12 min", "2.5 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"
