"""Image files to pixels: the one place where untrusted pictures are read."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tempfile
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.config import MAX_FILE_BYTES
from ddfa_batch.schemas.errors import ImageError

#: File endings taken from a folder. What a list or manifest names is read whatever it ends in.
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".avif", ".gif"]
)  # fmt: skip
#: Formats whose header may be looked at; everything else is refused before any parser sees more of it.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "AVIF", "GIF")
#: How far from the end of a file its closing marker may stand (some cameras and editors append data).
_TAIL = 64 * 1024


def read_bytes(path: Path) -> bytes:
    """The bytes of an input; raises `ImageError` for a missing, unreadable, empty or oversized file."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would block for ever, a device never end
            raise ImageError("unreadable", "Not a regular file.")
        if found.st_size > MAX_FILE_BYTES:
            raise ImageError("too_large", f"The file has {found.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read.")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError("missing", "There is no such file.") from None
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise ImageError("unreadable", f"The file cannot be read: {reason}.") from None
    if not data:
        raise ImageError("empty", "The file is empty (0 bytes).")
    return data


def decode(data: bytes, max_pixels: int) -> U8:
    """Pixels (H, W, 3) BGR uint8 of an encoded picture, EXIF orientation applied, first frame only.

    Grey, palette, alpha (dropped), 16-bit and CMYK pictures are converted as OpenCV does. The size is read
    from the header first: a picture of more than `max_pixels` is refused before any memory is taken.
    Raises `ImageError` of kind not_an_image, too_large, truncated or undecodable.
    """
    kind, width, height = _header(data)
    if width * height > max_pixels:
        raise ImageError(
            "too_large",
            f"The picture has {width} × {height} pixels; the limit is {max_pixels:,} (--max-pixels).",
        )
    complaints: list[str] = []
    with _decoder_stderr(complaints):
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as fault:
            image = None
            complaints.append(str(fault))
    if image is None:
        if _ends_early(kind, data):
            raise ImageError("truncated", f"The {kind} file ends before the picture does ({len(data):,} bytes).")
        said = f": {complaints[0][:160]}" if complaints else ""
        raise ImageError("undecodable", f"The {kind} decoder gave up{said}.")
    return np.asarray(image)


def dimensions(data: bytes) -> tuple[int, int]:
    """Width and height of an encoded picture as its header has them, before EXIF orientation."""
    _, width, height = _header(data)
    return width, height


def _header(data: bytes) -> tuple[str, int, int]:
    """Format, width and height as the file's header gives them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as header:
                return str(header.format), header.width, header.height
    except UnidentifiedImageError:
        start = data[:12].hex(" ")
        raise ImageError("not_an_image", f"Not an image of a known format (it begins with {start}).") from None
    except Image.DecompressionBombError:
        raise ImageError("too_large", "The picture has more pixels than any limit allows.") from None
    except Exception as fault:  # header parsers raise whatever they trip over
        if data[8:12] == b"WEBP" and _ends_early("WEBP", data):
            raise ImageError("truncated", f"The WebP file ends before its header says ({len(data):,} bytes).") from None
        raise ImageError("undecodable", f"The header cannot be understood: {fault}.") from None


def _ends_early(kind: str, data: bytes) -> bool:
    """Whether a file that did not decode lacks its closing marker, or the length its header promises."""
    if kind in ("JPEG", "MPO"):
        return data.rfind(b"\xff\xd9", -_TAIL) < 0
    if kind == "PNG":
        return data.rfind(b"IEND", -_TAIL) < 0
    if kind == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if kind == "GIF":
        return data.rfind(b";", -_TAIL) < 0
    if kind in ("BMP", "DIB"):
        return int.from_bytes(data[2:6], "little") > len(data)
    return False


@contextlib.contextmanager
def _decoder_stderr(lines: list[str]) -> Iterator[None]:
    """Collect what libjpeg, libpng and libtiff print to file descriptor 2 instead of letting it through.

    They know no other way to complain, and a run over a million files would drown its progress bar.
    """
    try:
        saved = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    sink = _sink()
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        if os.lseek(sink, 0, os.SEEK_CUR):
            said = os.pread(sink, 4096, 0).decode("utf-8", "replace")
            lines.extend(line.strip() for line in said.splitlines() if line.strip())
            os.lseek(sink, 0, os.SEEK_SET)
            os.ftruncate(sink, 0)


@lru_cache(maxsize=1)
def _sink() -> int:
    """Descriptor of an unnamed file that takes what decoders print; one per process."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
