"""Small whole files of every kind, and damaged ones made of them: what `fuzz` gives to the programs."""

from __future__ import annotations

import io
import json
import zlib
from typing import Any

import numpy as np
from PIL import Image

#: Numbers that parsers stumble over.
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)
#: Values that nobody expects in JSON.
_ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1e308, float("nan")),
    *("", "../../x", "\0", "9" * 5000, [], {}, [[[]]]),
)


def pictures(rng: np.random.Generator) -> dict[str, bytes]:
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
        "plain.ppm": ("PPM", "RGB", 1, {}),
        "plain.jp2": ("JPEG2000", "RGB", 1, {}),
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


def odd_json(data: bytes, rng: np.random.Generator) -> bytes:
    """A JSON document with one value in place of another, or a name that is gone or new."""
    document = json.loads(data)
    places = list(_places(document))
    if not places:
        return b"null"
    holder, at = places[rng.integers(len(places))]
    how = int(rng.integers(4))
    if how == 0 and isinstance(holder, dict):
        del holder[at]
    elif how == 1 and isinstance(holder, dict):
        holder[f"{at}x"] = holder.pop(at)
    else:
        holder[at] = _ODD[rng.integers(len(_ODD))]
    return json.dumps(document).encode()


def _places(value: Any) -> Any:
    """Every value in a document: what holds it, and where."""
    for at, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, at
        yield from _places(inner)
