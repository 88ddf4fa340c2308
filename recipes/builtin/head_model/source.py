"""What a checkout of MakeHuman holds: the base mesh and its shape targets (released under CC0 in September 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import F64, I64
from ddfa_batch.schemas.errors import InputError

#: Millimetres in MakeHuman's unit, the decimetre.
MM = 100.0
#: The groups of faces that are used: skin, the balls and teeth that MakeHuman fits eyes and teeth to.
GROUPS = ("body", "helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-lower-teeth")


@dataclass(frozen=True)
class BaseMesh:
    """`hm08`, MakeHuman's mesh of V vertices; x to the image's right, y up, z the way the face looks, mm."""

    #: (V, 3).
    vertices: F64
    #: Texture coordinates (W, 2), v up.
    uv: F64
    #: The quads (Q, 4) of each group.
    quads: dict[str, I64]
    #: The rows of `uv` at their corners (Q, 4).
    quad_uv: dict[str, I64]


def read_base(checkout: Path) -> BaseMesh:
    """The base mesh of a checkout's folder `makehuman`; raises `InputError` naming the file."""
    path = checkout / "makehuman/data/3dobjs/base.obj"
    vertices, uv, group = [], [], ""
    corners: dict[str, list[list[list[int]]]] = {name: [] for name in GROUPS}
    for words in map(str.split, _text(path).splitlines()):
        match words[:1]:
            case ["v"]:
                vertices.append([float(word) for word in words[1:4]])
            case ["vt"]:
                uv.append([float(word) for word in words[1:3]])
            case ["g"]:
                group = words[1]
            case ["f"] if group in corners:
                corners[group].append([[int(index) - 1 for index in word.split("/")[:2]] for word in words[1:]])
    faces = {name: np.array(rows, np.int64) for name, rows in corners.items()}
    return BaseMesh(
        np.array(vertices) * MM,
        np.array(uv),
        {name: rows[..., 0] for name, rows in faces.items()},
        {name: rows[..., 1] for name, rows in faces.items()},
    )


def read_target(checkout: Path, name: str, n_vertices: int) -> F64:
    """A target's displacements (V, 3), mm; `name` is its path below `targets`, without suffix."""
    rows = [words for words in map(str.split, _text(_target_path(checkout, name)).splitlines()) if _moves(words)]
    moves = np.zeros((n_vertices, 3))
    if rows:
        table = np.array(rows, np.float64)
        moves[table[:, 0].astype(np.int64)] = table[:, 1:] * MM
    return moves


def target_names(checkout: Path, folder: str) -> list[str]:
    """Names of the targets in a folder below `targets`, sorted."""
    root = checkout / "makehuman/data/targets"
    return sorted(str(path.relative_to(root).with_suffix("")) for path in (root / folder).glob("*.target"))


def _target_path(checkout: Path, name: str) -> Path:
    return checkout / "makehuman/data/targets" / f"{name}.target"


def _moves(words: list[str]) -> bool:
    return len(words) == 4 and not words[0].startswith("#")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as fault:
        raise InputError(
            f"{path} cannot be read ({fault.strerror}); name the folder of a checkout of MakeHuman."
        ) from None
