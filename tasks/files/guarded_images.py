"""Pictures to pixels within limits of time and memory: what may hang or swell is decoded in a process of its own.

JPEG, PNG, BMP and still WebP are decoded here: their decoders take time and memory in proportion to the pixels, whose
number is checked first. A JPEG may repeat its scans without end, the decoders of AVIF, TIFF, GIF, JPEG 2000 and of
animations believe sizes that no header tells: these go to a child (`decoder_child`), which is ended where it goes
beyond.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.picture_formats import DEFAULT_FORMATS
from ddfa_batch.tasks.files import images
from ddfa_batch.tasks.files.decoder_child import WornError, borrowed, fault_of
from ddfa_batch.tasks.files.decoder_process import PICTURE
from ddfa_batch.tasks.files.format_signatures import allowed_format, format_of
from ddfa_batch.tasks.geometry.picture import Picture

#: Scans of a JPEG above which it goes to the child; encoders make some ten.
_MAX_SCANS = 64
#: What begins a JPEG's scan; in its pixels these two bytes cannot stand together.
_SCAN = b"\xff\xda"
#: The flag in a WebP's extended header that tells an animation.
_WEBP_ANIMATION = 0x02
#: Bytes of an answer besides pixels.
_WORDS_BYTES = 1 << 16


def decode(data: bytes, max_pixels: int, formats: Collection[str] = DEFAULT_FORMATS) -> U8:
    """Pixels (H, W, 3) BGR uint8 of an encoded picture, as `images.decode`, within the limits in force.

    Raises `ImageError`, also of kind timed_out, out_of_memory or crashed where the child was ended or ended itself.
    """
    allowed_format(data, formats)
    return _in_child(data, max_pixels) if needs_child(data) else images.decode(data, max_pixels, formats)


def picture(data: bytes, max_pixels: int, formats: Collection[str] = DEFAULT_FORMATS) -> Picture:
    """The same as `images.picture` gives it: of a large JPEG the pixels are decoded when they are looked at."""
    allowed_format(data, formats)
    return Picture.of(_in_child(data, max_pixels)) if needs_child(data) else images.picture(data, max_pixels, formats)


def needs_child(data: bytes) -> bool:
    """Whether a picture, by its first bytes, is of a kind that is decoded in a process of its own."""
    form = format_of(data)
    if form is None or form.name in ("png", "bmp"):
        return False
    if form.name == "webp":
        return data[12:16] == b"VP8X" and bool(data[20:21]) and bool(data[20] & _WEBP_ANIMATION)
    return form.name != "jpeg" or data.count(_SCAN) > _MAX_SCANS


def _in_child(data: bytes, max_pixels: int) -> U8:
    try:
        with borrowed() as child:
            child.request(PICTURE, data, max_pixels)
            height, width, answer = child.answer(3 * max_pixels + _WORDS_BYTES, began=True)
    except WornError:
        return _in_child(data, max_pixels)
    if not height:
        raise fault_of(answer)
    return np.frombuffer(answer, np.uint8).reshape(height, width, 3)
