"""What is made of a run: its inputs again, those that were chosen, a video or a track as one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow.dataset as ds

from ddfa_batch.pipeline import graph
from ddfa_batch.pipeline.engine import execute_planned
from ddfa_batch.pipeline.plan import PlanRow, Run, default_shard_size, new_run, read_shard
from ddfa_batch.pipeline.progress import Phase, Progress, Report, Totals, unheard
from ddfa_batch.pipeline.results import Results
from ddfa_batch.pipeline.selected_faces import Chosen, Selection, chosen
from ddfa_batch.schemas.arrays import I64, Bools
from ddfa_batch.schemas.config import Execution, ExportOptions, RenderOptions
from ddfa_batch.schemas.errors import InputError, OptionError, RunFolderError
from ddfa_batch.schemas.run import RunModel
from ddfa_batch.schemas.webdataset import WebDatasetOptions
from ddfa_batch.tasks.bundles.model_bundle import Bundle, load_bundle, recorded_folder
from ddfa_batch.tasks.files.video_inputs import video_key

Options = TypeVar("Options", RenderOptions, ExportOptions, WebDatasetOptions)


@dataclass(frozen=True)
class DerivedRequest(Generic[Options]):
    """What a user asks to be made of a run, resolved and checked."""

    #: The command: render, export or to-webdataset.
    kind: str
    #: The run it is made of.
    source: Results
    #: Where to.
    out: Path
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

    def run(self) -> Run:
        """The run that makes it, not written yet."""
        source = self.source.run
        planned = hashlib.sha256(json.dumps([(r["source"], r["face_index"]) for r in self.rows]).encode()).hexdigest()
        videos = any(row["n_source"] > 1 for row in self.rows)
        size = self.shard_size or (1 if videos else default_shard_size(self.kind, len(self.rows)))
        content = hashlib.sha256(json.dumps([r.checksums for r in self.source.receipts]).encode()).hexdigest()
        notes = []
        if not self.source.complete:
            notes.append(f"{self.source.path} is not finished; what is done of it is taken.")
        return new_run(
            self.kind,
            self.out,
            self.bundle,
            root=source.root,
            source=str(self.source.path),
            inputs=(planned, len(self.rows)),
            shard_size=size,
            options=self.options.as_dict(),
            notes=notes,
            asked=self.asked,
            content=content[:16],
        )


def execute_derived(
    request: DerivedRequest[Options],
    execution: Execution,
    stages: graph.Stages,
    *,
    few: int,
    overwrite: bool = False,
    verify: bool = False,
    report: Report = unheard,
) -> tuple[Run, Totals]:
    """Make all of a run that is not made yet; see `engine.execute_planned`."""
    report(Progress(Phase.LISTING, listed=len(request.rows)))
    return execute_planned(
        request.run(),
        request.rows,
        request.bundle,
        execution,
        stages,
        few=few,
        overwrite=overwrite,
        verify=verify,
        report=report,
    )


def bundle_of(model: RunModel) -> Bundle:
    """The bundle that a run names."""
    return load_bundle(recorded_folder(model.folder, model.digest))


def derived_request(
    kind: str,
    source: Results,
    out: Path,
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
    return DerivedRequest(kind, source, out, options, _some(source, rows), shard_size)


def tracks_request(
    kind: str, source: Results, out: Path, options: Options, selection: Selection, shard_size: int | None = None
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
    return DerivedRequest(kind, source, out, options, _some(source, rows), shard_size)


def _among(image_id: I64, face_index: I64, found: Chosen) -> Bools:
    """Which faces (N,) were chosen, by their inputs and their places there."""
    chosen_of = dict(zip(found.images, found.faces, strict=True))
    picked = [(chosen_of.get(i, ()), k) for i, k in zip(image_id.tolist(), face_index.tolist(), strict=True)]
    return np.array([places is None or k in places for places, k in picked], np.bool_)


def _refuse_other(source: Results, out: Path) -> None:
    if source.run.kind != "process":
        raise RunFolderError(f"{source.path} is a run of {source.run.kind}; this takes runs of process.")
    if out.resolve() == source.path.resolve():
        raise OptionError(f"{out} is the run itself; choose another folder for what is made of it.")


def _some(source: Results, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not rows:
        raise InputError(f"Nothing in {source.path} is as chosen.")
    return rows


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
