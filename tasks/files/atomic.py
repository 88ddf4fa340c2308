"""Files and folders that are seen whole or not at all: written under a staged name, flushed to disk, renamed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def staged(path: Path, make: bool = True) -> Path:
    """A name beside `path` to write under until `publish` gives the file or folder its own; make: the folder, too."""
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def publish(work: Path, path: Path) -> None:
    """Flush the staged file or folder `work` to disk and rename it to `path`, in place of what is there."""
    if work.is_dir():
        os.sync()  # once for thousands of small files, whose own fsyncs would take longer than making them
        swap_folder(work, path)
        return
    flush(work)
    work.replace(path)


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def swap_folder(work: Path, path: Path) -> None:
    """Rename the folder `work` to `path`; a folder that is there is moved aside first and removed last."""
    if not path.exists():
        work.rename(path)
        return
    old = staged(path)
    path.rename(old)
    work.rename(path)
    shutil.rmtree(old)


def discard(work: Path) -> None:
    """Remove a staged file or folder, if it is still there."""
    if work.is_dir() and not work.is_symlink():
        shutil.rmtree(work, ignore_errors=True)
    else:
        work.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there; of a link the link."""
    if path.is_dir() and not path.is_symlink():
        while path.exists():
            with contextlib.suppress(FileNotFoundError):  # somebody else removes it, too
                shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a staged path for the file `path`; on success publish it, else remove it."""
    work = staged(path)
    try:
        yield work
        publish(work, path)
    finally:
        discard(work)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a staged folder for the folder `path`; on success publish it, else remove it."""
    work = staged(path)
    work.mkdir()
    try:
        yield work
        publish(work, path)
    finally:
        discard(work)


def as_json(content: dict[str, Any]) -> bytes:
    """The content of a JSON file that people may read."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with whole_file(path) as work:
        work.write_bytes(as_json(content))
