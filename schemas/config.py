"""What a user asked for, resolved before any work starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

#: Detector name that stands for "the user's boxes, nothing is detected".
GIVEN_BOXES = "boxes"
#: Pixels above which an image is refused before it is decoded (300 MB as BGR).
DEFAULT_MAX_PIXELS = 100_000_000
#: The header reader (Pillow) refuses more than this by itself, so no limit can exceed it.
MAX_MAX_PIXELS = 178_956_970
#: Bytes above which a file is refused before it is read.
MAX_FILE_BYTES = 1 << 30
#: Faces of one image that can be told apart: face_id = image_id · FACES_PER_IMAGE + face_index.
FACES_PER_IMAGE = 10_000


@dataclass(frozen=True)
class ProcessOptions:
    """Every option of `process` that changes what is written. Two runs with equal ones are the same run."""

    detector: str
    min_score: float
    detect_size: int | None
    max_faces: int
    refine: int
    vertices: str
    max_pixels: int
    boxes_digest: str | None
    path_column: str | None

    def as_dict(self) -> dict[str, Any]:
        """The options by name, for `run.json` and its comparison."""
        return asdict(self)


@dataclass(frozen=True)
class Execution:
    """Where the work is done. It never changes a result, so it is no part of a run's identity.

    `scheduler`: "auto", "in-process", "local", or the address or scheduler file of a running cluster.
    `workers`: processes of a local cluster; None for one per usable core.
    """

    scheduler: str = "auto"
    workers: int | None = None
