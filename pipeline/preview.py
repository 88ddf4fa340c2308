"""A few pictures of a run on one sheet, or clips on a sheet and in an animation, for a person to judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from ddfa_batch.pipeline.plan import PlanRow, Run, read_shard
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.errors import ERROR_KINDS, DdfaError
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.files import images, store
from ddfa_batch.tasks.files.inputs import resolve_path
from ddfa_batch.tasks.rendering import figures

#: Frames of a clip on the sheet, at most; side of a tile on the sheet and in the animation, pixels.
_COLUMNS, _TILE, _LARGE = 10, 150, 240
#: Clips side by side in the animation, and milliseconds of each of its frames.
_ACROSS, _MILLISECONDS = 4, 80
_SEEN, _HIDDEN = (90, 220, 80), (70, 70, 235)
#: Side of the square that stands for a picture that could not be read.
_MISSING = 240


def draw_faces(run: Run, n: int) -> list[Path]:
    """Draw the first n inputs of a process run, with the mesh and landmarks of every face, to preview.png.

    Inputs without a face are shown as they are, and those that could not be read as a square with the reason, for
    every input has its row. Gives the sheet's path.
    """
    results, sheet = open_run(run.out), run.out / "preview.png"
    shards = range(min(run.n_shards, -(-n // run.shard_size)))
    planned = [row for shard in shards for row in read_shard(run.out, shard)][:n]
    rows, faces = (_first(run, table, shards) for table in (store.IMAGES, store.FACES))
    by_image: dict[int, list[dict[str, Any]]] = {row["image_id"]: [] for row in rows}
    for face in faces:
        by_image[face["image_id"]].append(face)
    tiles = [_tile_of(results, item, row, by_image[row["image_id"]])
             for item, row in zip(planned, rows, strict=False)]  # fmt: skip
    figures.draw_sheet(sheet, tiles)
    return [sheet]


def _first(run: Run, table: str, shards: range) -> list[dict[str, Any]]:
    """The rows of a table's first shards, in order."""
    files = (run.out / table / f"{store.shard_name(shard)}.parquet" for shard in shards)
    return [row for file in files for row in pq.read_table(file).to_pylist()]


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


def _tile_of(results: Results, planned: PlanRow, row: dict[str, Any], faces: list[dict[str, Any]]) -> figures.Tile:
    """One input on the sheet, of its rows of the two tables."""
    name = PurePosixPath(row["key"]).name
    if row["status"] == "error":
        said = f"error: {row['error_kind']}"
        return figures.Tile((_MISSING, _MISSING), lambda zoom: figures.notice(reason(row), round(_MISSING * zoom)),
                            name, said)  # fmt: skip

    def draw(zoom: float) -> U8:
        try:
            path = resolve_path(Path(results.run.root), planned.item)
            image = images.decode(images.read_bytes(path), results.run.identity["options"]["max_pixels"])
        except DdfaError as fault:  # it was there when it was processed
            return figures.notice(str(fault), round(zoom * min(row["height"], row["width"])))
        meshes = results.vertices(face["face_id"] for face in faces)
        landmarks = np.array([face["landmarks68"] for face in faces], np.float32).reshape(-1, N_LANDMARKS, 3)
        seen = np.array([face["landmarks68_visible"] for face in faces], np.bool_).reshape(-1, N_LANDMARKS)
        return figures.overlay(image, meshes, results.triangles, landmarks, seen, zoom)

    return figures.Tile((row["height"], row["width"]), draw, name, outcome(row, faces))


def draw_clips(run: Run, n: int) -> list[Path]:
    """Draw the first n clips to preview.png (frames above, labels below) and preview.gif; give their paths."""
    results = open_run(run.out)
    columns = ["clip_id", "frame", "landmarks68", "landmarks68_visible", "roi"]
    rows = results.frames(columns=columns).to_pylist()
    clips: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        if row["clip_id"] in clips or len(clips) < n:
            clips.setdefault(row["clip_id"], []).append(row)
    if not clips:
        return []
    strips, moving = [], []
    for clip_id, labels in clips.items():
        pictures = results.clip(clip_id)
        chosen = np.unique(np.linspace(0, len(pictures) - 1, min(_COLUMNS, len(pictures))).astype(int))
        plain = [_tile(pictures[i], _TILE) for i in chosen]
        marked = [_tile(_with_landmarks(pictures[i], labels[i]), _TILE) for i in chosen]
        strips += [np.hstack(plain), np.hstack(marked)]
        moving.append([_tile(p, _LARGE) for p in pictures])
    sheet, animation = run.out / "preview.png", run.out / "preview.gif"
    with store.whole_file(sheet) as work:
        work.write_bytes(cv2.imencode(".png", np.vstack(strips))[1].tobytes())
    with store.whole_file(animation) as work:
        _animate(work, moving)
    return [sheet, animation]


def _with_landmarks(picture: U8, label: dict[str, Any]) -> U8:
    """The picture with the label's landmarks, green where they can be seen, and its roi."""
    marked = picture.copy()
    thick = max(1, round(max(picture.shape[:2]) / 200))
    x0, y0, x1, y1 = (round(v) for v in label["roi"])
    cv2.rectangle(marked, (x0, y0), (x1, y1), (200, 200, 60), thick)
    points = np.reshape(label["landmarks68"], (68, 3))
    for (x, y, _), seen in zip(points, label["landmarks68_visible"], strict=True):
        cv2.circle(marked, (round(x), round(y)), thick + 1, _SEEN if seen else _HIDDEN, -1, cv2.LINE_AA)
    return marked


def _tile(picture: U8, side: int) -> U8:
    """A picture fitted into a square, with bars."""
    height, width = picture.shape[:2]
    zoom = side / max(height, width)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    tile = np.full((side, side, 3), 24, np.uint8)
    y, x = (side - size[1]) // 2, (side - size[0]) // 2
    tile[y : y + size[1], x : x + size[0]] = small
    return tile


def _animate(path: Path, clips: list[list[U8]]) -> None:
    """All clips at once, forwards and back."""
    n = max(len(clip) for clip in clips)
    order = [*range(n), *range(n - 2, 0, -1)]
    frames = []
    for i in order:
        tiles = [clip[min(i, len(clip) - 1)] for clip in clips]
        tiles += [np.full_like(tiles[0], 24)] * (-len(tiles) % min(_ACROSS, len(tiles)))
        across = min(_ACROSS, len(clips))
        sheet = np.vstack([np.hstack(tiles[k : k + across]) for k in range(0, len(tiles), across)])
        frames.append(Image.fromarray(np.ascontiguousarray(sheet[..., ::-1])))
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], duration=_MILLISECONDS, loop=0)
