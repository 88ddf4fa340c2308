"""An environment of a wheel, what it says it needs, and nothing else: linked from this one, without network."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def make(folder: Path, wheel: Path) -> Path:
    """Make the environment in `folder`, and give its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin/python"
    (packages,) = folder.glob("lib/python*/site-packages")
    for needed in closure(requirements(wheel)):
        link(needed, packages)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--no-index", str(wheel)], check=True, capture_output=True)
    return python


def requirements(wheel: Path) -> list[Requirement]:
    """What a wheel says it needs, whatever extras it has besides."""
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Metadata.from_email(archive.read(name)).requires_dist or []


def closure(wanted: list[Requirement]) -> Iterator[Distribution]:
    """The distributions of this environment that requirements bring with them, each once."""
    seen: set[tuple[str, str]] = set()
    todo = [(asked, "") for asked in wanted]
    while todo:
        asked, extra = todo.pop()
        if asked.marker is not None and not asked.marker.evaluate({"extra": extra}):
            continue
        found = distribution(asked.name)
        for own in ("", *asked.extras):
            if (key := (canonicalize_name(asked.name), own)) not in seen:
                seen.add(key)
                todo += [(Requirement(line), own) for line in found.requires or []]
        yield found


def link(found: Distribution, packages: Path) -> None:
    """Give an environment the modules of a distribution: file by file, for several may share a folder."""
    here = Path(sysconfig.get_path("purelib"))
    for file in found.files or []:
        source, target = Path(str(found.locate_file(file))), packages / file
        if ".." in file.parts or not source.is_relative_to(here) or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
