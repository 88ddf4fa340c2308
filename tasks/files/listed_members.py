"""What an archive or a table of pictures holds, as keys and places."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from ddfa_batch.tasks.files import places
from ddfa_batch.tasks.files.picture_tables import picture_rows
from ddfa_batch.tasks.files.places import Place
from ddfa_batch.tasks.files.tar_members import DAMAGED, Member, tar_members
from ddfa_batch.tasks.files.zip_members import zip_members

#: What stands between an archive's name and its member's in a key.
MARK = "#"
#: Archives by their endings.
ARCHIVES = {".tar": places.TAR, ".zip": places.ZIP}
_JSON = ".json"


def pictures_in(
    archive: str, form: str, sample_json: bool, suffixes: frozenset[str], passed_over: Counter[str]
) -> Iterator[tuple[str, Place]]:
    """Name and place of every picture in an archive, in its order; the names of one archive differ.

    Members are chosen as a folder's files are: by their endings, `suffixes`, nothing hidden; the others are counted in
    `passed_over`. With `sample_json` the JSON of the same sample, `a/1.json` of `a/1.jpg`, is found too.
    """
    members: Iterable[Member] = (tar_members if form == places.TAR else zip_members)(archive)
    samples: dict[str, tuple[int, ...]] = {}
    if sample_json:
        members = list(members)
        samples = {_sample(_text(m.name)): m.numbers for m in members if _text(m.name).endswith(_JSON)}
    taken: set[str] = set()
    for member in members:
        name = _text(member.name)
        if member.name == DAMAGED or is_picture_name(name, suffixes, passed_over):
            sample = samples.get(_sample(name), ())
            yield _distinct(name, taken), Place(form, os.fsencode(archive), member.numbers, sample=sample)


def rows_of(table: Path, column: str, key_column: str | None) -> Iterator[tuple[str, Place]]:
    """Name and place of every row of a table of pictures; the names of one table differ."""
    taken: set[str] = set()
    for member in picture_rows(table, key_column):
        name = _text(member.name)
        yield (
            name if key_column is None else _distinct(name, taken),
            Place(places.PARQUET, bytes(table), member.numbers, column),
        )


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def is_picture_name(name: str, suffixes: frozenset[str], passed_over: Counter[str]) -> bool:
    """Whether a name below an archive or a URL is taken: nothing hidden, and with one of these endings."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if any(part.startswith(".") and part != ".." for part in path.parts):
        passed_over["hidden"] += 1
        return False
    if suffix not in suffixes:
        passed_over[suffix or "without ending"] += 1
    return suffix in suffixes


def _sample(name: str) -> str:
    """What the files of one WebDataset sample share: everything up to the first dot of the file's name."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _distinct(name: str, taken: set[str]) -> str:
    """`name`, or with a number where the archive has it more than once; both stay inputs."""
    free, n = name, 1
    while free in taken:
        n += 1
        free = f"{name}{MARK}{n}"
    taken.add(free)
    return free
