"""`render`: a run's inputs and their faces → pictures and annotated videos.

A shard of inputs goes through three stages: `draw`, which reads each photograph again where the run had it, and holds
pixels; `write`, the images table; `commit`. Every input gets a picture: what could not be read a card that says why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.pipeline import engine, graph, plan
from ddfa_batch.pipeline.derived_plan import DerivedRequest, bundle_of, execute_derived
from ddfa_batch.pipeline.photographs import photograph
from ddfa_batch.pipeline.plan import PlanRow, Run
from ddfa_batch.pipeline.progress import Report, Totals, unheard
from ddfa_batch.pipeline.run_faces import FaceRows, RunRows
from ddfa_batch.pipeline.run_tables import images_table
from ddfa_batch.pipeline.staging import StagedShard, commit, staged_work, staging
from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.config import Execution, RenderOptions
from ddfa_batch.schemas.errors import ERROR_KINDS, ImageError, OptionError
from ddfa_batch.schemas.faces import ImageRecord
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.guarded_videos import read_frames
from ddfa_batch.tasks.files.inputs import resolve_path
from ddfa_batch.tasks.files.picture_files import encoded, ending, file_name
from ddfa_batch.tasks.files.run_folders import run_folder_at
from ddfa_batch.tasks.files.video_inputs import known_index
from ddfa_batch.tasks.files.video_writer import VideoWriter
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points
from ddfa_batch.tasks.rendering.face_pictures import at_size, side_by_side
from ddfa_batch.tasks.rendering.pictured_faces import PicturedFaces
from ddfa_batch.tasks.rendering.sheets import notice
from ddfa_batch.tasks.rendering.topology import Topology

#: Side of the card that stands for a picture that could not be read, pixels.
_CARD = 360
#: Fewer pictures than this are drawn in this process.
_FEW = 200


@dataclass(frozen=True)
class DrawnShard:
    """What `draw` hands on."""

    #: One per input.
    records: list[ImageRecord]
    #: The staged folder of pictures.
    folder: str


@dataclass(frozen=True)
class RenderContext:
    """All that one process needs to draw a run."""

    #: The run that draws.
    run: Run
    #: Its options.
    options: RenderOptions
    #: The run that is drawn.
    source: Run
    #: All vertices.
    dense: PointBasis
    #: Side of the regressor's crops, pixels.
    size: int
    #: The model's mesh.
    topology: Topology

    def pictured(self, faces: FaceRows) -> PicturedFaces:
        """Faces as they are drawn."""
        meshes = points(self.dense, faces.params, faces.roi, self.size)
        return PicturedFaces(meshes, faces.landmarks, faces.visible, faces.rotation, faces.roi, faces.track)

    def drawn(self, image: U8, faces: FaceRows) -> U8:
        """The pictures of an input (H, W, 3) BGR, side by side, in the size that is asked for."""
        pictured = self.pictured(faces)
        if self.options.longest is not None:
            image, pictured = at_size(image, pictured, self.options.longest / max(image.shape[:2]))
        return side_by_side(image, pictured, self.topology, self.options.kinds, self.options.texture)


def context(out: str) -> RenderContext:
    """This process's `RenderContext` for the run in `out`."""
    return _context(out, run_folder_at(out).stamp(store.RUN))


@lru_cache(maxsize=2)
def _context(out: str, _: object) -> RenderContext:
    cv2.setNumThreads(1)
    run = plan.read_run(out)
    options = RenderOptions.from_dict(run.options)
    source = plan.read_run(options.run)
    bundle = bundle_of(run.model)
    morphable = load_morphable(bundle)
    dense, topology = PointBasis.of(morphable), Topology.of(morphable)
    return RenderContext(run, options, source, dense, bundle.manifest.input_size, topology)


# ---------------------------------------------------------------------------------------------- the stages


def draw(out: str, shard: int) -> DrawnShard:
    """Draw every input of a shard. One input's failure is its own row, and a card in place of its picture."""
    c, rows = context(out), plan.read_shard(out, shard)
    with staged_work(out, _folder(shard)) as folder:
        folder.mkdir()
        artist = _Artist(c, folder)
        records = [record for record, _ in engine.each_item(out, shard, rows, artist.draw)]
        named = [
            record if record.picture else artist.card(row, record) for row, record in zip(rows, records, strict=True)
        ]
    return DrawnShard([replace(r, picture=f"{_folder(shard)}/{r.picture}") for r in named], str(folder))


def _folder(shard: int) -> str:
    return f"{store.PICTURES}/{store.shard_name(shard)}"


