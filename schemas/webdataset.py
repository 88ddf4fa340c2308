"""What `to-webdataset` may be asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ddfa_batch.schemas.config import PICTURE_FORMATS, check_range
from ddfa_batch.schemas.errors import OptionError

#: Least and most side of a crop, pixels.
CROP_SIDES = (16, 1024)


@dataclass(frozen=True)
class WebDatasetOptions:
    """Every option of `to-webdataset` that changes what is written."""

    #: Side of the crops, pixels.
    size: int
    #: One of `PICTURE_FORMATS`.
    format: str
    #: The run that the samples are of, absolute, and when it was planned.
    run: str
    run_created: str
    #: Pixels above which a photograph is refused.
    max_pixels: int
    #: Which faces, as `Selection` has them.
    selection: dict[str, Any]

    def __post_init__(self) -> None:
        check_range("size", self.size, *CROP_SIDES)
        if self.format not in PICTURE_FORMATS:
            raise OptionError(f"format is one of {', '.join(PICTURE_FORMATS)}, but is {self.format!r}.")

    def as_dict(self) -> dict[str, Any]:
        """The options by name, for `run.json` and its comparison."""
        return asdict(self)
