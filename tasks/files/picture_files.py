"""Pictures to write: what they are called, and their bytes."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import cv2

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.files.format_signatures import ALL_SUFFIXES
from ddfa_batch.tasks.files.video_containers import VIDEO_SUFFIXES

#: Endings of the formats, and what OpenCV is told: PNG without loss, quickly; JPEG and WebP as good as one sees.
_ENCODERS: dict[str, tuple[str, list[int]]] = {
    "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 93]),
    "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 92]),
}
#: Digits of a number at the beginning of a name, so that names sort as inputs do, and most characters of the rest.
_DIGITS, _LONGEST = 8, 60
#: How keys write a byte that is no UTF-8, and what is not harmless in a name.
_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")
_UNSAFE = re.compile(r"[^\w.-]+")


def ending(form: str) -> str:
    """How files of a format end."""
    return _ENCODERS[form][0]


def file_name(number: int, key: str, suffix: str) -> str:
    """What the file made of an input is called: its number, then what of its key is harmless, then `suffix`.

    Keys come from archives and lists of strangers: of `../../x.jpg`, `a.tar#b/x.jpg` and `/x.jpg` `x` is left.
    """
    last = PurePosixPath(_ESCAPED.sub("_", key).replace("\\", "/")).name
    if PurePosixPath(last).suffix.lower() in ALL_SUFFIXES | VIDEO_SUFFIXES:
        last = PurePosixPath(last).stem
    harmless = _UNSAFE.sub("_", last).strip("._-")[:_LONGEST]
    while len(harmless.encode()) > 2 * _LONGEST:  # names have at most 255 bytes
        harmless = harmless[:-1]
    return f"{number:0{_DIGITS}d}" + (f"-{harmless}" if harmless else "") + suffix


def encoded(picture: U8, form: str) -> bytes:
    """A picture (H, W, 3) BGR as a file's bytes; raises `ImageError` where the format cannot hold it."""
    suffix, how = _ENCODERS[form]
    try:
        ok, data = cv2.imencode(suffix, picture, how)
    except cv2.error:
        ok = False
    if not ok:
        height, width = picture.shape[:2]
        raise ImageError("too_large", f"A picture of {width} × {height} pixels cannot be written as {form}.")
    return data.tobytes()
