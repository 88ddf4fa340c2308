"""The faces of a report as its page takes them: contact sheets, poses, strips, and those one can turn."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from ddfa_batch.pipeline.report_choice import ReportChoice
from ddfa_batch.pipeline.report_numbers import ReportNumbers
from ddfa_batch.pipeline.report_pictures import FacePictures
from ddfa_batch.pipeline.results import Results
from ddfa_batch.schemas.arrays import I64, U8
from ddfa_batch.tasks.rendering.face_viewer import ViewerContent, bytes_of
from ddfa_batch.tasks.rendering.report_page import FaceTile, PoseContent, TrackStrip
from ddfa_batch.tasks.rendering.svg_charts import Thumbnail

#: Side of the pictures among the poses, pixels; quality of all pictures' WebP.
_SMALL, _QUALITY = 56, 78
#: Faces that can be turned at most, and bytes of the page for them.
_VIEWED, _VIEWER_BYTES = 12, 1_900_000


class ReportFaces:
    """Shows the faces of a run that were chosen."""

    def __init__(self, run: Results, numbers: ReportNumbers, rng: np.random.Generator, viewer: bool) -> None:
        self._numbers, self._choice = numbers, ReportChoice.of(numbers, rng)
        self._face_ids = numbers.faces["face_id"].to_numpy()
        pictures = FacePictures(run)
        self._topology = pictures.topology
        turned = self._choice.by_turns()[: self._room()] if viewer else []
        shown, meshed, viewed = (
            self._face_ids[np.array(sorted(rows), np.int64)].tolist()
            for rows in (self._choice.shown, self._choice.meshed, turned)
        )
        self._pictures = pictures.of(shown, set(meshed), set(viewed))
        there = [row for row in turned if self._pictures[int(self._face_ids[row])].viewed is not None]
        self._place = {row: place for place, row in enumerate(there)}

    def _room(self) -> int:
        """How many faces that can be turned the page has room for."""
        shared, each = bytes_of(self._topology)
        return int(np.clip((_VIEWER_BYTES - shared) // each, 1, _VIEWED))

    # --------------------------------------------------------------------------------------- what is shown

    def sheets(self) -> list[tuple[str, str, list[FaceTile]]]:
        """Contact sheets: title, what is in it, faces."""
        asked = [
            ("Best", "The highest scores.", self._choice.best),
            ("Worst", "The lowest scores: look here first.", self._choice.worst),
            ("At random", "What to expect of the rest.", self._choice.random),
        ]
        return [(title, said, self._tiles(rows)) for title, said, rows in asked]

    def _tiles(self, rows: I64) -> list[FaceTile]:
        return [self._tile(row, self._key(row), self._place.get(row)) for row in rows.tolist()]

    def poses(self) -> PoseContent:
        """A sample of the poses, and the best face for every 15 degrees."""
        yaw, pitch = self._numbers.column("yaw"), self._numbers.column("pitch")
        thumbnails = []
        for row in self._choice.pictured.tolist():
            picture = self._pictures[int(self._face_ids[row])].photograph
            if picture is not None:
                small = np.asarray(cv2.resize(picture, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA), np.uint8)
                thumbnails.append(Thumbnail(float(yaw[row]), float(pitch[row]), _data_url(small), self._title(row)))
        return PoseContent(yaw[self._choice.posed], pitch[self._choice.posed], len(yaw), thumbnails)

    def strips(self) -> list[TrackStrip]:
        """The longest tracks of videos."""
        found = []
        for track in self._choice.tracks:
            time_s = self._numbers.column("time_s")
            tiles = [self._tile(row, f"{time_s[row]:.2f} s", None) for row in track.shown.tolist()]
            video = self._key(int(track.rows[0])).rpartition("#")[0] or self._key(int(track.rows[0]))
            title = f"{video}: track {track.track_id}, {len(track.rows):,} frames"
            angles = {name: self._numbers.column(name)[track.rows] for name in ("yaw", "pitch", "roll")}
            found.append(TrackStrip(title, tiles, time_s[track.rows], angles))
        return found

    def viewer(self) -> ViewerContent | None:
        """The faces that can be turned; None where there are none."""
        faces = [self._pictures[int(self._face_ids[row])].viewed for row in self._place]
        there = [face for face in faces if face is not None]
        return ViewerContent(there, self._topology) if there else None

    # -------------------------------------------------------------------------------------- what is told of it

    def _key(self, row: int) -> str:
        return self._pictures[int(self._face_ids[row])].key

    def _title(self, row: int) -> str:
        names = ("score", "yaw", "pitch", "roll", "face_size")
        score, yaw, pitch, roll, size = (float(self._numbers.faces[name][row].as_py()) for name in names)
        return (
            f"{self._key(row)}, face {self._face_ids[row]}: score {score:.3f}, yaw {yaw:+.0f}°, pitch {pitch:+.0f}°, "
            f"roll {roll:+.0f}°, {size:.0f} pixels"
        )

    def _tile(self, row: int, caption: str, viewed: int | None) -> FaceTile:
        made = self._pictures[int(self._face_ids[row])]
        photograph, meshed = (None if p is None else _data_url(p) for p in (made.photograph, made.meshed))
        return FaceTile(photograph, meshed, caption, self._title(row), viewed)


def _data_url(picture: U8) -> str:
    """A picture (H, W, 3) BGR as a URL that holds it."""
    _, data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()
