"""The paths a user names: files and folders of this machine, and nothing that only looks like one."""

from __future__ import annotations

import re
from pathlib import Path

from ddfa_batch.schemas.errors import InputError

#: A URL's scheme at the beginning of a path, whose `//` pathlib makes one `/`; one letter alone is a drive of Windows.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def check_local(path: Path) -> Path:
    """Return `path` if it is of this machine; raises `InputError` for a URL, of which a folder `s3:` would be made."""
    text = str(path)
    if _URL.match(text) and not path.exists():
        scheme, _, rest = text.partition(":/")
        raise InputError(
            f"{scheme}://{rest.lstrip('/')} is a URL; inputs may be one, and folders of runs but those of "
            "synth-videos and fit: name a local file or folder."
        )
    return path
