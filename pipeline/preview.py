"""A few pictures of a run on one sheet, or clips on a sheet and in an animation, for a person to judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ddfa_batch.pipeline.photographs import photograph
from ddfa_batch.pipeline.plan import PlanRow, Run, read_shard
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.pipeline.video_tables import planned_videos
from ddfa_batch.schemas.arrays import I64, U8
from ddfa_batch.schemas.errors import ERROR_KINDS, DdfaError
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.rendering import face_pictures, overlay, sheets
from ddfa_batch.tasks.rendering.pictured_faces import PicturedFaces
from ddfa_batch.tasks.rendering.topology import Topology

#: Frames of a clip on the sheet, at most; side of a tile on the sheet and in the animation, pixels.
_COLUMNS, _TILE, _LARGE = 10, 150, 240
#: Clips side by side in the animation, and milliseconds of each of its frames.
_ACROSS, _MILLISECONDS = 4, 80
#: Side of the square that stands for a picture that could not be read.
_MISSING = 240
#: Told how many of how many pictures or clips are drawn.
Progress = Callable[[int, int], None]


def draw_faces(run: Run, n: int, progress: Progress = lambda done, of: None) -> list[str]:
    """Draw n inputs of a process run, with the mesh and landmarks of every face, to preview.png.

    Inputs without a face are shown as they are, and those that could not be read as a square with the reason, for
    every input has its row. Says where the sheet lies.
    """
    results, sheet = open_run(run.folder), "preview.png"
    shown = previewed(run.n_inputs, [(v.video, max(len(v.numbers), 1)) for v in planned_videos(run)], n)
    shards = np.unique(run.shards_of(shown)).tolist()
    planned = [row for shard in shards for row in read_shard(run.folder, shard) if row.image_id in shown]
    rows, faces = (list(_rows_of(run, table, shards, shown)) for table in (store.IMAGES, store.FACES))
    by_image: dict[int, list[dict[str, Any]]] = {row["image_id"]: [] for row in rows}
    for face in faces:
        by_image[face["image_id"]].append(face)
    topology = Topology.of(load_morphable(results.bundle))
    pairs = zip(planned, rows, strict=False)
    tiles = [_tile_of(results, topology, item, row, by_image[row["image_id"]]) for item, row in pairs]
    with run.folder.writing(sheet) as work:
        sheets.draw_sheet(work, tiles, lambda done: progress(done, len(tiles)))
    return [run.folder.where(sheet)]


def previewed(n_inputs: int, videos: Sequence[tuple[int, int]], n: int) -> I64:
    """The image ids, increasing, of the n inputs that are drawn: of the first n stills and videos.

    `videos` are the first image_id and the number of rows of each, in order. Where there are fewer than n stills and
    videos the rest are frames, shared out evenly among the videos and spread over each.
    """
    sizes = dict(videos)
    units: list[int] = []
    at = 0
    while at < n_inputs and len(units) < n:
        units.append(at)
        at += sizes.get(at, 1)
    counts = dict.fromkeys(units, 1)
    spare = n - len(units)
    while spare and (longer := [unit for unit in units if counts[unit] < sizes.get(unit, 1)]):
        for unit in longer[:spare]:
            counts[unit] += 1
        spare -= len(longer[:spare])
    return np.array([unit + place for unit in units for place in _spread(sizes.get(unit, 1), counts[unit])], np.int64)


def _spread(size: int, n: int) -> list[int]:
    """n of `size` places, spread over them; the middle one where it is one."""
    return [(2 * i + 1) * size // (2 * n) for i in range(n)]


def _rows_of(run: Run, table: str, shards: Sequence[int], image_ids: I64) -> Iterator[dict[str, Any]]:
    """The rows of some images in a table's shards, in order, one shard in memory at a time."""
    wanted = pa.array(image_ids)
    for shard in shards:
        rows = _table(run, table, shard)
        yield from rows.filter(pc.is_in(rows["image_id"], wanted)).to_pylist()


def _rows(run: Run, table: str, shards: range) -> Iterator[dict[str, Any]]:
    """The rows of a table's shards, in order, one shard in memory at a time."""
    for shard in shards:
        yield from _table(run, table, shard).to_pylist()


def _table(run: Run, table: str, shard: int) -> pa.Table:
    name = store.table_name(table, shard)
    with run.folder.reading(name):
        return pq.read_table(run.folder.source(name))


