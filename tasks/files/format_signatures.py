"""Picture formats: how their files begin and end in name, told before any decoder or parser sees them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.schemas.picture_formats import DEFAULT_FORMATS, FORMATS

#: Bytes of a file that tell its format.
SNIFFED = 16
#: Brands of an AVIF that Pillow and OpenCV know: a still, a sequence, and the two of any codec.
_AVIF_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")
#: Little and big end first, TIFF and BigTIFF; Pillow takes each with the number either way round.
_TIFF = (b"II\x2a\x00", b"MM\x00\x2a", b"MM\x2a\x00", b"II\x00\x2a", b"MM\x00\x2b", b"II\x2b\x00")
#: A JPEG 2000 file, and its codestream alone.
_JP2 = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")


@dataclass(frozen=True)
class PictureFormat:
    """A format of pictures."""

    #: Its name in `FORMATS`.
    name: str
    #: What files of it end in.
    suffixes: tuple[str, ...]
    #: What Pillow, which reads its header, calls it.
    pillow: tuple[str, ...]
    #: Whether the first bytes of a file are those of one.
    begins: Callable[[bytes], bool]


_ALL = (
    PictureFormat("jpeg", (".jpg", ".jpeg", ".jpe", ".jfif"), ("JPEG",), lambda head: head.startswith(b"\xff\xd8\xff")),
    PictureFormat("png", (".png", ".apng"), ("PNG",), lambda head: head.startswith(b"\x89PNG\r\n\x1a\n")),
    PictureFormat("webp", (".webp",), ("WEBP",), lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP"),
    PictureFormat("bmp", (".bmp", ".dib"), ("BMP",), lambda head: head.startswith(b"BM")),
    PictureFormat("tiff", (".tif", ".tiff"), ("TIFF",), lambda head: head.startswith(_TIFF)),
    PictureFormat("gif", (".gif",), ("GIF",), lambda head: head.startswith((b"GIF87a", b"GIF89a"))),
    PictureFormat("avif", (".avif",), ("AVIF",), lambda head: head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS),
    PictureFormat(
        "ppm", (".ppm", ".pgm", ".pbm", ".pnm"), ("PPM",), lambda head: head[:1] == b"P" and head[1:2] in b"123456"
    ),
    PictureFormat("jp2", (".jp2", ".j2k", ".jpf", ".jpx"), ("JPEG2000",), lambda head: head.startswith(_JP2)),
)
#: Formats by name.
BY_NAME = {form.name: form for form in _ALL}


def suffixes_of(formats: Collection[str]) -> frozenset[str]:
    """Endings of the files that are taken where `formats` are allowed.

    Those of the usual formats are among them always: a file that is not allowed becomes a row that says so.
    """
    return frozenset(s for form in _ALL if form.name in (*DEFAULT_FORMATS, *formats) for s in form.suffixes)


#: Endings that are taken from a folder. What a list or manifest names is read whatever it ends in.
SUFFIXES = suffixes_of(DEFAULT_FORMATS)
#: Endings of all formats.
ALL_SUFFIXES = suffixes_of(FORMATS)


def format_of(data: bytes) -> PictureFormat | None:
    """The format of a file by its first bytes; None where it is that of no picture that is known."""
    head = data[:SNIFFED]
    return next((form for form in _ALL if form.begins(head)), None)


def allowed_format(data: bytes, formats: Collection[str]) -> PictureFormat:
    """The format of a file, one of `formats`; raises `ImageError` of kind not_an_image or format_not_allowed."""
    form = format_of(data)
    if form is None:
        raise unknown_format(data)
    if form.name not in formats:
        allowed = ",".join(formats)
        raise ImageError("format_not_allowed", f"It is a {form.name} picture, and allowed are --formats {allowed}.")
    return form


def unknown_format(data: bytes) -> ImageError:
    """What a file is called that is no picture, or whose header is not that of the format it begins as."""
    start = data[:12].hex(" ")
    return ImageError("not_an_image", f"Not an image of a known format (it begins with {start}).")
