"""The bytes of an input, wherever it stands: a file, a member of an archive, a row of a table, a URL."""

from __future__ import annotations

import os
from pathlib import Path

from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.files import images, places
from ddfa_batch.tasks.files.inputs import Input, resolve_path
from ddfa_batch.tasks.files.picture_tables import read_picture
from ddfa_batch.tasks.files.places import Place
from ddfa_batch.tasks.files.remote_files import read_url
from ddfa_batch.tasks.files.tar_members import read_tar_member
from ddfa_batch.tasks.files.zip_members import read_zip_member

#: Bytes of a sample's JSON that are passed on; of a longer one nothing is.
MAX_SAMPLE_BYTES = 1 << 20


def read_input(root: str, item: Input) -> bytes:
    """The bytes of an input of a run with this root; raises `ImageError` where there are none."""
    if item.place is None:
        return images.read_bytes(resolve_path(Path(root), item))
    data = _read_place(item.place, item.place.numbers)
    if not data:
        raise ImageError("empty", "The picture has 0 bytes.")
    return data


def read_sample(item: Input) -> str | None:
    """The JSON that stands beside an input in its archive, as text; None where there is none that can be read."""
    if item.place is None or not item.place.sample:
        return None
    try:
        data = _read_place(item.place, item.place.sample)
        return data.decode("utf-8") if len(data) <= MAX_SAMPLE_BYTES else None
    except (ImageError, UnicodeDecodeError):
        return None


def _read_place(place: Place, numbers: tuple[int, ...]) -> bytes:
    if place.form == places.TAR:
        return read_tar_member(place.container, numbers)
    if place.form == places.ZIP:
        return read_zip_member(place.container, numbers)
    if place.form == places.URL:
        return read_url(os.fsdecode(place.container), *numbers)
    return read_picture(place.container, numbers, str(place.column))
