"""Options that differ between what a folder holds and what is asked for now, named for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddfa_batch.schemas.config import usual_options
from ddfa_batch.schemas.errors import RunFolderError

if TYPE_CHECKING:
    from ddfa_batch.pipeline.plan import Run


#: What changes where inputs are added: which there are, and what the run holds that is drawn, exported or packed.
_GROWING = ("content", "inputs")


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
        key: f"{key.replace('_', '-')} ({_told(was.get(key), now.get(key))})"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key)
    }


def _told(was: Any, now: Any) -> str:
    if was is None:
        return f"not there, asked for {now}"
    return f"there {was}, not asked for" if now is None else f"there {was}, asked for {now}"


def _whole(run: Run) -> dict[str, Any]:
    """What a run is told apart by, with the options that it leaves out because they are as usual."""
    return {**run.identity, "options": {**usual_options(run.kind), **run.identity["options"]}}


def refuse_if_different(planned: Run, asked: Run, extend: bool) -> None:
    """Raise `RunFolderError` naming what differs between the run in the folder and the one asked for."""
    if planned.kind != asked.kind:
        raise RunFolderError(
            f"{planned.folder} holds a run of {planned.kind}, not of {asked.kind}; choose another output folder, or "
            "--overwrite to replace it."
        )
    differences = differing(_whole(planned), _whole(asked))
    if extend:
        for key in _GROWING:
            differences.pop(key, None)
    remedy = "Use the same command to resume it, another output folder, or --overwrite to replace it."
    if "content" in differences:
        differences["content"] = "the rows that it is made of, some of which were added or done again since"
    if "inputs" in differences:
        differences["inputs"] = f"inputs (planned {planned.n_inputs:,}, now {asked.n_inputs:,}, or other names)"
    if differences and differences.keys() <= set(_GROWING) and planned.kind != "fit" and "made" not in asked.identity:
        remedy = "Use --extend to take up what was added, another output folder, or --overwrite to replace it."
    if differences:
        what = "; ".join(differences.values())
        raise RunFolderError(f"{planned.folder} holds a run that differs in {what}. {remedy}")


def refuse_other_root(planned: Run, asked: Run) -> None:
    """Raise `RunFolderError` where the inputs that are asked for lie elsewhere than those that were planned."""
    if planned.root != asked.root:
        raise RunFolderError(
            f"{planned.folder} is a run of inputs in {planned.root}, and these are in {asked.root}; put what was added "
            "or repaired there, or choose another output folder."
        )
