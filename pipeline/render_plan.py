"""What of a run is to be drawn: its inputs again, those that were chosen, a video as one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ddfa_batch.pipeline.plan import PlanRow, Run, default_shard_size, new_run, read_shard
from ddfa_batch.pipeline.results import Results
from ddfa_batch.pipeline.selected_faces import Chosen, Selection, chosen
from ddfa_batch.schemas.config import RenderOptions
from ddfa_batch.schemas.errors import InputError, RunFolderError
from ddfa_batch.schemas.run import RunModel
from ddfa_batch.tasks.bundles.model_bundle import Bundle, load_bundle, recorded_folder
from ddfa_batch.tasks.files.video_inputs import video_key


@dataclass(frozen=True)
class RenderRequest:
    """What a user asks `render` for, resolved and checked."""

    #: The run that is drawn.
    source: Results
    #: Where to.
    out: Path
    #: The options.
    options: RenderOptions
    #: The plan's rows.
    rows: list[dict[str, Any]]
    #: Inputs of a shard; None for what suits their number.
    shard_size: int | None = None

    @property
    def bundle(self) -> Bundle:
        """The model that the run was made with."""
        return self.source.bundle

    def run(self) -> Run:
        """The run that draws, not written yet."""
        source = self.source.run
        planned = hashlib.sha256(json.dumps([(r["source"], r["face_index"]) for r in self.rows]).encode()).hexdigest()
        videos = any(row["n_source"] > 1 for row in self.rows)
        size = self.shard_size or (1 if videos else default_shard_size("render", len(self.rows)))
        content = hashlib.sha256(json.dumps([r.checksums for r in self.source.receipts]).encode()).hexdigest()
        notes = []
        if not self.source.complete:
            notes.append(f"{self.source.path} is not finished; what is done of it is drawn.")
        return new_run(
            "render",
            self.out,
            self.bundle,
            root=source.root,
            source=str(self.source.path),
            inputs=(planned, len(self.rows)),
            shard_size=size,
            options=self.options.as_dict(),
            notes=notes,
            content=content[:16],
        )


def bundle_of(model: RunModel) -> Bundle:
    """The bundle that a run names."""
    return load_bundle(recorded_folder(model.folder, model.digest))


def render_request(
    source: Results, out: Path, options: RenderOptions, selection: Selection, shard_size: int | None = None
) -> RenderRequest:
    """What to draw of a run. Raises `InputError` where nothing is chosen, `RunFolderError` for a run without faces."""
    if source.run.kind != "process":
        raise RunFolderError(f"{source.path} is a run of {source.run.kind}; only those of process can be drawn.")
    found = chosen(source, selection)
    if not found.images:
        raise InputError(f"Nothing in {source.path} is as chosen; there is nothing to draw.")
    whole = selection.everything and not options.frames
    rows = list(_rows(source.run, found, whole))
    return RenderRequest(source, out, options, rows, shard_size)


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
        yield from ((row, faces[row.image_id]) for row in read_shard(run.out, shard) if row.image_id in faces)


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
