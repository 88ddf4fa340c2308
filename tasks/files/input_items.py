"""What inputs and their sources are: what the user named, and what it consists of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ddfa_batch.schemas.picture_formats import DEFAULT_FORMATS
from ddfa_batch.tasks.files.places import Place
from ddfa_batch.tasks.files.video_inputs import Frame, Sampling


@dataclass(frozen=True)
class SourceOptions:
    """How inputs are taken from what the user names."""

    #: A manifest's column of paths; None for one with a usual name.
    path_column: str | None = None
    #: A Parquet file's column of pictures; None for one with a usual name.
    image_column: str | None = None
    #: A Parquet file's column that names its pictures; None for their numbers.
    key_column: str | None = None
    #: Whether the JSON beside an archive's picture is wanted.
    sample_json: bool = False
    #: Formats of pictures that are allowed.
    formats: tuple[str, ...] = DEFAULT_FORMATS
    #: Which frames of videos are taken; None where only pictures are inputs.
    sampling: Sampling | None = None


NO_OPTIONS = SourceOptions()


@dataclass(frozen=True)
class Source:
    """Where the inputs come from."""

    #: What the user named.
    name: str
    #: "folder", "file", "list", "manifest", "tar", "zip", "pictures", "several", "url" or "url-folder".
    kind: str
    #: The folder or the URL that keys are relative to.
    root: Path | str
    #: The folder or file; nothing where the name is a URL.
    path: Path = Path()
    #: What stands before keys: the way from the root to what keys would be relative to alone.
    prefix: str = ""
    #: A manifest's column of paths, or a table's column of pictures.
    column: str | None = None
    #: How inputs are taken.
    options: SourceOptions = NO_OPTIONS
    #: The lines of a list that came on standard input.
    lines: tuple[bytes, ...] | None = None
    #: What several sources consist of.
    parts: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Input:
    """One input."""

    #: Its path relative to the source's root, as text.
    key: str
    #: The path in bytes, where the key cannot be turned back into it.
    path: bytes | None = None
    #: Where it is, if it is no file of its own.
    place: Place | None = None
    #: Which frame it is of the video that lies there; None for a picture.
    frame: Frame | None = None

    @property
    def name(self) -> bytes:
        """What tells it from other inputs."""
        own = self.path if self.path is not None else self.key.encode("utf-8", "surrogatepass")
        if self.frame is not None:
            return own + f"#{self.frame.number}@{self.frame.time_s}".encode()
        return own if self.place is None else own + b"\0" + self.place.identity()


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
