"""Names of the picture formats that can be decoded, and which of them are where nothing else is said."""

from __future__ import annotations

from collections.abc import Collection

from ddfa_batch.schemas.errors import OptionError

#: Formats that cameras, browsers and editors write, and that are fuzzed and bounded (docs/security.md).
DEFAULT_FORMATS = ("jpeg", "png", "webp", "bmp", "tiff", "gif", "avif")
#: All formats; the others are those of older face databases and of passports, and are decoded where they are asked for.
FORMATS = (*DEFAULT_FORMATS, "ppm", "jp2")


def checked_formats(names: Collection[str]) -> tuple[str, ...]:
    """Formats in the order of `FORMATS`, each once; raises `OptionError` for one that there is not, and for none."""
    for name in names:
        if name not in FORMATS:
            raise OptionError(f"'{name}' is no format of pictures; give some of {', '.join(FORMATS)}.")
    if not names:
        raise OptionError(f"formats names no format of pictures; give some of {', '.join(FORMATS)}.")
    return tuple(name for name in FORMATS if name in names)
