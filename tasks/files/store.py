"""The run folder on disk: what is called what, its tables and its receipts."""

from __future__ import annotations

import re
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from ddfa_batch.schemas.decoding import Document, decode_json
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.files.atomic import as_json, whole_file

if TYPE_CHECKING:
    from ddfa_batch.tasks.files.run_folders import RunFolder

RUN, PLAN, SHARDS = "run.json", "plan.parquet", "shards"
IMAGES, FACES, VERTICES, FRAMES = "images", "faces", "vertices", "frames"
#: Of videos: one row per track, one per video, and what the segments of a shard know of each other.
TRACKS, VIDEOS, SEAMS = "tracks", "videos", "seams"
#: What `render` draws.
PICTURES = "pictures"
#: What `export` writes: meshes, and one row for each.
MESHES, EXPORTS = "meshes", "exports"
#: What `to-webdataset` writes.
TARS = "tars"
TOPOLOGY, ALL_VERTICES = "topology.h5", "vertices.h5"
#: What `fit` adds: one row per labelled face, fitted or not.
FITS = "fits.parquet"
#: There while a run is replaced by another (`--overwrite`), and while a command works in the folder.
REPLACING, LOCK = ".replacing", ".lock"
#: The checksums of what belongs to a whole run; written last.
SEAL = "seal.json"
#: The page that tells of a run.
REPORT = "report.html"
#: What a run makes, and all that --overwrite removes: these files, and in these folders what a shard is named.
OWN_FILES = (RUN, SEAL, PLAN, TOPOLOGY, ALL_VERTICES, FITS, "preview.png", "preview.gif", REPORT)
OWN_FOLDERS = (SHARDS, IMAGES, FACES, VERTICES, FRAMES, "clips", TRACKS, VIDEOS, SEAMS, PICTURES, MESHES, EXPORTS, TARS)
OWN_ENTRY = re.compile(r"\d{6,}(\.(json|parquet|h5|tar|npz))?|\.{1,2}\d{6,}\..*")
#: What planning writes before run.json.
PLANNED = (PLAN, TOPOLOGY, LOCK)
#: Bytes of a file that are read at once to check it.
_CHUNK = 1 << 20
_REMEDY = "remove it and run the same command again, which does its shard anew"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def checksum(path: Path) -> str:
    """XXH3 (128 bits, hex) of a file, or of the names and contents of all files below a folder."""
    hasher = xxhash.xxh3_128()
    below = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in below:
        if file is not path:
            hasher.update(named_in_folder(file.relative_to(path).as_posix(), file.stat().st_size))
        with file.open("rb") as content:
            while chunk := content.read(_CHUNK):
                hasher.update(chunk)
    return hasher.hexdigest()


def named_in_folder(name: str, size: int) -> bytes:
    """What stands before the content of a folder's file in the folder's checksum."""
    return f"{name}\0{size}\0".encode()


def shard_name(shard: int) -> str:
    """The file stem of a shard."""
    return f"{shard:06d}"


def put_table(path: Path, table: pa.Table, group: int | None = None, sorted_by: str | None = None) -> None:
    """Write a Parquet table: zstd, dictionaries for text only, byte-stream-split for floats.

    group: rows of a row group, whose least and greatest values let readers pass over it; None for one of all rows.
    sorted_by: the column by which the rows are sorted, which the file tells.
    """
    floats = [_leaf(f.name, f.type) for f in table.schema if pa.types.is_floating(_item(f.type))]
    text = [f.name for f in table.schema if pa.types.is_string(f.type)]
    order = sorted_by and pq.SortingColumn.from_ordering(table.schema, [(sorted_by, "ascending")])
    pq.write_table(
        table,
        path,
        row_group_size=group,
        compression="zstd",
        compression_level=3,
        use_dictionary=text,
        use_byte_stream_split=floats,
        sorting_columns=order or None,
    )


def put_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays by name (NumPy's .npz); equal arrays give equal bytes."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # whose stub takes names for its options


def read_arrays(source: Path | BinaryIO, where: str) -> dict[str, NDArray[Any]]:
    """The arrays that `put_arrays` wrote; raises `RunFolderError` where they cannot be read, which `where` names."""
    try:
        with np.load(source, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as fault:
        raise RunFolderError(f"{where} cannot be read ({fault}); see 'ddfa-batch status'.") from None


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet table, whole or not at all."""
    with whole_file(path) as work:
        put_table(work, table)


def _item(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if isinstance(kind, pa.FixedSizeListType | pa.ListType) else kind


def _leaf(name: str, kind: pa.DataType) -> str:
    return name if _item(kind) is kind else f"{name}.list.element"


def receipt_name(shard: int) -> str:
    """What a shard's receipt is called."""
    return f"{SHARDS}/{shard_name(shard)}.json"


def table_name(kind: str, shard: int) -> str:
    """What a shard's table of a kind is called."""
    return f"{kind}/{shard_name(shard)}.parquet"


def write_receipt(folder: RunFolder, receipt: Receipt) -> None:
    """Write a shard's receipt: from now on the shard counts as done."""
    folder.put(receipt_name(receipt.shard), as_json(asdict(receipt)))


def read_receipt(folder: RunFolder, shard: int) -> Receipt | None:
    """The receipt of a shard, or None while there is none; raises `RunFolderError` for one that is damaged."""
    (answer,) = folder.read_many([receipt_name(shard)])
    return decode_receipt(folder, shard, answer)


def decode_receipt(folder: RunFolder, shard: int, answer: bytes | OSError) -> Receipt | None:
    """The receipt of a shard of what reading it gave; as `read_receipt`."""
    where = folder.where(receipt_name(shard))
    if isinstance(answer, FileNotFoundError):
        return None
    if isinstance(answer, OSError):
        raise RunFolderError(f"{where} cannot be read ({answer.strerror or answer}).")
    receipt = decode_json(answer, Receipt, Document(where, RunFolderError, _REMEDY))
    if receipt.shard != shard:
        raise RunFolderError(f"{where} is the receipt of shard {receipt.shard}; {_REMEDY}.")
    return receipt