def outcome(row: dict[str, Any], faces: Sequence[dict[str, Any]]) -> str:
    """What came of an input, of its rows of the images and faces tables, in words."""
    if row["status"] == "error":
        return f"error: {reason(row)} ({row['error_kind']})"
    if len(faces) == 1:
        return f"1 face, yaw {faces[0]['yaw']:+.0f}°"
    return f"{len(faces)} faces" if faces else "no face"


def reason(row: dict[str, Any]) -> str:
    """Why an input could not be used, in words."""
    return ERROR_KINDS.get(row["error_kind"], row["error_message"])


def _tile_of(
    results: Results, topology: Topology, planned: PlanRow, row: dict[str, Any], faces: list[dict[str, Any]]
) -> sheets.Tile:
    """One input on the sheet, of its rows of the two tables."""
    name = PurePosixPath(row["key"]).name
    if row["status"] == "error":
        square, caption = (_MISSING, _MISSING), f"error: {row['error_kind']}"
        return sheets.Tile(square, lambda zoom: sheets.notice(reason(row), round(_MISSING * zoom)), name, caption)

    def draw(zoom: float) -> U8:
        try:
            image = _picture(results.run, planned)
        except DdfaError as fault:  # it was there when it was processed
            return sheets.notice(str(fault), round(zoom * min(row["height"], row["width"])))
        return face_pictures.overlay(*face_pictures.at_size(image, _pictured(results, faces), zoom), topology)

    return sheets.Tile((row["height"], row["width"]), draw, name, outcome(row, faces))


def _pictured(results: Results, faces: list[dict[str, Any]]) -> PicturedFaces:
    """The faces of one input, of its rows of the faces table."""
    n = len(faces)
    return PicturedFaces(
        results.vertices(face["face_id"] for face in faces),
        np.array([face["landmarks68"] for face in faces], np.float32).reshape(n, N_LANDMARKS, 3),
        np.array([face["landmarks68_visible"] for face in faces], np.bool_).reshape(n, N_LANDMARKS),
        np.array([face["rotation"] for face in faces], np.float64).reshape(n, 3, 3),
        np.array([face["roi"] for face in faces], np.float64).reshape(n, 4),
        np.array([-1 if face["track_id"] is None else face["track_id"] for face in faces], np.int64),
    )


def _picture(run: Run, planned: PlanRow) -> U8:
    """The picture of an input (H, W, 3) BGR, a still or a frame; raises `ImageError`."""
    return photograph(run, planned.item, planned.frame, run.options["max_pixels"])


def draw_clips(run: Run, n: int, progress: Progress = lambda done, of: None) -> list[str]:
    """Draw the first n clips to preview.png (frames above, labels below) and preview.gif; say where they lie."""
    results, clips = open_run(run.folder), _first_clips(run, n)
    if not clips:
        return []
    strips, moving = [], []
    for clip_id, labels in clips.items():
        pictures = results.clip(clip_id)
        shown = np.unique(np.linspace(0, len(pictures) - 1, min(_COLUMNS, len(pictures))).astype(int))
        plain = [sheets.square(pictures[i], _TILE) for i in shown]
        marked = [sheets.square(_with_labels(pictures[i], labels[i]), _TILE) for i in shown]
        strips += [np.hstack(plain), np.hstack(marked)]
        moving.append([sheets.square(picture, _LARGE) for picture in pictures])
        progress(len(moving), len(clips))
    sheet, animation = run.out / "preview.png", run.out / "preview.gif"
    sheets.write_png(sheet, np.vstack(strips))
    sheets.write_animation(animation, _forth_and_back(moving), _MILLISECONDS)
    return [str(sheet), str(animation)]


def _first_clips(run: Run, n: int) -> dict[int, list[dict[str, Any]]]:
    """The rows of the first n clips, frame by frame, by clip."""
    clips: dict[int, list[dict[str, Any]]] = {}
    for row in _rows(run, store.FRAMES, range(run.n_shards)):
        if row["clip_id"] not in clips and len(clips) == n:
            break
        clips.setdefault(row["clip_id"], []).append(row)
    return clips


def _with_labels(picture: U8, row: dict[str, Any]) -> U8:
    """A frame with the landmarks and the roi of its row."""
    points = np.reshape(row["landmarks68"], (N_LANDMARKS, 3))
    return overlay.with_landmarks(picture, points, np.array(row["landmarks68_visible"]), np.array(row["roi"]))


def _forth_and_back(clips: list[list[U8]]) -> Iterator[U8]:
    """All clips at once, side by side."""
    n = max(len(clip) for clip in clips)
    for i in (*range(n), *range(n - 2, 0, -1)):
        yield sheets.grid([clip[min(i, len(clip) - 1)] for clip in clips], _ACROSS)
