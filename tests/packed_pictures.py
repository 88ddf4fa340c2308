"""The same files in a tar, a ZIP and a Parquet table, as other programs write them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def files_in(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their names in byte order."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}


def tar(path: Path, files: Mapping[str, bytes] | list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    """Write a tar; a list may name a file twice."""
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def zipped(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a ZIP."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def table(path: Path, files: Mapping[str, bytes], *, struct: bool = False, row_group: int = 5) -> Path:
    """Write a Parquet table with a column `image`: bytes, or Hugging Face's structs; and `key`, the name."""
    names, data = list(files), list(files.values())
    pictures = [{"bytes": d, "path": n} for n, d in files.items()] if struct else data
    pq.write_table(pa.table({"key": names, "image": pictures}), path, row_group_size=row_group)
    return path
