"""What a user names as inputs, as paths: brace and glob patterns expanded, and the folder that keys are relative to."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files.remote_calls import is_url
from ddfa_batch.tasks.files.remote_files import match_urls

#: The list of inputs that comes on standard input.
STANDARD_INPUT = "-"
#: A brace of a shell: {a,b} or {000..099}.
_BRACE = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{},]*(?:,[^{},]*)+))\}")
#: A name is made of its parts, of which the first with one of these is expanded.
_WILD = re.compile(r"[*?[]|\{.*(,|\.\.).*\}")
#: Names that one pattern may stand for.
_MOST_NAMES = 1_000_000


def expand(name: str) -> list[str]:
    """The paths that a name stands for: itself if it exists, else what its braces and then its wildcards say.

    Braces are as a shell has them, numbers keep their zeros: 'shards/{00000..00099}.tar', '{a,b}/*.zip'. What only
    wildcards match comes in byte order, `**` goes through folders, hidden files are not matched. Raises `InputError`
    for a pattern that matches nothing.
    """
    if name == STANDARD_INPUT or not _WILD.search(name) or (not is_url(name) and Path(name).exists()):
        return [name]
    found: list[str] = []
    for plain in _without_braces(name):
        if not glob.has_magic(plain):
            found.append(plain)
        elif matches := match_urls(plain) if is_url(plain) else glob.glob(plain, recursive=True):  # noqa: PTH207 - names as they are written, not paths
            found += sorted(matches, key=os.fsencode)
        else:
            raise InputError(f"{plain} matches nothing; check the pattern.")
    return found


def _without_braces(name: str) -> Iterator[str]:
    parts, at, count = [], 0, 1
    for brace in _BRACE.finditer(name):
        choices = _choices(brace)
        count *= len(choices)
        parts += [[name[at : brace.start()]], choices]
        at = brace.end()
    if count > _MOST_NAMES:
        raise InputError(f"{name} stands for {count:,} names; at most {_MOST_NAMES:,} are taken.")
    return ("".join(chosen) for chosen in itertools.product(*parts, [name[at:]]))


def _choices(brace: re.Match[str]) -> Sequence[str]:
    first, last, words = brace.groups()
    if words is not None:
        return [str(word) for word in words.split(",")]
    low, high, width = int(first), int(last), max(len(first), len(last))
    padded = width if first.startswith("0") or last.startswith("0") else 0
    if abs(high - low) >= _MOST_NAMES:
        raise InputError(f"{brace.group()} stands for too many names; at most {_MOST_NAMES:,} are taken.")
    return [f"{n:0{padded}d}" for n in (range(low, high + 1) if low <= high else range(low, high - 1, -1))]


def base_folder(name: str) -> str:
    """The folder that holds what is named, absolute; of a pattern the one that its fixed beginning names."""
    if name == STANDARD_INPUT:
        return str(Path.cwd())
    parts = Path(name).parts
    fixed = len(parts) - 1
    if not Path(name).exists():
        fixed = next((i for i, part in enumerate(parts) if _WILD.search(part)), fixed)
    return os.path.abspath(Path(*parts[:fixed]))  # noqa: PTH100 - links are kept, as they are in the names


def common_folder(names: Sequence[str]) -> str:
    """The deepest folder, absolute, in which everything lies that these names stand for; URLs have no say in it."""
    local = [base_folder(name) for name in names if not is_url(name)]
    return os.path.commonpath(local) if local else os.sep
