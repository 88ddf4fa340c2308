"""Image files to pixels: the one place where untrusted pictures are read."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.config import MAX_FILE_BYTES
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.schemas.picture_formats import DEFAULT_FORMATS, FORMATS
from ddfa_batch.tasks.files.decoder_messages import caught_messages
from ddfa_batch.tasks.files.first_frame import beyond_the_file, still_png
from ddfa_batch.tasks.files.format_signatures import SNIFFED, allowed_format, format_of, unknown_format
from ddfa_batch.tasks.geometry.picture import REDUCTIONS, Picture

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its complaints about damaged files are printed

#: How far from the end of a file its closing marker may stand (some cameras and editors append data).
_TAIL = 64 * 1024
#: EXIF's tag of the orientation.
_ORIENTATION = 0x0112
#: To make each of EXIF's orientations upright: whether rows and columns change places, then which are reversed.
_TRANSPOSED_FLIPPED = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
#: Pixels from which a JPEG is decoded smaller where that is enough.
LEAST_REDUCED = 2_000_000
#: How OpenCV is asked for colours at each of `REDUCTIONS`.
_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
#: Held while Python's filters of warnings are changed; a child must not be forked in between.
_FILTERS = threading.Lock()
os.register_at_fork(before=_FILTERS.acquire, after_in_parent=_FILTERS.release, after_in_child=_FILTERS.release)


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


def decode(data: bytes, max_pixels: int, formats: Collection[str] = DEFAULT_FORMATS) -> U8:
    """Pixels (H, W, 3) BGR uint8 of an encoded picture, its orientation applied, first frame only.

    Grey, palette, alpha (dropped), 16-bit and CMYK pictures are converted as OpenCV does. The size is read
    from the header first: a picture of more than `max_pixels` is refused before any memory is taken.
    Raises `ImageError` of kind not_an_image, format_not_allowed, too_large, truncated or undecodable.
    """
    return _pixels(_checked_header(data, max_pixels, formats), data)


def picture(data: bytes, max_pixels: int, formats: Collection[str] = DEFAULT_FORMATS) -> Picture:
    """The same picture; a JPEG from `LEAST_REDUCED` pixels on is decoded when it is looked at, as large as is needed.

    Raises `ImageError` as `decode` does, of a large JPEG partly when it is looked at.
    """
    header = _checked_header(data, max_pixels, formats)
    if not header.reducible:
        return Picture.of(_pixels(header, data))
    sides, transposed = (header.height, header.width), _TRANSPOSED_FLIPPED[header.orientation or 1][0]
    # Pixels beyond the picture's edge fill its last blocks: where it is flipped they come to lie before its first.
    fits = [k for k in REDUCTIONS if header.orientation == 1 or not (sides[0] % k or sides[1] % k)]
    height, width = sides[::-1] if transposed else sides
    return Picture(height, width, lambda reduction: _pixels(header, data, reduction), tuple(fits))


def _checked_header(data: bytes, max_pixels: int, formats: Collection[str]) -> _Header:
    header = _header(data, formats)
    if header.width * header.height > max_pixels:
        raise ImageError(
            "too_large",
            f"The picture has {header.width} × {header.height} pixels; the limit is {max_pixels:,} (--max-pixels).",
        )
    return header


def _pixels(header: _Header, data: bytes, reduction: int = 1) -> U8:
    """Pixels of a picture whose header was read, its sides divided by a reduction."""
    if beyond_the_file(data):
        raise _undecodable(header.kind, data, ["a chunk is longer than the file"])
    complaints: list[str] = []
    with caught_messages(complaints):
        image = _by_pillow(data, complaints) if header.by_pillow else _by_opencv(header, data, reduction, complaints)
    if image is None:
        raise _undecodable(header.kind, data, complaints)
    return image if header.orientation is None else _upright(image, header.orientation)


def _by_opencv(header: _Header, data: bytes, reduction: int, complaints: list[str]) -> U8 | None:
    flags = _FLAGS[reduction] | (0 if header.orientation is None else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(still_png(data), np.uint8), flags)
    except cv2.error as fault:
        complaints.append(str(fault))
        return None
    return None if image is None else np.asarray(image)


def _by_pillow(data: bytes, complaints: list[str]) -> U8 | None:
    """A TIFF with alpha: libtiff hands OpenCV its colours multiplied by it, black where they are transparent."""
    try:
        with _without_warnings(), Image.open(io.BytesIO(data), formats=["TIFF"]) as picture:
            picture.load()  # which turns a TIFF upright, too
            return np.ascontiguousarray(np.asarray(picture)[..., 2::-1])
    except Exception as fault:  # decoders raise whatever they trip over
        complaints.append(str(fault))
        return None


def dimensions(data: bytes) -> tuple[int, int]:
    """Width and height of an encoded picture as its header has them, before EXIF orientation."""
    header = _header(data, FORMATS)
    return header.width, header.height


def is_picture(path: Path) -> bool:
    """Whether a file begins as a picture of a known format does, whatever it is called."""
    try:
        with path.open("rb") as file:
            form = format_of(file.read(SNIFFED))
        if form is None:
            return False
        with _without_warnings(), Image.open(path, formats=form.pillow):
            return True
    except Exception:  # header parsers raise whatever they trip over
        return False


@dataclass(frozen=True)
class _Header:
    """What the head of a picture file tells."""

    #: Pillow's name of the format.
    kind: str
    #: Pixels, before any orientation.
    width: int
    #: Pixels, before any orientation.
    height: int
    #: EXIF's number of the orientation where it is not left to the decoder: AVIF's irot and imir, XMP, and of what is
    #: reducible; else None.
    orientation: int | None
    #: Whether Pillow decodes it: a TIFF with alpha.
    by_pillow: bool

    @property
    def reducible(self) -> bool:
        """Whether it is a JPEG so large that it is worth while to decode it smaller."""
        return _reducible(self.kind, self.width, self.height)


def _header(data: bytes, formats: Collection[str]) -> _Header:
    form = allowed_format(data, formats)
    try:
        with _without_warnings(), Image.open(io.BytesIO(data), formats=form.pillow) as header:
            by_pillow = header.format == "TIFF" and header.mode == "RGBA"
            orientation = None if by_pillow else _orientation(header)
            return _Header(str(header.format), header.width, header.height, orientation, by_pillow)
    except UnidentifiedImageError:
        raise unknown_format(data) from None
    except Image.DecompressionBombError:
        raise ImageError("too_large", "The picture has more pixels than any limit allows.") from None
    except Exception as fault:  # header parsers raise whatever they trip over
        if data[8:12] == b"WEBP" and _ends_early("WEBP", data):
            raise ImageError("truncated", f"The WebP file ends before its header says ({len(data):,} bytes).") from None
        raise ImageError("undecodable", f"The header cannot be understood: {fault}.") from None


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep Pillow's warnings back, one thread at a time: Python's filters belong to the whole process."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _orientation(header: Image.Image) -> int | None:
    """The orientation to apply after OpenCV, which knows EXIF's and TIFF's alone; None where it sees to it itself."""
    if header.format != "AVIF" and "xmp" not in header.info and not _reducible(str(header.format), *header.size):
        return None
    if header.format == "TIFF" and _ORIENTATION in vars(header).get("tag_v2", ()):
        return None  # OpenCV turns it by its tag, whatever it is told
    try:
        told = header.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF and XMP are parsed by trial; without them the picture stands as it is
        return None
    return told if told in _TRANSPOSED_FLIPPED else 1


def _reducible(kind: str, width: int, height: int) -> bool:
    return kind in ("JPEG", "MPO") and width * height >= LEAST_REDUCED


def _upright(image: U8, orientation: int) -> U8:
    """The picture (H, W, 3) as EXIF's number of its orientation says it is meant."""
    transposed, upside_down, mirrored = _TRANSPOSED_FLIPPED[orientation]
    turned = image.transpose(1, 0, 2) if transposed else image
    return np.ascontiguousarray(turned[:: -1 if upside_down else 1, :: -1 if mirrored else 1])


def _undecodable(kind: str, data: bytes, complaints: list[str]) -> ImageError:
    if _ends_early(kind, data):
        return ImageError("truncated", f"The {kind} file ends before the picture does ({len(data):,} bytes).")
    reason = f": {complaints[0][:160]}" if complaints else ""
    return ImageError("undecodable", f"The {kind} decoder gave up{reason}.")


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
