"""Small files that take a decoder long, or much memory: made by code."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def endless_jpeg(scans: int = 20_000, side: int = 1024) -> bytes:
    """A progressive JPEG whose last scan is repeated: some hundred kilobytes that decode for minutes."""
    whole = saved(Image.linear_gradient("L").resize((side, side)), "JPEG", progressive=True, quality=5)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * scans + b"\xff\xd9"


def lying_avif(side: int, told: int = 100) -> bytes:
    """An AVIF of side × side pixels in some hundred bytes, whose header tells of `told` × `told`."""
    data = bytearray(saved(Image.new("RGB", (side, side), (120, 30, 200)), "AVIF", speed=10, quality=30))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = told.to_bytes(4, "big") * 2
    return bytes(data)


#: Sides of a picture of 10⁹ pixels.
WIDE, HIGH = 40_000, 25_000
_SMALL = Image.linear_gradient("L").resize((64, 48)).convert("RGB")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _zeros(n: int) -> bytes:
    """So many zeros, deflated."""
    squeeze = zlib.compressobj(1)
    return b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(n >> 20)) + squeeze.flush()


def _png(width: int, height: int, pixels: bytes, *more: bytes, depth: int = 1) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _with_shorts(data: bytes, before: bytes, skip: int, order: str, *numbers: int) -> bytes:
    """A file with 16-bit numbers put `skip` bytes after a marker."""
    at = data.index(before) + len(before) + skip
    new = struct.pack(f"{order}{len(numbers)}H", *numbers)
    return data[:at] + new + data[at + len(new) :]


def _tiff(width: int, height: int, n_bytes: int, compression: int, tile: int = 0) -> bytes:
    """A grey TIFF whose header announces so much, with few bytes behind it."""
    at = 8 + 2 + 10 * 12 + 4
    place, size = (324, 325) if tile else (273, 279)
    sides = ((322, 4, tile), (323, 4, tile)) if tile else ((277, 3, 1), (278, 4, height))
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, compression), (262, 3, 1), *sides]
    tags += [(place, 4, at), (size, 4, n_bytes), (339, 3, 1)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(tags))
    return b"II\x2a\x00" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + zlib.compress(bytes(1 << 16))


def _bmp(width: int, height: int, compression: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 2000, 0, 0, 54 + 1024) + header + bytes(1024) + b"\xff\x01" * 40 + b"\x00\x01"


def bombs() -> dict[str, bytes]:
    """Small files of every format that announce, or become, as much as there is memory, by their names."""
    gif, webp = saved(_SMALL, "GIF"), saved(_SMALL, "WEBP", lossless=True)
    still = saved(_SMALL, "AVIF")
    at = still.index(b"ispe") + 8
    text = _chunk(b"zTXt", b"Comment\0\0" + _zeros(200 << 20))
    profile = _chunk(b"iCCP", b"icc\0\0" + _zeros(200 << 20))
    jp2 = cv2.imencode(".jp2", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    ihdr, siz = jp2.index(b"ihdr") + 4, jp2.index(b"\xff\x51") + 6
    told = jp2[:ihdr] + struct.pack(">II", HIGH, WIDE) + jp2[ihdr + 8 :]
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"".join((n - 1).to_bytes(3, "little") for n in (WIDE, HIGH))
    extended = b"WEBP" + canvas + webp[12:]
    return {
        "whole.png": _png(WIDE, HIGH, _zeros(WIDE * HIGH // 8)),
        "text.png": _png(8, 8, zlib.compress(bytes(16)), text),
        "profile.png": _png(8, 8, zlib.compress(bytes(16)), profile),
        "surplus.png": _png(8, 8, _zeros(200 << 20)),
        "length.png": _png(64, 48, bytes(1000))[:33] + b"\x40" + _png(64, 48, bytes(1000))[34:],
        "header.jpg": _with_shorts(saved(_SMALL, "JPEG"), b"\xff\xc0", 3, ">", HIGH, WIDE),
        "screen.gif": gif[:6] + struct.pack("<HH", WIDE, HIGH) + gif[10:],
        "frame.gif": _with_shorts(gif, b",\0\0\0\0", 0, "<", WIDE, HIGH),
        "canvas.webp": b"RIFF" + struct.pack("<I", len(extended)) + extended,
        "pixels.webp": webp[:21] + ((16383) | (16383 << 14)).to_bytes(4, "little") + webp[25:],
        "header.tif": _tiff(WIDE, HIGH, 1 << 16, 8),
        "strip.tif": _tiff(900, 1000, 0xFFFFFFF0, 8),
        "tile.tif": _tiff(900, 1000, 1 << 16, 8, tile=1 << 16),
        "header.bmp": _bmp(WIDE, HIGH, 0),
        "runs.bmp": _bmp(WIDE, HIGH, 1),
        "negative.bmp": _bmp(WIDE, -HIGH, 0),
        "header.avif": still[:at] + struct.pack(">II", WIDE, HIGH) + still[at + 8 :],
        "lying.avif": lying_avif(5000),
        "header.ppm": b"P6 %d %d 255\n" % (WIDE, HIGH) + bytes(100),
        "text.pgm": b"P2 %d %d 255\n" % (900, 1000) + b"9" * 1000,
        "header.jp2": told,
        "heic.avif": b"\0\0\0\x18ftypheic" + still[12:],
        "codestream.jp2": jp2[:siz] + struct.pack(">II", WIDE, HIGH) + jp2[siz + 8 :],
    }
