"""Which faces of a run are drawn or exported: all, those a condition picks, the worst, or some at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from ddfa_batch.pipeline.results import Results
from ddfa_batch.schemas import tables
from ddfa_batch.schemas.errors import OptionError
from ddfa_batch.tasks.files.row_filters import columns_of, row_filter


@dataclass(frozen=True)
class Selection:
    """Which faces are wanted, as a user says it. Raises `OptionError` for what excludes each other."""

    #: A condition on the columns of the faces, or else of the images table; None for all.
    where: str | None = None
    #: Of those, so many with the least score; None for all.
    worst: int | None = None
    #: Of those, so many at random; None for all.
    random: int | None = None
    #: Decides which.
    seed: int = 0
    #: The inputs that ended as error rows, and nothing else.
    errors: bool = False

    def __post_init__(self) -> None:
        if self.worst is not None and self.random is not None:
            raise OptionError("worst and random exclude each other.")
        if self.errors and (self.where is not None or self.worst is not None or self.random is not None):
            raise OptionError("errors shows the inputs without a picture; leave out where, worst and random.")

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self == Selection(seed=self.seed)

    def as_dict(self) -> dict[str, object]:
        """By name, for `run.json`."""
        return asdict(self)


@dataclass(frozen=True)
class Chosen:
    """What a selection chose of a run."""

    #: Inputs, by their image_id, increasing.
    images: Sequence[int]
    #: Of each the faces, by their place in the image; None for all of them.
    faces: Sequence[list[int] | None]


def chosen(run: Results, selection: Selection) -> Chosen:
    """What `selection` chooses of the finished shards of a run; raises `OptionError` for a condition that is none."""
    if selection.errors:
        return _whole(_images(run, "status = 'error'"))
    if selection.everything:
        return _whole(_images(run, None))
    if selection.where is not None and selection.worst is None and selection.random is None and _of_images(selection):
        return _whole(_images(run, selection.where))
    return _by_image(_faces(run, selection))


def _of_images(selection: Selection) -> bool:
    """Whether the condition is one on the images table: it names columns that only that has."""
    columns = columns_of(selection.where or "")
    faces = set(tables.faces_schema(1, {}, smooth=True).names)
    return bool(columns - faces) and columns <= set(tables.IMAGES.names)


def _images(run: Results, where: str | None) -> pa.Table:
    condition = None if where is None else row_filter(where, tables.IMAGES)
    return run.images(["image_id"], condition)


def _whole(images: pa.Table) -> Chosen:
    ids = np.sort(images["image_id"].to_numpy()).tolist()
    return Chosen(ids, [None] * len(ids))


def _faces(run: Results, selection: Selection) -> pa.Table:
    """The rows (image_id, face_index) that are chosen, in the order of the run."""
    schema = run.faces_schema()
    condition = None if selection.where is None else row_filter(selection.where, schema)
    found = run.faces(["face_id", "image_id", "face_index", "score"], condition).sort_by("face_id")
    rows = np.arange(len(found))
    if selection.worst is not None:
        rows = np.argsort(found["score"].to_numpy(), kind="stable")[: selection.worst]
    if selection.random is not None:
        n = min(selection.random, len(found))
        rows = np.random.default_rng(selection.seed).choice(len(found), n, replace=False)
    return found.take(pa.array(np.sort(rows)))


def _by_image(faces: pa.Table) -> Chosen:
    groups: dict[int, list[int]] = {}
    for image_id, index in zip(faces["image_id"].to_pylist(), faces["face_index"].to_pylist(), strict=True):
        groups.setdefault(image_id, []).append(index)
    return Chosen(list(groups), list(groups.values()))