class _Artist:
    """Draws the inputs of a shard into a folder."""

    def __init__(self, c: RenderContext, folder: Path) -> None:
        self._c, self._folder, self._rows = c, folder, RunRows(c.source)

    def draw(self, row: PlanRow) -> tuple[ImageRecord, None]:
        """Draw one input; raises `ImageError` where there is no picture to draw on."""
        assert row.source is not None
        if (row.n_source or 1) > 1:
            return self._video(row), None
        had = self._rows.image(row.source)
        if had["status"] == "error":
            raise ImageError(had["error_kind"], had["error_message"])
        image = photograph(self._c.source, row.item, row.frame, self._c.options.max_pixels)
        faces = self._rows.faces(row.source).of_image(row.source, row.face_index)
        name = self._save(row, self._c.drawn(image, faces))
        return _record(row, image, len(faces), name), None

    def _save(self, row: PlanRow, picture: U8) -> str:
        form = self._c.options.format
        name = file_name(row.source or 0, row.item.key, ending(form))
        (self._folder / name).write_bytes(encoded(picture, form))
        return name

    def card(self, row: PlanRow, record: ImageRecord) -> ImageRecord:
        """A card that says why there is no picture."""
        why = ERROR_KINDS.get(str(record.error_kind), str(record.error_message))
        return replace(record, picture=self._save(row, notice(f"{Path(row.item.key).name}: {why}", _CARD)))

    def _video(self, row: PlanRow) -> ImageRecord:
        """An annotated mp4 of the frames of a video that the run took."""
        assert row.source is not None and row.n_source is not None
        name = file_name(row.source, row.item.key, ".mp4")
        most = self._c.options.max_pixels
        taken = [had for had in self._rows.images(row.source, row.n_source) if had["frame"] is not None]
        index = known_index(resolve_path(Path(self._c.source.root), row.item), most)
        numbers = np.array([had["frame"] for had in taken], np.int64)
        if not len(numbers) or numbers[-1] >= len(index):
            raise ImageError("failed", "The file changed since the run was made: it has other frames now.")
        n_faces, first = 0, None
        with VideoWriter(self._folder / name) as video:
            for had, frame in zip(taken, read_frames(index, numbers, most), strict=True):
                if frame.image is None:
                    continue
                faces = self._rows.faces(had["image_id"]).of_image(had["image_id"])
                n_faces, first = n_faces + len(faces), frame.image if first is None else first
                video.add(self._c.drawn(frame.image, faces), frame.time_s)
        if first is None:
            (self._folder / name).unlink()
            raise ImageError("no_frames", "None of the video's frames can be decoded.")
        return _record(row, first, n_faces, name)


def _record(row: PlanRow, image: U8, n_faces: int, name: str) -> ImageRecord:
    height, width = image.shape[:2]
    status = "ok" if n_faces else "no_face"
    return ImageRecord(
        row.image_id,
        row.item.key,
        status,
        width=width,
        height=height,
        n_faces=n_faces,
        video=row.video,
        frame=row.frame,
        time_s=row.time_s,
        picture=name,
    )


def write(out: str, shard: int, drawn: DrawnShard) -> StagedShard:
    """Write a shard's images table, under a staged name, beside its pictures."""
    with staging(out) as staged:
        staged.add(_folder(shard), Path(drawn.folder))
        path = staged.path(f"{store.IMAGES}/{store.shard_name(shard)}.parquet")
        store.put_table(path, images_table(drawn.records, picture=True))
        faces = sum(record.n_faces for record in drawn.records)
        return staged.shard(drawn.records, {store.PICTURES: len(drawn.records), store.FACES: faces})


#: The stages of a shard, by the names Dask's dashboard shows.
STAGES: graph.Stages = {"draw": draw, "write": write, "commit": commit}


# ------------------------------------------------------------------------------------------------- the run


def render(
    request: DerivedRequest[RenderOptions],
    execution: Execution,
    overwrite: bool = False,
    report: Report = unheard,
    verify: bool = False,
    extend: bool = False,
) -> tuple[Run, Totals]:
    """Draw all of a run that is not drawn yet; see `derived_plan.execute_derived`."""
    if "uv" in request.options.kinds and load_morphable(request.bundle).uv is None:
        raise OptionError(f"The model {request.bundle.manifest.name} has no UV coordinates; leave out the kind uv.")
    return execute_derived(
        request, execution, STAGES, few=_FEW, overwrite=overwrite, verify=verify, extend=extend, report=report
    )
