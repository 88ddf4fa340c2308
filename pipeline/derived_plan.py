"""What is made of a run: its inputs again, those that were chosen, a video or a track as one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow.dataset as ds

from ddfa_batch.pipeline import derived_growth, graph
from ddfa_batch.pipeline.engine import execute_planned
from ddfa_batch.pipeline.plan import PlanRow, Run, default_shard_size, new_run, read_run, read_shard
from ddfa_batch.pipeline.progress import Phase, Progress, Report, Totals, unheard
from ddfa_batch.pipeline.results import Results
from ddfa_batch.pipeline.selected_faces import Chosen, Selection, chosen
from ddfa_batch.schemas.arrays import I64, Bools
from ddfa_batch.schemas.config import Execution, ExportOptions, RenderOptions
from ddfa_batch.schemas.errors import InputError, OptionError, RunFolderError
from ddfa_batch.schemas.run import Receipt, RunModel
from ddfa_batch.schemas.webdataset import WebDatasetOptions
from ddfa_batch.tasks.bundles.model_bundle import Bundle, load_bundle, recorded_folder
from ddfa_batch.tasks.files.run_folders import Named, RunFolder, run_folder_at
from ddfa_batch.tasks.files.run_records import is_planned
from ddfa_batch.tasks.files.store import FACES
from ddfa_batch.tasks.files.video_inputs import video_key

Options = TypeVar("Options", RenderOptions, ExportOptions, WebDatasetOptions)


@dataclass(frozen=True)
class DerivedRequest(Generic[Options]):
    """What a user asks to be made of a run, resolved and checked."""

    #: The command: render, export or to-webdataset.
    kind: str
    #: The run it is made of.
    source: Results
    #: Where to: a path or a URL.
    out: Named
    #: The options of the command.
    options: Options
    #: The plan's rows.
    rows: list[dict[str, Any]]
    #: Inputs of a shard; None for what suits their number.
    shard_size: int | None = None
    #: What the command was asked for, as `RunRecord.asked` has it.
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def bundle(self) -> Bundle:
        """The model that the run was made with."""
        return self.source.bundle

    @property
    def folder(self) -> RunFolder:
        """The folder of what is made."""
        return run_folder_at(self.out)

    def run(self, overwrite: bool = False) -> Run:
        """The run that makes it, not written yet. A shard size that is not asked for is that of the run there."""
        source = self.source.run
        named = [(row["source"], row["n_source"], row["face_index"]) for row in self.rows]
        planned = hashlib.sha256(json.dumps(named).encode()).hexdigest()
        videos = any(row["n_source"] > 1 for row in self.rows)
        size = self.shard_size
        if size is None and not overwrite and is_planned(self.folder):
            size = read_run(self.folder).shard_size
        if size is None:
            size = default_shard_size(self.kind, len(self.rows), *((1,) if videos else ()))
        notes = []
        if not self.source.complete:
            notes.append(f"{source.folder} is not finished; what is done of it is taken.")
        return new_run(
            self.kind,
            self.folder,
            self.bundle,
            root=source.root,
            source=str(source.folder),
            inputs=(planned, len(self.rows)),
            shard_size=size,
            options=self.options.as_dict(),
            notes=notes,
            asked=self.asked,
            content=digest_of(row["content"] for row in self.rows),
        )


def execute_derived(
    request: DerivedRequest[Options],
    execution: Execution,
    stages: graph.Stages,
    *,
    few: int,
    overwrite: bool = False,
    verify: bool = False,
    extend: bool = False,
    report: Report = unheard,
) -> tuple[Run, Totals]:
    """Make all of a run that is not made yet; see `engine.execute_planned`.

    extend: take up what the run that it is made of has more, and do again what was done again there.
    """
    if extend:
        derived_growth.refuse_ranked(request.options.selection)
    report(Progress(Phase.LISTING, listed=len(request.rows)))
    asked = request.run(overwrite)
    return execute_planned(
        asked,
        lambda: request.rows,
        request.bundle,
        execution,
        stages,
        few=few,
        overwrite=overwrite,
        verify=verify,
        grow=(lambda planned: derived_growth.extended(planned, request.rows, asked)) if extend else None,
        report=report,
    )


def bundle_of(model: RunModel) -> Bundle:
    """The bundle that a run names."""
    return load_bundle(recorded_folder(model.folder, model.digest))


def made_of(source: Results, selection: Selection, max_pixels: int) -> tuple[str, str, int, dict[str, Any]]:
    """What options of every kind have of the run that something is made of, in this order, from `run` on."""
    return source.run.folder.address, source.run.created, max_pixels, selection.as_dict()


def derived_request(
    kind: str,
    source: Results,
    out: Named,
    options: Options,
    selection: Selection,
    shard_size: int | None = None,
    *,
    videos: bool = False,
) -> DerivedRequest[Options]:
    """What to make of the inputs of a run that were chosen; with `videos`, of each video as a whole.

    Raises `InputError` where nothing is chosen, `RunFolderError` for a run without faces.
    """
    _refuse_other(source, out)
    found = chosen(source, selection)
    rows = list(_rows(source.run, found, videos and selection.everything))
    return DerivedRequest(kind, source, out, options, _with_content(source, rows), shard_size)


def tracks_request(
    kind: str, source: Results, out: Named, options: Options, selection: Selection, shard_size: int | None = None
) -> DerivedRequest[Options]:
    """What to make of the tracks of a run's videos that have a face which was chosen; see `derived_request`."""
    _refuse_other(source, out)
    faces = source.faces(["image_id", "face_index", "track_id"], ds.field("track_id").is_valid())
    image_id, face_index, track_id = (faces[name].to_numpy() for name in ("image_id", "face_index", "track_id"))
    wanted = np.unique(track_id)
    if not selection.everything:
        wanted = np.unique(track_id[_among(image_id, face_index, chosen(source, selection))])
    keys = dict(zip(*(source.tracks()[name].to_pylist() for name in ("track_id", "key")), strict=True))
    rows: list[dict[str, Any]] = []
    for track in wanted.tolist():
        images = image_id[track_id == track]
        (first,) = (row for row, _ in _planned(source.run, Chosen([int(images.min())], [None])))
        span = {"key": keys[track], "n_source": int(images.max() - images.min() + 1)}
        rows.append({**_columns(len(rows), first, [track]), **span})
    return DerivedRequest(kind, source, out, options, _with_content(source, rows), shard_size)


