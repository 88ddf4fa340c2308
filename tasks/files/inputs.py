"""What there is to process: folders, single pictures, text lists and manifests."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files import table_columns
from ddfa_batch.tasks.files.images import SUFFIXES, is_picture
from ddfa_batch.tasks.files.local_paths import check_local

_LISTS = frozenset({".txt", ".lst"})
#: Columns taken for the path, in this order, when none is named.
_PATH_COLUMNS = ("path", "image", "file", "filename", "file_name", "image_path", "key")
#: Columns taken for the key of what is given for inputs.
KEY_COLUMNS = ("key", *_PATH_COLUMNS[:-1])
#: What can be named, for sentences.
_TAKEN = "a folder, a picture, a text list (.txt, .lst) or a manifest (.csv, .tsv, .parquet)"
#: How many of the keys that match no input are named.
_NAMED = 3


@dataclass(frozen=True)
class Source:
    """Where the inputs come from."""

    #: What the user named.
    path: Path
    #: "folder", "file", "list" or "manifest".
    kind: str
    #: The folder that keys are relative to.
    root: Path
    #: A manifest's column of paths.
    column: str | None = None


@dataclass(frozen=True)
class Input:
    """One input."""

    #: Its path relative to the source's root, as text.
    key: str
    #: The path in bytes, where the key cannot be turned back into it.
    path: bytes | None = None


@dataclass
class Ignored:
    """What a folder holds besides images."""

    #: How many files of each ending; hidden entries are counted as such.
    by_suffix: Counter[str] = field(default_factory=Counter)

    def sentence(self) -> str | None:
        """Say it, or None where nothing was passed over."""
        if not self.by_suffix:
            return None
        what = ", ".join(f"{count} {suffix}" for suffix, count in self.by_suffix.most_common(5))
        total = sum(self.by_suffix.values())
        return f"{total} {'file is' if total == 1 else 'files are'} no image by name and left out ({what})."


def resolve_source(path: Path, column: str | None) -> Source:
    """Find out what `path` is; raises `InputError` if it is nothing that lists images."""
    check_local(path)
    if path.is_dir():
        return Source(path, "folder", path.resolve())
    if not path.exists():
        raise InputError(f"{path} does not exist; give {_TAKEN}.")
    suffix, folder = path.suffix.lower(), path.resolve().parent
    if suffix in table_columns.TABLES:
        return Source(path, "manifest", folder, _path_column(path, column))
    if suffix in _LISTS:
        return Source(path, "list", folder)
    if suffix not in SUFFIXES and not is_picture(path):
        raise InputError(f"{path} is no picture; give {_TAKEN}. Videos and archives are not read.")
    return Source(path, "file", folder)


def _path_column(path: Path, wanted: str | None) -> str:
    have = table_columns.column_names(path)
    names = [wanted] if wanted else _PATH_COLUMNS
    return table_columns.choose_column(path, have, names, "rename one, or name it with --path-column NAME")


def list_inputs(source: Source, leave_out: Path, ignored: Ignored) -> Iterator[Input]:
    """Yield every input in a fixed order, one at a time.

    `leave_out` (the output folder) is skipped inside a folder; `ignored` is filled with what else was.
    """
    if source.kind == "folder":
        seen = frozenset([_identity(source.root)])
        yield from _walk(source.root, "", leave_out.resolve(), seen, ignored)
    elif source.kind == "file":
        yield _input(os.fsencode(source.path.name))
    elif source.kind == "list":
        with source.path.open("rb") as file:
            for line in file:
                if name := line.rstrip(b"\r\n"):
                    yield _input(name)
    else:
        column = str(source.column)
        for batch in table_columns.batches(source.path, [column], text=[column]):
            for value in batch.column(0):
                text = value.as_py()
                yield Input("" if text is None else str(text))


def resolve_path(root: Path, item: Input) -> Path:
    """The file an input stands for."""
    return root / (os.fsdecode(item.path) if item.path is not None else item.key)


def _input(raw: bytes) -> Input:
    try:
        return Input(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return Input(raw.decode("utf-8", "backslashreplace"), raw)


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _walk(
    folder: Path, prefix: str, leave_out: Path, above: frozenset[tuple[int, int]], ignored: Ignored
) -> Iterator[Input]:
    """Depth first, names in byte order, links followed unless they lead back up."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as fault:
        raise InputError(f"{folder} cannot be listed ({fault.strerror}).") from None
    for entry in entries:
        name = prefix + entry.name
        if entry.name.startswith("."):
            ignored.by_suffix["hidden"] += 1
        elif entry.is_dir():
            below = Path(entry.path)
            identity = _identity(below)
            if identity in above or below.resolve() == leave_out:
                continue
            yield from _walk(below, name + "/", leave_out, above | {identity}, ignored)
        elif (suffix := Path(entry.name).suffix.lower()) in SUFFIXES:
            yield _input(os.fsencode(name))
        else:
            ignored.by_suffix[suffix or "without ending"] += 1


class Given(Protocol):
    """What the user brings for each input, by its key; it goes into the plan, so workers need nothing else."""

    @property
    def digest(self) -> str:
        """Tells one file of the user's from another."""
        ...

    @property
    def title(self) -> str:
        """What it is, in the plural."""
        ...

    def keys(self) -> Collection[str]:
        """The inputs there is something for."""
        ...

    def plan_columns(self, key: str) -> dict[str, Any]:
        """The plan's columns for one input."""
        ...

    def absence(self, n: int) -> str:
        """What to tell the user of `n` inputs there is nothing for."""
        ...


def unmatched(given: Given, matched: Collection[str]) -> str | None:
    """Tell of the keys that are given for no input, `matched` being those of inputs; None where there are none."""
    left = [key for key in given.keys() if key not in matched]  # noqa: SIM118 - a protocol, not a dict
    if not left:
        return None
    named = ", ".join(f"'{key}'" for key in left[:_NAMED]) + (", …" if len(left) > _NAMED else "")
    return f"{given.title.capitalize()} of {len(left):,} pictures that are no inputs are left out ({named})."


def without_suffix(key: str) -> str:
    """A key as labels often have it: the picture's path without its ending."""
    return PurePosixPath(key).with_suffix("").as_posix()
