"""The first frame of an animated PNG as a PNG of its own.

OpenCV 5's decoder of animated PNGs reads the whole animation, and trusts its frames' sizes: a damaged one writes beyond
the memory it has, which hangs or kills the process. Without the chunks of the animation it is a plain PNG, libpng's.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Bytes of a chunk besides its content: length, type and checksum.
_FRAME = 12
#: Chunks of the animation: its control, a frame's control, a frame's pixels (after four bytes of a running number).
_CONTROL, _FRAME_CONTROL, _FRAME_DATA = b"acTL", b"fcTL", b"fdAT"
_ANIMATION = (_CONTROL, _FRAME_CONTROL, _FRAME_DATA)


def still_png(data: bytes) -> bytes:
    """The PNG file `data` without its animation, its first frame kept; a PNG that has none as it is.

    The first frame is the picture that programs without animation show, or, where that is not part of the animation,
    the first one that covers the whole picture. What follows a chunk that reaches beyond the file is cut off.
    """
    if not data.startswith(_SIGNATURE) or not any(name in data for name in _ANIMATION):
        return data
    chunks = list(_chunks(data))
    names = [name for name, _ in chunks]
    if _FRAME_CONTROL in names and b"IDAT" in names and names.index(b"IDAT") < names.index(_FRAME_CONTROL):
        chunks = _first_frame_for_hidden(chunks, names.index(_FRAME_CONTROL))
    return _SIGNATURE + b"".join(whole for name, whole in chunks if name not in _ANIMATION)


def beyond_the_file(data: bytes) -> bool:
    """Whether a chunk of the PNG file `data` says that it is longer than the file.

    OpenCV 5 takes memory for what a chunk says, up to four gigabytes, before it finds that there is less.
    """
    if not data.startswith(_SIGNATURE):
        return False
    at = len(_SIGNATURE)
    while at + _FRAME <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + _FRAME + length > len(data):
            return True
        if data[at + 4 : at + 8] == b"IEND":
            break
        at += _FRAME + length
    return False


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and whole bytes of each chunk up to IEND, the last one cut where the file ends."""
    at, name = len(_SIGNATURE), b""
    while at < len(data) and name != b"IEND":
        name = data[at + 4 : at + 8]
        length = int.from_bytes(data[at : at + 4], "big")
        yield name, data[at : at + _FRAME + length]
        at += _FRAME + length


def _first_frame_for_hidden(chunks: list[tuple[bytes, bytes]], control: int) -> list[tuple[bytes, bytes]]:
    """The chunks with the animation's first frame in place of the picture outside it, if it has the picture's size."""
    size = chunks[0][1][8:16]
    if chunks[control][1][12:28] != size + bytes(8):  # width, height, then no offset
        return chunks
    pixels = []
    for name, whole in chunks[control + 1 :]:
        if name != _FRAME_DATA:
            break
        pixels.append((b"IDAT", _chunk(b"IDAT", whole[12:-4])))
    first = next(i for i, (name, _) in enumerate(chunks) if name == b"IDAT")
    rest = [chunk for chunk in chunks[first:] if chunk[0] != b"IDAT"]
    return [*chunks[:first], *pixels, *rest] if pixels else chunks


def _chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
