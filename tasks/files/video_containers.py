"""What a video file is by its own first bytes, and where it says that it ends: read without any decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

#: File endings taken from a folder as videos. A GIF is one where it has more than one frame.
VIDEO_SUFFIXES = frozenset([".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"])
#: Bytes that tell a container from others.
_SNIFFED = 16
#: Top-level boxes an MP4 or QuickTime file may begin with.
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
#: First bytes of two kinds of blocks of a GIF.
_GIF_TRAILER, _GIF_IMAGE = b";", b","
#: Sizes that writers leave in a RIFF header which they cannot go back to.
_RIFF_UNKNOWN = (0, 0xFFFFFFFF)
#: More top-level boxes than this are not followed: fragmented files have two for every fragment.
_MAX_BOXES = 1_000_000


@dataclass(frozen=True)
class Container:
    """A family of video files."""

    #: For people.
    title: str
    #: Names by which FFmpeg knows its demuxer; no other is let near the file.
    demuxers: str
    #: Gives the bytes that the file itself says it has, or None where it does not say.
    declared: Callable[[BinaryIO, int], int | None]
    #: Whether decoding can begin at a keyframe.
    seekable: bool = True
    #: Whether its packets bear the time at which their picture is shown; AVI's bear that of decoding.
    presentation_times: bool = True


def _mp4_bytes(file: BinaryIO, size: int) -> int:
    """End of the last top-level box that begins within the file (ISO/IEC 14496-12, 4.2)."""
    at = 0
    for _ in range(_MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return at + 8 if head else at
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: to the end of the file; less than a header: damage, of which its length says nothing
            return size
        at += length
        if at >= size:
            break
    return at


def _riff_bytes(file: BinaryIO, size: int) -> int | None:
    """End of the last RIFF chunk that begins within the file; a large AVI has several."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF":
            return at if at else None
        if length in _RIFF_UNKNOWN:
            return None
        at += 8 + length + length % 2
    return at


def _ebml_bytes(file: BinaryIO, _: int) -> int | None:
    """End of the segment (RFC 8794 for the numbers, RFC 9559 for the elements); live recordings do not tell it."""
    file.seek(0)
    head = file.read(4096)
    length = _ebml_number(head, 4)
    if length is None:
        return None
    value, start = length
    start += value
    if head[start : start + 4] != _SEGMENT:
        return None
    segment = _ebml_number(head, start + 4)
    return None if segment is None else segment[1] + segment[0]


def _ebml_number(data: bytes, at: int) -> tuple[int, int] | None:
    """A variable-length number and the position after it; None where it is unknown (all ones) or not there."""
    if at >= len(data) or not data[at]:
        return None
    width = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    if at + width > len(data) or value == (1 << 7 * width) - 1:
        return None
    return value, at + width


def _gif_bytes(file: BinaryIO, size: int) -> int:
    """The position after the trailer, found block by block (GIF89a, appendix A); beyond the end if there is none."""
    file.seek(10)
    at = 13 + _colour_table(file.read(1))
    while at < size:
        file.seek(at)
        head = file.read(10)
        if head[:1] == _GIF_TRAILER:
            return at + 1
        # An image has a descriptor, perhaps colours, and a code size before its data; an extension has a label.
        at += 11 + _colour_table(head[9:10]) if head[:1] == _GIF_IMAGE else 2
        at = _after_sub_blocks(file, at, size)
    return size + 1


def _colour_table(flags: bytes) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 << (flags[0] % 8 + 1) if flags and flags[0] & 0x80 else 0


def _after_sub_blocks(file: BinaryIO, at: int, size: int) -> int:
    while at < size:
        file.seek(at)
        length = file.read(1)[0]
        at += 1 + length
        if not length:
            break
    return at


MP4 = Container("MP4 or QuickTime", "mov,mp4,m4a,3gp,3g2,mj2", _mp4_bytes)
MATROSKA = Container("Matroska or WebM", "matroska,webm", _ebml_bytes)
AVI = Container("AVI", "avi", _riff_bytes, presentation_times=False)
GIF = Container("GIF", "gif", _gif_bytes, seekable=False)
#: FFmpeg shows only the first picture of it; Pillow reads it.
WEBP = Container("WebP", "", _riff_bytes, seekable=False)


def _families(head: bytes) -> Iterator[Container]:
    if head[4:8] in _BOXES:
        yield MP4
    if head.startswith(_EBML):
        yield MATROSKA
    if head.startswith(b"RIFF") and head[8:12] in (b"AVI ", b"WEBP"):
        yield AVI if head[8:12] == b"AVI " else WEBP
    if head[:6] in (b"GIF87a", b"GIF89a"):
        yield GIF


def container_of(path: Path) -> Container | None:
    """The family a file belongs to by its first bytes, whatever its name; None where it is no video of a known one."""
    with path.open("rb") as file:
        return next(_families(file.read(_SNIFFED)), None)


def missing_bytes(path: Path, container: Container) -> int:
    """How many bytes the file lacks of those it says it has; 0 where it is whole or does not say."""
    size = path.stat().st_size
    with path.open("rb") as file:
        declared = container.declared(file, size)
    return max((declared or 0) - size, 0)
