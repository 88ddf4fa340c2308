"""Where the bytes of an input stand that is no file of its own: in an archive, in a table, behind a URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Forms of what holds inputs.
TAR, ZIP, PARQUET, URL = "tar", "zip", "parquet", "url"


@dataclass(frozen=True)
class Place:
    """What a worker needs to read the bytes of one input, wherever it runs."""

    #: One of `TAR`, `ZIP`, `PARQUET`, `URL`.
    form: str
    #: The archive or table, an absolute path in bytes or a URL; of `URL` what is read itself.
    container: bytes
    #: Where in it: of a tar's member its offset and bytes, the offset alone where the archive is damaged from there on;
    #: of a zip's what `zip_members.numbers` has; of a table's row its row group and place in that; of a URL its bytes.
    numbers: tuple[int, ...] = ()
    #: A table's column of pictures.
    column: str | None = None
    #: Where the JSON of the same sample is, likewise; empty for none.
    sample: tuple[int, ...] = ()

    def identity(self) -> bytes:
        """What tells it from every other place."""
        return b"\0".join((self.form.encode(), self.container, repr((self.numbers, self.column, self.sample)).encode()))

    def plan_columns(self) -> dict[str, Any]:
        """The place as columns of the plan; see `schemas.tables.PLAN`."""
        return {
            "form": self.form,
            "container": self.container,
            "numbers": list(self.numbers),
            "column": self.column,
            "sample": list(self.sample),
        }


def take_place(row: dict[str, Any]) -> Place | None:
    """Take the columns `Place.plan_columns` wrote out of a plan's `row`; None where the input is a file."""
    form, container, numbers, column, sample = (
        row.pop(name, None) for name in ("form", "container", "numbers", "column", "sample")
    )
    return None if form is None else Place(form, container, tuple(numbers or ()), column, tuple(sample or ()))
