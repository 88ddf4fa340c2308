"""Clips on disk in any of their forms: pictures in folders, mp4, WebDataset tars, Parquet. Written whole, read back."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Protocol

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.errors import DdfaError
from ddfa_batch.schemas.tables import CLIP_PICTURES
from ddfa_batch.tasks.files.store import shard_name
from ddfa_batch.tasks.files.tar_writer import TarWriter

#: Folder of a run that holds its clips.
CLIPS = "clips"
#: Frames a second of an mp4.
FPS = 25.0
#: Folder, within that of a shard, of the clips of a still that is not finished.
_PENDING = ".still"
#: MPEG-4 part 2: the one codec every build of OpenCV from PyPI can write. Lossy.
_CODEC = "mp4v"
#: PNG without loss; level 1 is three times as fast as the default for a twentieth more bytes.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]


class ClipWriter(Protocol):
    """Takes the clips of one shard, still by still: what is added is pending until it is kept."""

    def add(self, clip_id: int, pictures: list[U8], labels: list[dict[str, Any]]) -> list[str]:
        """Write one clip of the still at hand; give the `frame_key` of every frame."""
        ...

    def keep(self) -> None:
        """All clips of the still are made: they belong to the shard from now on."""
        ...

    def discard(self) -> None:
        """The still failed: leave nothing of the clips added since the last `keep`."""
        ...


def clips_path(out: Path, shard: int, form: str) -> Path:
    """The file or folder that holds the clips of a shard."""
    ending = {"frames": "", "mp4": "", "webdataset": ".tar", "parquet": ".parquet"}[form]
    return out / CLIPS / f"{shard_name(shard)}{ending}"


@contextmanager
def open_clips(work: Path, name: str, form: str) -> Iterator[ClipWriter]:
    """A writer of clips in one of `schemas.config.CLIP_FORMATS`, to the staged file or folder `work`, to be `name`."""
    if form in ("frames", "mp4"):
        work.mkdir()
        yield _Frames(work, name) if form == "frames" else _Mp4(work, name)
        shutil.rmtree(work / _PENDING, ignore_errors=True)
    elif form == "webdataset":
        with work.open("wb") as file:
            writer = _Tar(file, name)
            yield writer
            writer.close()
    else:
        with (
            pq.ParquetWriter(work, CLIP_PICTURES, compression="none", use_dictionary=False) as writer,
            TemporaryDirectory(dir=work.parent, prefix=f".{name}.") as pending,
        ):
            yield _Parquet(writer, name, Path(pending))


def png(picture: U8) -> bytes:
    """A picture (H, W, 3) BGR as PNG."""
    ok, data = cv2.imencode(".png", picture, _PNG)
    if not ok:
        raise DdfaError(f"A frame of shape {picture.shape} cannot be written as PNG.")
    return data.tobytes()


class _Folder:
    """Clips as entries of a folder: those of the still at hand wait in a folder of their own."""

    def __init__(self, work: Path, name: str) -> None:
        self._work, self._name = work, name

    def _pending(self) -> Path:
        pending = self._work / _PENDING
        pending.mkdir(exist_ok=True)
        return pending

    def keep(self) -> None:
        for entry in self._pending().iterdir():
            entry.replace(self._work / entry.name)

    def discard(self) -> None:
        shutil.rmtree(self._pending())


class _Frames(_Folder):
    """`clips/SHARD/CLIP/FRAME.png`."""

    def add(self, clip_id: int, pictures: list[U8], _: list[dict[str, Any]]) -> list[str]:
        folder = self._pending() / str(clip_id)
        folder.mkdir()
        for i, picture in enumerate(pictures):
            (folder / f"{i:03d}.png").write_bytes(png(picture))
        return [f"{self._name}/{clip_id}/{i:03d}.png" for i in range(len(pictures))]


class _Mp4(_Folder):
    """`clips/SHARD/CLIP.mp4`; an odd side is made even by repeating its last row or column."""

    def add(self, clip_id: int, pictures: list[U8], _: list[dict[str, Any]]) -> list[str]:
        write_mp4(self._pending() / f"{clip_id}.mp4", pictures)
        return [f"{self._name}/{clip_id}.mp4"] * len(pictures)


def write_mp4(path: Path, pictures: list[U8]) -> None:
    """Write pictures of one size as mp4; raises `DdfaError` where OpenCV cannot."""
    height, width = pictures[0].shape[:2]
    even = (width + width % 2, height + height % 2)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*_CODEC), FPS, even)
    try:
        if not writer.isOpened():
            raise DdfaError(f"{path.name} cannot be written: this OpenCV has no {_CODEC} encoder, or the disk refuses.")
        for picture in pictures:
            writer.write(cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE))
    finally:
        writer.release()
    if not path.exists() or not path.stat().st_size:
        raise DdfaError(f"{path.name} was not written; is the disk full?")


class _Tar:
    """`clips/SHARD.tar`, a WebDataset: per frame CLIP_FRAME.png and CLIP_FRAME.json with its labels."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._tar, self._name = TarWriter(file), name

    def add(self, clip_id: int, pictures: list[U8], labels: list[dict[str, Any]]) -> list[str]:
        keys = []
        for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            stem = f"{clip_id}_{i:03d}"
            self._tar.member(f"{stem}.png", png(picture))
            self._tar.member(f"{stem}.json", json.dumps(label).encode())
            keys.append(f"{self._name}/{stem}.png")
        return keys

    def keep(self) -> None:
        self._tar.keep()

    def discard(self) -> None:
        self._tar.discard()

    def close(self) -> None:
        self._tar.close()