def _among(image_id: I64, face_index: I64, found: Chosen) -> Bools:
    """Which faces (N,) were chosen, by their inputs and their places there."""
    chosen_of = dict(zip(found.images, found.faces, strict=True))
    picked = [(chosen_of.get(i, ()), k) for i, k in zip(image_id.tolist(), face_index.tolist(), strict=True)]
    return np.array([places is None or k in places for places, k in picked], np.bool_)


def _refuse_other(source: Results, out: Named) -> None:
    if source.run.kind != "process":
        raise RunFolderError(f"{source.run.folder} is a run of {source.run.kind}; this takes runs of process.")
    if run_folder_at(out) == source.run.folder:
        raise OptionError(f"{out} is the run itself; choose another folder for what is made of it.")


def _with_content(source: Results, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a plan, each with a hash of the shards that it is made of; raises `InputError` for none."""
    if not rows:
        raise InputError(f"Nothing in {source.run.folder} is as chosen.")
    held = {receipt.shard: _content_of(receipt) for receipt in source.receipts}
    ends = np.array([(row["source"], row["source"] + row["n_source"] - 1) for row in rows], np.int64)
    first, last = source.run.shards_of(ends).T.tolist()

    @lru_cache(maxsize=1024)
    def content(first: int, last: int) -> str:
        return digest_of(held.get(shard, "") for shard in range(first, last + 1))

    return [{**row, "content": content(a, b)} for row, a, b in zip(rows, first, last, strict=True)]


def _content_of(receipt: Receipt) -> str:
    """What tells a shard's faces and failures from others: not its images table, which has times in it."""
    faces = {name: checksum for name, checksum in receipt.checksums.items() if name.startswith(f"{FACES}/")}
    return json.dumps([faces, receipt.no_face, receipt.errors], sort_keys=True)


def digest_of(parts: Iterable[str]) -> str:
    """A hash of the different ones among some texts, in whatever order they come."""
    return hashlib.sha256("\0".join(sorted(set(parts))).encode()).hexdigest()[:16]


def _rows(run: Run, found: Chosen, whole_videos: bool) -> Iterator[dict[str, Any]]:
    planned = _planned(run, found)
    together = groupby(planned, lambda pair: pair[0].video if whole_videos and pair[0].frame is not None else None)
    image_id = 0
    for video, group in together:
        if video is None:
            for row, faces in group:
                yield _columns(image_id, row, faces)
                image_id += 1
            continue
        frames = [row for row, _ in group]
        yield {**_columns(image_id, frames[0], None), **_whole_video(frames)}
        image_id += 1


def _whole_video(frames: Sequence[PlanRow]) -> dict[str, Any]:
    key = video_key(frames[0].item.key, frames[0].frame)
    n = frames[-1].image_id - frames[0].image_id + 1
    return {"key": key, "frame": None, "time_s": None, "n_source": n}


def _planned(run: Run, found: Chosen) -> Iterator[tuple[PlanRow, list[int] | None]]:
    """The run's own rows of what was chosen, with the faces that were."""
    faces = dict(zip(found.images, found.faces, strict=True))
    shards = np.unique(run.shards_of(np.array(found.images, np.int64))).tolist()
    for shard in shards:
        wanted = [image_id for image_id in run.inputs_of(shard) if image_id in faces]
        yield from ((row, faces[row.image_id]) for row in read_shard(run.folder, shard, wanted))


def _columns(image_id: int, row: PlanRow, faces: list[int] | None) -> dict[str, Any]:
    place = row.item.place.plan_columns() if row.item.place is not None else {}
    return {
        "image_id": image_id,
        "key": row.item.key,
        "path": row.item.path,
        **place,
        "face_index": faces,
        "video": row.video,
        "frame": row.frame,
        "time_s": row.time_s,
        "source": row.image_id,
        "n_source": 1,
    }
