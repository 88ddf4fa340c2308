"""Damaged files of every kind but pictures through the programs that read them: no surprise, no hang, no swelling.

    python benchmarks/fuzz_files.py --mutants 300 --seed 1              # of each kind
    python benchmarks/fuzz_files.py --kinds videos,folders --keep /tmp/found

Kinds: tars, zips, tables (Parquet files of pictures), videos, lists (text, CSV and Parquet lists, boxes), bundles
(model.json, networks, arrays; checksums put right in half of them), folders (any file of a finished run, then verified,
read, and gone on with). Each mutant has a process of its own, forked from one that has the model loaded. Wrong are: an
exception that is no `DdfaError`, a row that says `failed`, a process that dies, takes longer than its limit, or has
more memory; a run that does not verify, or whose mended folder tells other things of its inputs. Those mutants are kept
with --keep, and the program ends with an error.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
from fuzz import ITEM_SECONDS, unexpected
from fuzz_mutants import mutated, odd_json, pictures
from PIL import Image

import ddfa_batch
from ddfa_batch.pipeline.plan import read_run
from ddfa_batch.pipeline.verification import verify_run
from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.config import DEFAULT_MEMORY_BYTES
from ddfa_batch.schemas.errors import DdfaError
from ddfa_batch.tasks.bundles.model_bundle import builtin_folder

#: Seconds that a mutant may take: some inputs, each of which may take its own.
_SECONDS = 60.0
#: Share of mutants of a bundle's files whose checksum is put right, so that what reads them is reached.
_RESIGNED = 0.5
#: Side of the portrait, frames of a film, and its size.
_SIDE, _FRAMES, _FILM = 192, 12, (96, 64)
_FILMS = (
    ("film.mp4", "libx264", "yuv420p"),
    ("film.mov", "mpeg4", "yuv420p"),
    ("film.mkv", "libx264", "yuv420p"),
    ("film.webm", "libvpx-vp9", "yuv420p"),
    ("film.avi", "mjpeg", "yuvj420p"),
    ("packed.avi", "mpeg4", "yuv420p"),
    ("film.gif", "gif", "rgb8"),
)

Random = np.random.Generator


@dataclass(frozen=True)
class Kind:
    """A kind of files."""

    #: Makes whole files in a folder, once.
    made: Callable[[Path], None]
    #: Puts a damaged one, or a folder with one, into a folder; says what it is called.
    damaged: Callable[[Path, Path, Random], str]
    #: What is done with it, beside the whole files; gives what came of it, in a word.
    used: Callable[[Path, Path, str], str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=300, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--keep", type=Path, help="where mutants are kept that offend")
    args = parser.parse_args()
    portrait_faces()  # what the processes of the mutants have loaded already
    offences = 0
    for place, name in enumerate(KINDS):
        if name in args.kinds.split(","):
            offences += _tried(name, args.mutants, [args.seed, place], args.keep)
    sys.exit(f"{offences} mutants offend." if offences else 0)


def _tried(name: str, n: int, seed: list[int], keep: Path | None) -> int:
    """Try n mutants of a kind, and say what came of them; how many offend."""
    kind, counts, offences = KINDS[name], Counter[str](), 0
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        kind.made(whole)
        for number in range(n):
            folder = Path(scratch) / "mutant"
            folder.mkdir()
            called = kind.damaged(whole, folder, np.random.default_rng([*seed, number]))
            outcome, offends = attempt(functools.partial(kind.used, whole, folder, called))
            counts[outcome.splitlines()[-1] if offends else outcome] += 1
            if offends:
                offences += 1
                print(f"{name} {number} ({called}): {outcome}", flush=True)
                if keep is not None:
                    shutil.copytree(folder, keep / f"{name}-{number}", symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(folder)
    print(f"{name}: {n:,} mutants; " + ", ".join(f"{k:,} {word}" for word, k in counts.most_common()), flush=True)
    return offences


def attempt(work: Callable[[], str]) -> tuple[str, bool]:
    """Do something in a process of its own: what came of it, and whether that must not be."""
    with tempfile.TemporaryFile() as told:
        pid = os.fork()
        if not pid:
            _do(work, told.fileno())
        code, peak = _watched(pid)
        told.seek(0)
        words = told.read().decode("utf-8", "replace")
    if code is None:
        return f"{words}not done after {_SECONDS:g} s", True
    if peak > DEFAULT_MEMORY_BYTES:
        return f"{words}took {peak >> 20:,} MiB", True
    if code < 0:
        return f"{words}died of {signal.Signals(-code).name}", True
    return words, code != 0


def _do(work: Callable[[], str], told: int) -> None:
    """In the child: end it with 0 where `work` does what it may do."""
    os.setsid()
    devnull = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(devnull, descriptor)
    code = 0
    try:
        words = work()
    except DdfaError as fault:
        words = type(fault).__name__
    except BaseException:  # whatever it is, the parent says so
        words, code = traceback.format_exc(), 1
    os.write(told, words.encode("utf-8", "replace"))
    os._exit(code)


def _watched(pid: int) -> tuple[int | None, int]:
    """How a process ended, None where it had to be, and the most memory that it or one below it had, bytes."""
    end, peak, process = time.monotonic() + _SECONDS, 0, psutil.Process(pid)
    while time.monotonic() < end:
        with contextlib.suppress(psutil.Error):
            for each in (process, *process.children(recursive=True)):
                peak = max(peak, each.memory_info().rss)
        ended, status, _ = os.wait4(pid, os.WNOHANG)
        if ended:
            _end_group(pid)
            return os.waitstatus_to_exitcode(status), peak
        time.sleep(0.01)
    ended, status, _ = os.wait4(pid, os.WNOHANG)  # it may be this process that was stopped meanwhile
    _end_group(pid)
    if ended:
        return os.waitstatus_to_exitcode(status), peak
    os.wait4(pid, 0)
    return None, peak


def _end_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


# ------------------------------------------------------------------------------------------------ what is whole


def portrait() -> U8:
    """A photograph with one face (H, W, 3), BGR."""
    image = skimage.data.astronaut()[:320, 60:380, ::-1]
    return cv2.resize(np.ascontiguousarray(image), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def portrait_faces(model: str = "builtin") -> int:
    """The faces that a model finds in it."""
    return len(ddfa_batch.Pipeline(model)(portrait()))


def _small() -> dict[str, bytes]:
    found = pictures(np.random.default_rng(0))
    return {f"in/{name}": found[name] for name in ("plain.jpg", "plain.png", "lossless.webp")}


def _tars(folder: Path) -> None:
    for form, name in ((tarfile.PAX_FORMAT, "pax.tar"), (tarfile.GNU_FORMAT, "gnu.tar")):
        with tarfile.open(folder / name, "w", format=form) as archive:
            for key, data in {**_small(), f"{'long/' * 30}x.jpg": _small()["in/plain.jpg"]}.items():
                member = tarfile.TarInfo(key)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def _zips(folder: Path) -> None:
    for method, name in ((zipfile.ZIP_STORED, "stored.zip"), (zipfile.ZIP_DEFLATED, "deflated.zip")):
        with zipfile.ZipFile(folder / name, "w", method) as archive:
            for key, data in _small().items():
                archive.writestr(key, data)


def _tables(folder: Path) -> None:
    rows = [{"path": key, "bytes": data} for key, data in _small().items()]
    plain = pa.table({"image": [row["bytes"] for row in rows], "name": [row["path"] for row in rows]})
    pq.write_table(plain, folder / "plain.parquet", row_group_size=2)
    pq.write_table(pa.table({"image": rows}), folder / "nested.parquet", compression="zstd")


def _videos(folder: Path) -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 255, (_FRAMES, 8, 12, 3), np.uint8)
    large = [cv2.resize(frame, _FILM, interpolation=cv2.INTER_NEAREST) for frame in frames]
    for name, codec, pixels in _FILMS:
        with av.open(str(folder / name), "w") as file:
            stream = file.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = *_FILM, pixels
            for image in large:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            file.mux(stream.encode(None))
    stills = [Image.fromarray(image) for image in large]
    stills[0].save(folder / "film.webp", save_all=True, append_images=stills[1:], duration=40)


def _lists(folder: Path) -> None:
    names = [f"p{i}.png" for i in range(4)]
    (folder / "list.txt").write_text("\n".join(names))
    (folder / "list.csv").write_text("path,label\n" + "".join(f'"{name}",{i}\n' for i, name in enumerate(names)))
    (folder / "list.tsv").write_text("label\tpath\n" + "".join(f"{i}\t{name}\n" for i, name in enumerate(names)))
    pq.write_table(pa.table({"path": names}), folder / "list.parquet")
    (folder / "boxes.csv").write_text("key,x0,y0,x1,y1,score\n" + "".join(f"{n},10,10,90,90,0.9\n" for n in names))
    boxes = {"key": names, **{side: [10.0, 20.0, 80.0, 90.0] for side in ("x0", "y0", "x1", "y1")}}
    pq.write_table(pa.table(boxes), folder / "boxes.parquet")


def _bundles(folder: Path) -> None:
    shutil.copytree(builtin_folder(), folder / "bundle")


def _folders(folder: Path) -> None:
    """A finished run of stills, an error and a film."""
    (folder / "in").mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / "in" / f"p{i}.png"), np.roll(portrait(), 4 * i, 1))
    (folder / "in" / "bad.png").write_bytes(b"no picture")
    with av.open(str(folder / "in" / "film.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = _SIDE, _SIDE, "yuv420p"
        for i in range(5):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(portrait(), i, 1), format="bgr24")))
        file.mux(stream.encode(None))
    _run(folder / "in", folder / "out")


# --------------------------------------------------------------------------------------------- what is damaged


def _one(whole: Path, folder: Path, rng: Random) -> str:
    """One of the whole files, damaged."""
    files = sorted(whole.iterdir())
    path = files[rng.integers(len(files))]
    (folder / path.name).write_bytes(mutated(path.read_bytes(), rng))
    return path.name


def _in_list(whole: Path, folder: Path, rng: Random) -> str:
    for i in range(4):
        cv2.imwrite(str(folder / f"p{i}.png"), np.roll(portrait(), i, 1))
    return _one(whole, folder, rng)


def _in_folder(whole: Path, folder: Path, rng: Random) -> str:
    """A file of a folder, or of a bundle, damaged, in a copy of all of it; JSON as such in two of three times."""
    (top,) = (path for path in whole.iterdir() if path.name in ("bundle", "out"))
    shutil.copytree(top, folder / top.name, symlinks=True)
    files = sorted(path for path in (folder / top.name).rglob("*") if path.is_file() and path.suffix != ".md")
    kinds = sorted({path.suffix for path in files})
    suffix = kinds[rng.integers(len(kinds))]
    path = [path for path in files if path.suffix == suffix][rng.integers(sum(p.suffix == suffix for p in files))]
    before = path.read_bytes()
    after = odd_json(before, rng) if suffix == ".json" and rng.random() < 2 / 3 else mutated(before, rng)
    path.write_bytes(after)
    if top.name == "bundle" and rng.random() < _RESIGNED:
        manifest = folder / "bundle" / "model.json"
        old, new = (hashlib.sha256(data).hexdigest() for data in (before, after))
        manifest.write_bytes(manifest.read_bytes().replace(old.encode(), new.encode()))
    return path.relative_to(folder).as_posix()


# ------------------------------------------------------------------------------------------ what is done with it


def _run(source: Path, out: Path, boxes: Path | None = None, verify: bool = False) -> ddfa_batch.Results:
    return ddfa_batch.process(
        source, out, boxes=boxes, verify=verify, scheduler="in-process", item_timeout=ITEM_SECONDS, model="builtin"
    )


def _processed(_: Path, folder: Path, name: str) -> str:
    """Process a file as a source, or as boxes."""
    boxes = folder / name if name.startswith("boxes") else None
    source = folder if boxes else folder / name
    rows = _run(source, folder / "out", boxes).images().to_pylist()
    _check(rows)
    assert not (faults := verify_run(read_run(folder / "out")).faults), faults
    return "rows of errors" if any(row["status"] == "error" for row in rows) else "rows"


def _loaded(_: Path, folder: Path, __: str) -> str:
    """Load a bundle, and find faces with it."""
    return f"{portrait_faces(str(folder / 'bundle'))} faces"


def _gone_on_with(whole: Path, folder: Path, _: str) -> str:
    """Verify a run folder, read it, and run the command that made it again."""
    with contextlib.suppress(DdfaError):
        verify_run(read_run(folder / "out"))
    with contextlib.suppress(DdfaError):
        results = ddfa_batch.open(folder / "out")
        for table in (results.images, results.faces, results.tracks, results.videos):
            with contextlib.suppress(DdfaError):
                table()
        with contextlib.suppress(DdfaError):
            results.vertices()
    results = _run(whole / "in", folder / "out", verify=True)
    left = verify_run(read_run(folder / "out"))
    assert not left.shards, left.faults
    if not left.mendable:
        return "told of, to be done anew"
    found, expected = (_told(run) for run in (results, ddfa_batch.open(whole / "out")))
    assert found == expected, "the mended run differs"
    return "mended"


def _told(run: ddfa_batch.Results) -> str:
    """What a run says of its inputs and their faces."""
    rows = run.images(columns=["image_id", "key", "status", "error_kind", "n_faces"]).to_pylist()
    return json.dumps([rows, run.faces(columns=["face_id", "params", "landmarks68"]).to_pylist(), len(run.vertices())])


def _check(rows: list[dict[str, object]]) -> None:
    failed = [f"{row['key']}: {row['error_message']}" for row in rows if unexpected(row)]
    assert not failed, f"unexpected errors: {failed}"


KINDS = {
    "tars": Kind(_tars, _one, _processed),
    "zips": Kind(_zips, _one, _processed),
    "tables": Kind(_tables, _one, _processed),
    "videos": Kind(_videos, _one, _processed),
    "lists": Kind(_lists, _in_list, _processed),
    "bundles": Kind(_bundles, _in_folder, _loaded),
    "folders": Kind(_folders, _in_folder, _gone_on_with),
}

if __name__ == "__main__":
    main()
