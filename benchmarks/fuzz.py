"""Damaged pictures of every format through `process`, whole runs with workers: no run may stop, no row may be missing.

    python benchmarks/fuzz.py --pictures 2000 --seed 1

A round mutates small pictures of every format (bits, numbers, cuts, copies, and PNG chunks with their checksums put
right), processes the folder with two workers, and counts what became of them. It ends with an error where a run stops,
an input has no row, a row says `failed`, or verifying the run finds a fault. The seed makes a round again; what offends
is kept with --keep.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

import ddfa_batch
from ddfa_batch.pipeline.plan import read_run
from ddfa_batch.pipeline.verification import verify_run

#: Seconds that an input may take in a round, and seconds beyond within which it is to be ended.
ITEM_SECONDS, BEYOND_SECONDS = 10.0, 5.0
#: Numbers that parsers stumble over.
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)
#: Pictures of a round.
_ROUND = 500


def seeds(rng: np.random.Generator) -> dict[str, bytes]:
    """Small whole pictures of every format and kind that is read, by what they end in."""
    grey = np.kron(rng.integers(0, 255, (12, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    stills = [Image.fromarray(np.roll(grey, 5 * i, 1)) for i in range(4)]
    kinds = {
        "plain.jpg": ("JPEG", "RGB", 1, {}),
        "progressive.jpg": ("JPEG", "RGB", 1, {"progressive": True}),
        "cmyk.jpg": ("JPEG", "CMYK", 1, {}),
        "plain.png": ("PNG", "RGB", 1, {}),
        "palette.png": ("PNG", "P", 1, {}),
        "moving.png": ("PNG", "RGB", 4, {}),
        "moving-alpha.png": ("PNG", "RGBA", 4, {}),
        "plain.bmp": ("BMP", "RGB", 1, {}),
        "plain.tif": ("TIFF", "RGB", 1, {}),
        "lzw.tif": ("TIFF", "RGB", 1, {"compression": "tiff_lzw"}),
        "jpeg.tif": ("TIFF", "RGB", 1, {"compression": "jpeg"}),
        "pages.tif": ("TIFF", "RGB", 3, {}),
        "plain.webp": ("WEBP", "RGB", 1, {}),
        "lossless.webp": ("WEBP", "RGBA", 1, {"lossless": True}),
        "moving.webp": ("WEBP", "RGB", 4, {}),
        "plain.gif": ("GIF", "P", 1, {}),
        "moving.gif": ("GIF", "P", 4, {}),
        "plain.avif": ("AVIF", "RGB", 1, {}),
        "alpha.avif": ("AVIF", "RGBA", 1, {}),
        "moving.avif": ("AVIF", "RGB", 3, {}),
    }
    return {name: _saved([s.convert(mode) for s in stills[:n]], f, o) for name, (f, mode, n, o) in kinds.items()}


def _saved(frames: list[Image.Image], form: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    more = {"save_all": True, "append_images": frames[1:]} if len(frames) > 1 else {}
    frames[0].save(buffer, form, **more, **options)
    return buffer.getvalue()


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A picture with some damage."""
    raw, how = bytearray(data), int(rng.integers(6))
    at = int(rng.integers(len(raw)))
    if how == 0:
        for _ in range(rng.integers(1, 12)):
            raw[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
    elif how == 1:
        for _ in range(rng.integers(1, 6)):
            i, n = int(rng.integers(len(raw))), int(rng.integers(1, 5))
            raw[i : i + n] = bytes([_EDGES[rng.integers(len(_EDGES))]]) * n
    elif how == 2:
        del raw[max(at, 1) :]
    elif how == 3:
        raw[at:at] = raw[int(rng.integers(len(raw))) :][:200]
    elif how == 4:
        del raw[at : at + int(rng.integers(1, 50))]
    else:
        for _ in range(rng.integers(1, 8)):
            raw[rng.integers(min(len(raw), 600))] = int(rng.integers(256))
    return with_checksums(bytes(raw)) if data.startswith(b"\x89PNG") else bytes(raw)


def with_checksums(data: bytes) -> bytes:
    """A damaged PNG whose chunks have right checksums, so that the damage is not told by them."""
    raw, at = bytearray(data), 8
    while at + 12 <= len(raw):
        length = int.from_bytes(raw[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(raw):
            break
        raw[end : end + 4] = zlib.crc32(raw[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(raw)


def one_round(folder: Path, n: int, rng: np.random.Generator, workers: int) -> Counter[str]:
    """Process n damaged pictures; what became of them. Raises `AssertionError` where the run is not as it must be."""
    whole = seeds(rng)
    names = list(whole)
    (folder / "in").mkdir(parents=True)
    for i in range(n):
        name = names[rng.integers(len(names))]
        (folder / "in" / f"{i:05d}-{name}").write_bytes(mutated(whole[name], rng))
    began = time.monotonic()
    results = ddfa_batch.process(
        folder / "in", folder / "out", workers=workers, scheduler="local", vertices="none", item_timeout=ITEM_SECONDS
    )
    rows = results.images().to_pylist()
    assert len(rows) >= n, f"{n - len(rows)} inputs have no row"
    slow = [row["key"] for row in rows if (row["decode_ms"] or 0) > (ITEM_SECONDS + BEYOND_SECONDS) * 1e3]
    failed = [f"{row['key']}: {row['error_message']}" for row in rows if row["error_kind"] == "failed"]
    assert not slow, f"over their time: {slow}"
    assert not failed, f"unexpected errors: {failed}"
    assert not verify_run(read_run(folder / "out")).faults
    kinds = Counter(row["error_kind"] or "pixels" for row in rows)
    kinds["seconds"] = round(time.monotonic() - began)
    return kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="where the folders of rounds are kept; removed otherwise")
    args = parser.parse_args()
    total: Counter[str] = Counter()
    for n_round in range(-(-args.pictures // _ROUND)):
        n = min(_ROUND, args.pictures - n_round * _ROUND)
        folder = Path(tempfile.mkdtemp(dir=args.keep))
        total += one_round(folder, n, np.random.default_rng([args.seed, n_round]), args.workers)
        if args.keep is None:
            shutil.rmtree(folder)
        total["inputs"] += n
        print(", ".join(f"{n:,} {kind}" for kind, n in sorted(total.items())), flush=True)


if __name__ == "__main__":
    main()
