"""What there is to process: folders, pictures, text lists, manifests, archives, tables of pictures, or several."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ddfa_batch.schemas.errors import ImageError, InputError
from ddfa_batch.schemas.picture_formats import DEFAULT_FORMATS
from ddfa_batch.tasks.files import table_columns
from ddfa_batch.tasks.files.format_signatures import ALL_SUFFIXES, suffixes_of
from ddfa_batch.tasks.files.images import is_picture
from ddfa_batch.tasks.files.input_items import NO_OPTIONS, Ignored, Input, Source, SourceOptions
from ddfa_batch.tasks.files.listed_members import ARCHIVES, MARK, is_picture_name, pictures_in, rows_of
from ddfa_batch.tasks.files.picture_tables import picture_column
from ddfa_batch.tasks.files.places import URL, Place
from ddfa_batch.tasks.files.remote_calls import is_url, scheme_of
from ddfa_batch.tasks.files.remote_files import as_url, list_url, parent_of, read_url
from ddfa_batch.tasks.files.source_names import STANDARD_INPUT, base_folder, common_folder, expand
from ddfa_batch.tasks.files.url_secrets import refuse_password
from ddfa_batch.tasks.files.video_containers import VIDEO_SUFFIXES
from ddfa_batch.tasks.files.video_inputs import Frame, frame_key, taken_frames

__all__ = ["Given", "Ignored", "Input", "Source", "SourceOptions", "list_inputs", "resolve_source", "resolve_sources"]

_LISTS = frozenset({".txt", ".lst"})
_PARQUET = frozenset({".parquet", ".pq"})
#: What a compressed tar is called beside `.tar.gz`; it is known, and refused by name.
_COMPRESSED_TARS = frozenset({".tgz", ".tbz2", ".txz"})
#: Columns taken for the path, in this order, when none is named.
_PATH_COLUMNS = ("path", "image", "file", "filename", "file_name", "image_path", "key")
#: Columns taken for the key of what is given for inputs.
KEY_COLUMNS = ("key", *_PATH_COLUMNS[:-1])
#: Schemes whose URLs may end in a query, and name a file whatever they end in.
_WEB = frozenset({"http", "https"})
#: What can be named, for sentences.
_TAKEN = (
    "a folder, a picture, a video, a text list (.txt, .lst), a manifest (.csv, .tsv, .parquet), an archive (.tar, "
    ".zip), a Parquet file with pictures in it, or the URL of pictures"
)
#: How many of the keys that match no input are named.
_NAMED = 3


def resolve_source(path: str | Path, column: str | None = None, formats: tuple[str, ...] = DEFAULT_FORMATS) -> Source:
    """Find out what `path` is; raises `InputError` if it is nothing that lists images."""
    return resolve_sources([str(path)], SourceOptions(path_column=column, formats=formats))


def resolve_sources(names: Sequence[str], options: SourceOptions = NO_OPTIONS) -> Source:
    """Find out what the user named: one thing, a pattern, or several of either.

    The keys of one thing are relative to it. Those of a pattern are relative to the folder that its beginning names,
    those of several things to the deepest folder that they all lie in. Raises `InputError`.
    """
    names = [name if Path(name).exists() else as_url(name) for name in names]
    expanded = [found for name in names for found in expand(name)]
    if expanded == names and len(names) == 1:
        return _one(names[0], options)
    root = Path(common_folder(names))
    parts = tuple(_below(root, _one(name, options)) for name in expanded)
    return Source(" ".join(names), "several", root, options=options, parts=parts)


def _below(root: Path, part: Source) -> Source:
    """A source as one of several, whose keys are relative to `root`; those behind URLs are called by their URLs."""
    if is_url(part.name):
        return replace(part, prefix=part.prefix if part.kind == "list" else _url_base(part))
    folder = Path(base_folder(part.name))
    prefix = os.path.relpath(folder / Path(part.name).name if part.kind == "folder" else folder, root)
    return replace(part, root=root, prefix="" if prefix == "." else prefix + "/")


def _url_base(part: Source) -> str:
    return str(part.root).rstrip("/") + "/"


def _one(name: str, options: SourceOptions) -> Source:
    if name == STANDARD_INPUT:
        lines = tuple(sys.stdin.buffer.read().splitlines())
        return Source("standard input", "list", Path.cwd(), Path(name), options=options, lines=lines)
    if is_url(name):
        return _behind_url(name, options)
    path = Path(name)
    if path.is_dir():
        return Source(name, "folder", path.resolve(), path, options=options)
    if not path.exists():
        raise InputError(f"{path} does not exist; give {_TAKEN}.")
    kind, column = _kind_of_file(path, options)
    return Source(name, kind, path.resolve().parent, path, column=column, options=options)


def _behind_url(name: str, options: SourceOptions) -> Source:
    """What a URL names: by its ending; else a file of the web, or all below it of a store."""
    plain = refuse_password(name) if scheme_of(name) not in _WEB else refuse_password(name).partition("?")[0]
    path = PurePosixPath(plain)
    suffix, folder = path.suffix.lower(), parent_of(plain)
    if suffix in table_columns.TABLES:
        raise InputError(f"{name} is a table, and tables are read from local files only; copy it here.")
    if suffix in _LISTS:
        try:
            lines = tuple(read_url(name).splitlines())
        except ImageError as fault:
            raise InputError(f"{name} cannot be read: {fault.message}") from None
        return Source(name, "list", folder, prefix=folder, options=options, lines=lines)
    if suffix in ARCHIVES or ".tar" in path.suffixes or suffix in _COMPRESSED_TARS:
        return Source(name, ARCHIVES.get(suffix, "tar"), folder, options=options)
    if suffix in ALL_SUFFIXES or (scheme_of(name) in _WEB and not name.endswith("/")):
        return Source(name, "url", folder, options=options)
    return Source(name, "url-folder", name, options=options)


def _kind_of_file(path: Path, options: SourceOptions) -> tuple[str, str | None]:
    """The kind of source a file is, and its column."""
    suffix = path.suffix.lower()
    if suffix in _PARQUET and (pictures := picture_column(path, options.image_column)) is not None:
        return "pictures", pictures
    if suffix in table_columns.TABLES:
        return "manifest", _path_column(path, options.path_column)
    if suffix in _LISTS:
        return "list", None
    if suffix in ARCHIVES or ".tar" in path.suffixes or suffix in _COMPRESSED_TARS:
        return ARCHIVES.get(suffix, "tar"), None
    if suffix in VIDEO_SUFFIXES and options.sampling is None:
        raise InputError(f"{path} is a video; 'ddfa-batch process' reads those.")
    if suffix not in ALL_SUFFIXES | VIDEO_SUFFIXES and not is_picture(path):
        raise InputError(f"{path} is neither a picture nor a video; give {_TAKEN}.")
    return "file", None


def _path_column(path: Path, wanted: str | None) -> str:
    have = table_columns.column_names(path)
    names = [wanted] if wanted else _PATH_COLUMNS
    return table_columns.choose_column(path, have, names, "rename one, or name it with --path-column NAME")


def list_inputs(source: Source, leave_out: str | os.PathLike[str], ignored: Ignored) -> Iterator[Input]:
    """Yield every input in a fixed order, one at a time.

    `leave_out` (the output folder) is skipped inside a folder; `ignored` is filled with what else was. Where frames are
    taken a video is as many inputs as frames are taken of it. Raises `InputError` where two of several sources name the
    same input.
    """
    if source.kind == "several":
        yield from _several(source.parts, leave_out, ignored)
        return
    sampling = source.options.sampling
    for item in _whole_inputs(source, leave_out, ignored):
        frames = None
        if sampling is not None and item.place is None:
            frames = taken_frames(resolve_path(Path(source.root), item), sampling)
        if frames is None:
            yield item
        else:
            yield from _frames_of(item, frames)


def _frames_of(video: Input, frames: list[Frame]) -> Iterator[Input]:
    path = os.fsencode(video.key) if video.path is None else video.path
    for frame in frames:
        key = video.key if frame.number is None else frame_key(video.key, frame.number)
        yield Input(key, path, frame=frame)


def _whole_inputs(source: Source, leave_out: str | os.PathLike[str], ignored: Ignored) -> Iterator[Input]:
    """The pictures and videos of one source."""
    if source.kind == "folder":
        pictures = suffixes_of(source.options.formats)
        suffixes = pictures if source.options.sampling is None else pictures | VIDEO_SUFFIXES
        yield from _walk(source.path, source.prefix, _Walk(Path(leave_out).resolve(), suffixes, ignored))
    elif source.kind == "file":
        yield _input(os.fsencode(source.prefix + source.path.name))
    elif source.kind == "url":
        yield _remote(source.name)
    elif source.kind == "url-folder":
        yield from _below_url(source, os.fspath(leave_out), ignored)
    elif source.kind == "list":
        yield from (_listed(source, line) for line in _lines(source) if line)
    elif source.kind == "manifest":
        column = str(source.column)
        for batch in table_columns.batches(source.path, [column], text=[column]):
            names = ("" if value is None else str(value) for value in batch.column(0).to_pylist())
            yield from (_listed(source, os.fsencode(name)) for name in names)
    else:
        yield from _members(source, ignored)


def _several(parts: Iterable[Source], leave_out: str | os.PathLike[str], ignored: Ignored) -> Iterator[Input]:
    """The inputs of all parts; what one part names twice, as a list may, is left to it."""
    taken: dict[int, Source] = {}
    for part in parts:
        for item in list_inputs(part, leave_out, ignored):
            if (other := taken.setdefault(hash(item.key), part)) is not part:
                raise InputError(f"'{item.key}' is named twice, by {other.name} and by {part.name}; name it once.")
            yield item


def _lines(source: Source) -> Iterator[bytes]:
    if source.lines is not None:
        yield from source.lines
        return
    with source.path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\r\n")


def _listed(source: Source, name: bytes) -> Input:
    """The input that a list or a manifest names: a URL, an absolute path, or a name relative to the list."""
    text = name.decode("utf-8", "replace")
    if is_url(text):
        return _remote(text)
    if is_url(source.prefix):  # a list from elsewhere has no say in what is read of this machine
        return _remote(source.prefix + text.lstrip("/"))
    return _input(os.fsencode(source.prefix) + name if name and not name.startswith(b"/") else name)


def _remote(url: str) -> Input:
    return Input(refuse_password(url), place=Place(URL, url.encode("utf-8", "surrogatepass")))


def _below_url(source: Source, leave_out: str, ignored: Ignored) -> Iterator[Input]:
    """The pictures that a store lists below a URL, with their sizes."""
    suffixes = suffixes_of(source.options.formats)
    for file in list_url(source.name):
        if file.url.startswith(f"{leave_out}/"):
            continue
        if not file.name:
            yield _remote(file.url)
        elif is_picture_name(file.name, suffixes, ignored.by_suffix):
            sizes = () if file.size is None else (file.size,)
            yield Input(source.prefix + file.name, place=Place(URL, file.url.encode("utf-8", "surrogatepass"), sizes))


def _members(source: Source, ignored: Ignored) -> Iterator[Input]:
    """The pictures in an archive or a table."""
    remote, options = is_url(source.name), source.options
    where = source.name if remote else os.path.abspath(source.path)  # noqa: PTH100 - links stay as they are named
    archive = _input(os.fsencode(source.prefix + PurePosixPath(where).name)).key
    if source.kind == "pictures":
        found = rows_of(Path(where), str(source.column), options.key_column)
    else:
        suffixes = suffixes_of(options.formats)
        found = pictures_in(where, source.kind, options.sample_json, suffixes, ignored.by_suffix)
    for name, place in found:
        yield Input(f"{archive}{MARK}{name}", place=place)


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


@dataclass(frozen=True)
class _Walk:
    """What holds throughout a walk through a folder."""

    #: The output folder, which is left out.
    leave_out: Path
    #: Endings of what is taken.
    suffixes: frozenset[str]
    #: What is not.
    ignored: Ignored


def _walk(folder: Path, prefix: str, walk: _Walk, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Input]:
    """Depth first, names in byte order, links followed unless they lead back up."""
    above |= {_identity(folder)}
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as fault:
        raise InputError(f"{folder} cannot be listed ({fault.strerror}).") from None
    for entry in entries:
        name = prefix + entry.name
        if entry.name.startswith("."):
            walk.ignored.by_suffix["hidden"] += 1
        elif entry.is_dir():
            below = Path(entry.path)
            if _identity(below) in above or below.resolve() == walk.leave_out:
                continue
            yield from _walk(below, name + "/", walk, above)
        elif (suffix := Path(entry.name).suffix.lower()) in walk.suffixes:
            yield _input(os.fsencode(name))
        else:
            walk.ignored.by_suffix[suffix or "without ending"] += 1


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
