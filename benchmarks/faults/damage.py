"""Damage of what a run has written: flipped bytes, cut, emptied and deleted files, half-written ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from cases import Case, Fault, WrongError

#: Files of a run, by what they are called in the table: the run that has them, and a pattern.
KINDS = {
    "run.json": ("process", "run.json"),
    "the plan": ("process", "plan.parquet"),
    "a receipt": ("process", "shards/*.json"),
    "an images table": ("process", "images/*.parquet"),
    "a faces table": ("process", "faces/*.parquet"),
    "meshes (HDF5)": ("process", "vertices/*.h5"),
    "the topology": ("process", "topology.h5"),
    "the joined meshes' file": ("process", "vertices.h5"),
    "the seal": ("process", "seal.json"),
    "a video's seams": ("videos", "seams/*"),
    "a table of tracks": ("videos", "tracks/*"),
    "a table of videos": ("videos", "videos/*"),
    "a table of synthetic frames": ("synth-videos", "frames/*.parquet"),
    "a synthetic clip": ("synth-videos", "clips/**/*"),
    "the fitted residuals": ("fit", "fits.parquet"),
    "a fitted faces table": ("fit", "faces/*.parquet"),
    "a drawn picture": ("render", "pictures/**/*"),
    "an exported mesh": ("export", "meshes/**/*"),
    "a table of exports": ("export", "exports/*.parquet"),
    "a packed tar": ("to-webdataset", "tars/*.tar"),
}


def _flipped(data: bytes, case: Case) -> bytes:
    at = int(case.rng.integers(len(data)))
    return data[:at] + bytes([data[at] ^ 1 << int(case.rng.integers(8))]) + data[at + 1 :]


def _cut(data: bytes, case: Case) -> bytes:
    return data[: int(case.rng.integers(len(data)))]


DAMAGES: dict[str, Callable[[bytes, Case], bytes | None]] = {
    "a bit flipped in": _flipped,
    "cut short:": _cut,
    "deleted:": lambda _, __: None,
}


def damaged(pattern: str, damage: Callable[[bytes, Case], bytes | None], case: Case) -> None:
    """A file of a finished run is damaged; verify has to find it, and the same command to mend it."""
    case.copy_expected()
    path = _one(case, pattern)
    before = path.read_bytes()
    after = damage(before, case)
    if after is None:
        path.unlink()
    else:
        path.write_bytes(after)
    if not case.verified() and (pattern, after) != ("seal.json", None):  # runs of old have no seal
        raise WrongError(f"verify finds nothing wrong with {path.relative_to(case.out)}")
    case.verified("--mend")


def _one(case: Case, pattern: str) -> Path:
    paths = sorted(path for path in case.out.glob(pattern) if path.is_file())
    if not paths:
        raise WrongError(f"the run has no {pattern}")
    return paths[int(case.rng.integers(len(paths)))]


def leftovers(case: Case) -> None:
    """Half-written files of attempts that are gone, beside finished ones and in place of the last shard's."""
    case.copy_expected()
    for folder in [path for path in case.out.iterdir() if path.is_dir()]:
        (folder / f".000001.{'x' * 8}.tmp").write_bytes(b"half")
    receipts = sorted(case.out.glob("shards/*.json"))
    receipts[-1].unlink()


FAULTS = (
    *(
        Fault(f"{how} {what}", "in a finished run", (run,), partial(damaged, pattern, damage), 4 if "bit" in how else 1)
        for what, (run, pattern) in KINDS.items()
        for how, damage in DAMAGES.items()
    ),
    Fault(
        "half-written files left, a receipt lost", "in a finished run", ("process", "render", "export"), leftovers, 2
    ),
)
