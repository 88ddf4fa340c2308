"""The log as a table in a document, between two marks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cases import Fault

_BEGIN, _END = "<!-- faults: begin, written by make faults -->", "<!-- faults: end -->"
_COUNTS = ("lost", "duplicated", "wrong", "hung")


def write_table(document: Path, lines: list[dict[str, Any]], faults: Sequence[Fault]) -> None:
    """Write the table of a log's lines into a document, in the order of the faults."""
    before, rest = document.read_text().split(_BEGIN)
    _, after = rest.split(_END)
    document.write_text(f"{before}{_BEGIN}\n{rendered(lines, faults)}\n{_END}{after}")


def rendered(lines: list[dict[str, Any]], faults: Sequence[Fault]) -> str:
    """The table, in Markdown."""
    tried: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        tried[line["fault"], line["when"]].append(line)
    rows = [
        "| fault | when it strikes | runs | tried | lost | duplicated | wrong | hung |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for key in dict.fromkeys((fault.name, fault.when) for fault in faults):
        if of_it := tried.get(key):
            rows.append(f"| {' | '.join(key)} | {_subjects(of_it)} | {len(of_it)} | {_counts(of_it)} |")
    every = [line for lines in tried.values() for line in lines]
    rows.append(f"| **{len(tried)} faults** | | | **{len(every)}** | {_counts(every)} |")
    return "\n".join(rows)


def _subjects(lines: list[dict[str, Any]]) -> str:
    return "; ".join(dict.fromkeys(line["subject"] for line in lines))


def _counts(lines: list[dict[str, Any]]) -> str:
    return " | ".join(f"{sum(line[name] for line in lines)}" for name in _COUNTS)
