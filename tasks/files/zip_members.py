"""ZIP archives: members are found in the directory at the end and then read by offset; nothing is unpacked."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator

from ddfa_batch.schemas.config import MAX_FILE_BYTES
from ddfa_batch.schemas.errors import ImageError, InputError
from ddfa_batch.tasks.files.containers import open_container, read_range
from ddfa_batch.tasks.files.tar_members import Member

#: The header before a member's bytes: signature, ten fields that the directory has too, lengths of name and extra.
_LOCAL = struct.Struct("<4s22xHH")
_SIGNATURE = b"PK\x03\x04"
#: The flag of a member that is encrypted.
_ENCRYPTED = 0x1


def zip_members(where: str) -> Iterator[Member]:
    """The files of a ZIP, in the order of its directory; raises `InputError` where that cannot be read."""
    with open_container(where) as file:
        try:
            found = zipfile.ZipFile(file).infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, struct.error) as fault:
            raise InputError(
                f"{where} is no readable ZIP ({fault}): its directory, at the end, is missing or damaged; "
                "repair it ('zip -FF'), or leave it out."
            ) from None
    for entry in found:
        if not entry.is_dir():
            yield Member(os.fsencode(entry.filename.removeprefix("./")), numbers(entry))


def numbers(entry: zipfile.ZipInfo) -> tuple[int, ...]:
    """Offset of its header, bytes compressed, method, bytes, CRC-32, flags."""
    sizes = (entry.header_offset, entry.compress_size, entry.compress_type, entry.file_size)
    return (*sizes, entry.CRC, entry.flag_bits)


def read_zip_member(container: bytes, numbers: tuple[int, ...]) -> bytes:
    """The bytes of a member; raises `ImageError`."""
    offset, compressed, method, size, crc, flags = numbers
    if flags & _ENCRYPTED:
        raise ImageError("unreadable", "The archive's member is encrypted.")
    if size > MAX_FILE_BYTES:
        raise ImageError("too_large", f"The archive announces {size:,} bytes; at most {MAX_FILE_BYTES:,} are read.")
    signature, name, extra = _LOCAL.unpack(read_range(container, offset, _LOCAL.size))
    if signature != _SIGNATURE:
        raise ImageError("unreadable", f"The archive has no member at byte {offset:,}, where its directory says.")
    data = _inflated(read_range(container, offset + _LOCAL.size + name + extra, compressed), method, size)
    if len(data) != size or zlib.crc32(data) != crc:
        raise ImageError("unreadable", "The archive's member is damaged: size or checksum differ from its directory.")
    return data


def _inflated(data: bytes, method: int, size: int) -> bytes:
    if method == zipfile.ZIP_STORED:
        return data
    if method != zipfile.ZIP_DEFLATED:
        raise ImageError("unreadable", f"The archive's member is compressed by method {method}, which is not read.")
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    except zlib.error as fault:
        raise ImageError("unreadable", f"The archive's member cannot be decompressed ({fault}).") from None