class _Parquet:
    """`clips/SHARD.parquet`: clip_id, frame, png. One row group per clip.

    A row group cannot be taken back, so the clips of the still at hand wait in files of their own.
    """

    def __init__(self, writer: pq.ParquetWriter, name: str, pending: Path) -> None:
        self._writer, self._name, self._pending = writer, name, pending

    def add(self, clip_id: int, pictures: list[U8], _: list[dict[str, Any]]) -> list[str]:
        n = len(pictures)
        columns = {"clip_id": [clip_id] * n, "frame": list(range(n)), "png": [png(p) for p in pictures]}
        feather.write_feather(pa.table(columns, schema=CLIP_PICTURES), self._waiting(clip_id), "uncompressed")
        return [f"{self._name}/{clip_id}/{i:03d}" for i in range(n)]

    def keep(self) -> None:
        for clip_id in sorted(int(file.stem) for file in self._pending.iterdir()):
            self._writer.write_table(feather.read_table(self._waiting(clip_id)))
        self.discard()

    def discard(self) -> None:
        for file in self._pending.iterdir():
            file.unlink()

    def _waiting(self, clip_id: int) -> Path:
        return self._pending / f"{clip_id}.arrow"


def read_clip(out: Path, shard: int, form: str, clip_id: int) -> list[U8]:
    """The pictures of one clip, whatever its form; raises `DdfaError` if it is not there."""
    path = clips_path(out, shard, form)
    if form == "mp4":
        pictures = _read_mp4(path / f"{clip_id}.mp4")
    else:
        pictures = [_decoded(data) for data in _encoded(path, form, clip_id)]
    if not pictures:
        raise DdfaError(f"{path} holds no clip {clip_id}.")
    return pictures


def frame_keys(out: Path, shard: int, form: str) -> set[str]:
    """The `frame_key` of every picture the files of a shard hold; of an mp4, which is all frames of a clip, its own."""
    path = clips_path(out, shard, form)
    if form == "webdataset":
        with tarfile.open(path) as archive:
            names = [name for name in archive.getnames() if name.endswith(".png")]
    elif form == "parquet":
        rows = pq.read_table(path, columns=["clip_id", "frame"]).to_pylist()
        names = [f"{row['clip_id']}/{row['frame']:03d}" for row in rows]
    else:
        pattern = "*/*.png" if form == "frames" else "*.mp4"
        names = [file.relative_to(path).as_posix() for file in path.glob(pattern)]
    return {f"{path.name}/{name}" for name in names}


def mismatches(out: Path, shard: int, form: str, labelled: set[str]) -> list[str]:
    """Sentences that tell pictures of a shard without labels, and labels (their `frame_key`s) without a picture."""
    path = clips_path(out, shard, form)
    try:
        pictured = frame_keys(out, shard, form)
    except (OSError, tarfile.TarError, pa.ArrowException) as fault:
        return [f"{path.relative_to(out)} cannot be read ({fault})"]
    found = {"without labels": pictured - labelled, "missing": labelled - pictured}
    return [
        f"{CLIPS}/{min(keys)} is {what}" + (f", as are {len(keys) - 1:,} more pictures" if len(keys) > 1 else "")
        for what, keys in found.items()
        if keys
    ]


def _encoded(path: Path, form: str, clip_id: int) -> list[bytes]:
    if form == "frames":
        return [file.read_bytes() for file in sorted((path / str(clip_id)).glob("*.png"))]
    if form == "webdataset":
        with tarfile.open(path) as archive:
            wanted = [m for m in archive if m.name.startswith(f"{clip_id}_") and m.name.endswith(".png")]
            return [file.read() for member in wanted if (file := archive.extractfile(member)) is not None]
    table = pq.read_table(path, filters=[("clip_id", "=", clip_id)])
    return table.sort_by("frame")["png"].to_pylist()


def _decoded(data: bytes) -> U8:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


def _read_mp4(path: Path) -> list[U8]:
    capture = cv2.VideoCapture(str(path))
    pictures: list[U8] = []
    while True:
        more, picture = capture.read()
        if not more:
            capture.release()
            return pictures
        pictures.append(np.asarray(picture, np.uint8))
