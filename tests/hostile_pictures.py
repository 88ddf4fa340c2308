"""Small files that take a decoder long, or much memory: made by code."""

from __future__ import annotations

import io

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
