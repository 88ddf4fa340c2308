"""`export`: a run's faces → meshes with the colours of their photographs; tracks of videos → animated heads.

A shard of inputs goes through three stages: `meshes`, which reads the photographs again where colours are wanted and
writes the files; `write`, a row for every input and for every mesh; `commit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from ddfa_batch.pipeline import engine, graph, plan
from ddfa_batch.pipeline.derived_plan import DerivedRequest, bundle_of, execute_derived
from ddfa_batch.pipeline.photographs import photograph
from ddfa_batch.pipeline.plan import PlanRow, Run
from ddfa_batch.pipeline.progress import Report, Totals, unheard
from ddfa_batch.pipeline.run_faces import FaceRows, RunRows
from ddfa_batch.pipeline.run_tables import images_table, model_metadata
from ddfa_batch.pipeline.staging import StagedShard, commit, staged_work, staging
from ddfa_batch.schemas import tables
from ddfa_batch.schemas.arrays import F64, U8
from ddfa_batch.schemas.config import Execution, ExportOptions
from ddfa_batch.schemas.errors import ImageError, OptionError
from ddfa_batch.schemas.faces import ImageRecord
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.files import atomic, exported_mesh, store
from ddfa_batch.tasks.files.exported_mesh import ExportedMesh
from ddfa_batch.tasks.files.gltf_files import HeadMotion, write_glb
from ddfa_batch.tasks.files.picture_files import file_name
from ddfa_batch.tasks.files.run_folders import run_folder_at
from ddfa_batch.tasks.geometry import mesh_axes
from ddfa_batch.tasks.geometry.pose import rotation_and_scale, upright
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, image_pose, points
from ddfa_batch.tasks.rendering.photo_colours import photo_colours, uv_texture
from ddfa_batch.tasks.rendering.rasteriser import normals
from ddfa_batch.tasks.rendering.stills import face_shape
from ddfa_batch.tasks.rendering.topology import Topology

#: Side of a texture, pixels.
TEXTURE = 512
#: Metres a millimetre.
_METRES = 1e-3
#: Fewer inputs than this are exported in this process.
_FEW = 200
_WRITERS: dict[str, Callable[[Path, ExportedMesh], list[Path]]] = {
    "obj": exported_mesh.write_obj,
    "ply": exported_mesh.write_ply,
    "npz": exported_mesh.write_npz,
    "csv": exported_mesh.write_csv,
}


@dataclass(frozen=True)
class ExportedShard:
    """What `meshes` hands on."""

    #: One per input.
    records: list[ImageRecord]
    #: One per mesh, as `tables.exports_schema` has them.
    rows: list[dict[str, Any]]
    #: The staged folder of meshes.
    folder: str


@dataclass(frozen=True)
class ExportContext:
    """All that one process needs to export a run."""

    #: The run that exports, and its options.
    run: Run
    options: ExportOptions
    #: The run that is exported.
    source: Run
    #: The face model, and its expressions' names.
    morphable: MorphableModel
    expressions: tuple[str, ...]
    #: All vertices; side of the regressor's crops, pixels; the mesh.
    dense: PointBasis
    size: int
    topology: Topology


def context(out: str) -> ExportContext:
    """This process's `ExportContext` for the run in `out`."""
    return _context(out, run_folder_at(out).stamp(store.RUN))


@lru_cache(maxsize=2)
def _context(out: str, _: object) -> ExportContext:
    cv2.setNumThreads(1)
    run = plan.read_run(out)
    options = ExportOptions(**run.options)
    bundle = bundle_of(run.model)
    morphable = load_morphable(bundle)
    names = bundle.manifest.expression_names
    unnamed = tuple(f"expression_{k:02d}" for k in range(bundle.manifest.n_expression))
    return ExportContext(
        run,
        options,
        plan.read_run(options.run),
        morphable,
        names or unnamed,
        PointBasis.of(morphable),
        bundle.manifest.input_size,
        Topology.of(morphable),
    )


# ---------------------------------------------------------------------------------------------- the stages


def meshes(out: str, shard: int) -> ExportedShard:
    """Write the meshes of every input of a shard. One input's failure is its own row, and leaves no file."""
    c, rows = context(out), plan.read_shard(out, shard)
    with staged_work(out, _folder(shard)) as folder:
        folder.mkdir()
        done = engine.each_item(out, shard, rows, _Exporter(c, folder).export)
    told = [{**row, "file": f"{_folder(shard)}/{row['file']}"} for _, made in done for row in made or ()]
    return ExportedShard([record for record, _ in done], told, str(folder))


def _folder(shard: int) -> str:
    return f"{store.MESHES}/{store.shard_name(shard)}"


class _Exporter:
    """Writes the meshes of a shard's inputs into a folder."""

    def __init__(self, c: ExportContext, folder: Path) -> None:
        self._c, self._folder, self._rows = c, folder, RunRows(c.source)

    def export(self, row: PlanRow) -> tuple[ImageRecord, list[dict[str, Any]]]:
        """Write the meshes of one input; raises `ImageError` where it had an error, or its photograph is gone."""
        assert row.source is not None
        written: list[Path] = []
        try:
            made = self._track(row, written) if self._c.options.tracks else self._faces(row, written)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        had = self._rows.image(row.source)
        status = "ok" if made else "no_face"
        record = ImageRecord(
            row.image_id,
            row.item.key,
            status,
            width=had["width"],
            height=had["height"],
            n_faces=len(made),
            video=row.video,
            frame=row.frame,
            time_s=row.time_s,
        )
        return record, made

    def _faces(self, row: PlanRow, written: list[Path]) -> list[dict[str, Any]]:
        assert row.source is not None
        had = self._rows.image(row.source)
        if had["status"] == "error":
            raise ImageError(had["error_kind"], had["error_message"])
        faces = self._rows.faces(row.source).of_image(row.source, row.face_index)
        image = self._photograph(row, row.frame) if len(faces) else None
        return [self._face(row, faces.take(np.array([i])), image, had["height"], written) for i in range(len(faces))]

    def _photograph(self, row: PlanRow, frame: int | None) -> U8 | None:
        if self._c.options.colours == "none":
            return None
        return photograph(self._c.source, row.item, frame, self._c.options.max_pixels)

    def _face(self, row: PlanRow, face: FaceRows, image: U8 | None, height: int, written: list[Path]) -> dict[str, Any]:
        """Write one face that stands still."""
        c, index = self._c, int(face.face_index[0])
        mesh = self._mesh(face, image, height)
        path = self._folder / file_name(row.source or 0, row.item.key, f"-{index}.{c.options.format}")
        name = f"{row.item.key} {index}"
        if c.options.format == "glb":
            written += write_glb(path, mesh, name, self._extras(mesh), self._scale(mesh))
        else:
            written += _WRITERS[c.options.format](path, mesh)
        return self._row(path, face, row.item.key, mesh, 1)

    def _mesh(self, face: FaceRows, image: U8 | None, height: int) -> ExportedMesh:
        c = self._c
        in_image = points(c.dense, face.params, face.roi, c.size)[0]
        if c.options.frame == "image":
            to_mesh = mesh_axes.from_image(height, c.options.y_down)
            vertices, unit = in_image, "pixel"
            back = mesh_axes.inverse(to_mesh)
        else:
            to_mesh = mesh_axes.from_model(c.morphable.unit, c.options.y_down)
            vertices = face_shape(c.morphable, face.params[0])
            unit = "millimetre" if c.morphable.unit in mesh_axes.MILLIMETRES else c.morphable.unit
            T = image_pose(c.morphable.layout.pose(face.params), face.roi, c.size)[0]
            back = mesh_axes.after(T, mesh_axes.inverse(to_mesh))
        return self._coloured(_moved(vertices, to_mesh), back, unit, in_image, image)

    def _coloured(self, vertices: Any, back: F64, unit: str, in_image: Any, image: U8 | None) -> ExportedMesh:
        c = self._c
        given: dict[str, Any] = {}
        if image is not None and c.options.colours == "vertices":
            colours, _ = photo_colours(c.topology, image, in_image)
            given["colours"] = np.clip(np.rint(colours[:, ::-1]), 0, 255).astype(np.uint8)
        elif image is not None and c.topology.uv is not None:
            given["texture"] = uv_texture(c.topology, image, in_image, TEXTURE, margin=True)
        if c.topology.uv is not None:
            given["uv"] = c.topology.uv_down()
        facing = normals(vertices * np.array([1, -1, 1], np.float32), c.topology.triangles)
        axes = mesh_axes.Y_DOWN if c.options.y_down else mesh_axes.Y_UP
        upwards = (facing * np.array([1, -1, 1], np.float32)).astype(np.float32)
        triangles, marks = c.topology.triangles, c.morphable.landmarks
        return ExportedMesh(vertices, triangles, upwards, marks, back, unit, axes, **given)

    # ------------------------------------------------------------------------------------------- tracks

    def _track(self, row: PlanRow, written: list[Path]) -> list[dict[str, Any]]:
        """Write a track as a head whose expression changes, and which moves where the frame is the image's."""
        assert row.source is not None and row.n_source is not None and row.face_index is not None
        (track,) = row.face_index
        faces, times = self._followed(row.source, row.n_source, track)
        best = int(np.argmax(np.abs(faces.rotation[:, 2, 2])))  # the frame that shows most of the face
        had = self._rows.image(int(faces.image_id[best]))
        image = self._photograph(row, had["frame"])
        mesh, motion = self._moving(faces, times, best, had["height"], image)
        path = self._folder / file_name(track, row.item.key, "-track.glb")
        name = f"{row.item.key} track {track}"
        scale = self._scale(mesh) if motion.scale is None else 1.0
        written += write_glb(path, mesh, name, self._extras(mesh), scale, motion)
        return [self._row(path, faces, row.item.key, mesh, len(faces))]

    def _followed(self, first: int, n: int, track: int) -> tuple[FaceRows, F64]:
        parts, times = [], []
        for image_id in range(first, first + n):
            faces = self._rows.faces(image_id).of_image(image_id)
            here = faces.take(np.flatnonzero(faces.track == track))
            parts.append(here)
            times += [self._rows.image(image_id)["time_s"]] * len(here)
        stamps = np.array(times, np.float64)
        return FaceRows.concatenate(parts), stamps - stamps[0]

    def _moving(
        self, faces: FaceRows, times: F64, best: int, height: int, image: U8 | None
    ) -> tuple[ExportedMesh, HeadMotion]:
        c, layout = self._c, self._c.morphable.layout
        alpha = layout.coefficients(faces.params)
        n_shape = c.morphable.n_shape
        mean_shape = np.mean(alpha[:, :n_shape], axis=0, dtype=np.float64).astype(np.float32)
        neutral = c.morphable.mean + np.tensordot(mean_shape, c.morphable.basis[:n_shape], axes=1)
        to_mesh = mesh_axes.from_model(c.morphable.unit, y_down=False)
        unit = "millimetre" if c.morphable.unit in mesh_axes.MILLIMETRES else c.morphable.unit
        T = image_pose(layout.pose(faces.params), faces.roi, c.size)
        back = mesh_axes.after(T[best], mesh_axes.inverse(to_mesh))
        in_image = points(c.dense, faces.params[best : best + 1], faces.roi[best : best + 1], c.size)[0]
        mesh = self._coloured(_moved(neutral, to_mesh), back, unit, in_image, image)
        zoom = float(to_mesh[0, 0])
        targets = (c.morphable.basis[n_shape:] * zoom).astype(np.float32)
        moving: dict[str, Any] = {}
        if c.options.frame == "image":
            rotation, scale = rotation_and_scale(upright(T))
            position = T[:, :, 3] * [1, -1, 1] + [0, height - 1, 0]
            moving = {
                "rotation": mesh_axes.quaternions(rotation).astype(np.float32),
                "translation": position.astype(np.float32),
                "scale": (scale / zoom).astype(np.float32),
            }
        motion = HeadMotion(times, c.expressions, targets, alpha[:, n_shape:].astype(np.float32), **moving)
        return mesh, motion

    # ------------------------------------------------------------------------------------------ accounts

    def _scale(self, mesh: ExportedMesh) -> float:
        return _METRES if mesh.unit == "millimetre" else 1.0

    def _extras(self, mesh: ExportedMesh) -> dict[str, Any]:
        return {
            "unit": mesh.unit,
            "axes": mesh.axes,
            "image_from_mesh": mesh.image_from_mesh.ravel().tolist(),
            "landmarks68": mesh.landmarks.tolist(),
            "model": self._c.run.model.name,
            "licence": self._c.run.model.licence,
        }

    @staticmethod
    def _row(path: Path, faces: FaceRows, key: str, mesh: ExportedMesh, n_frames: int) -> dict[str, Any]:
        track = int(faces.track[0])
        return {
            "file": path.name,
            "face_id": int(faces.face_id[0]),
            "key": key,
            "track_id": None if track < 0 else track,
            "n_frames": n_frames,
            "unit": mesh.unit,
            "axes": mesh.axes,
            "image_from_mesh": mesh.image_from_mesh.ravel().tolist(),
        }


def _moved(vertices: Any, affine: F64) -> Any:
    return (vertices @ affine[:, :3].T + affine[:, 3]).astype(np.float32)


def write(out: str, shard: int, made: ExportedShard) -> StagedShard:
    """Write a shard's tables, under staged names, beside its meshes."""
    c, stem = context(out), store.shard_name(shard)
    with staging(out) as staged:
        if made.rows:  # stores have no empty folders
            staged.add(_folder(shard), Path(made.folder))
        else:
            atomic.discard(Path(made.folder))
        store.put_table(staged.path(f"{store.IMAGES}/{stem}.parquet"), images_table(made.records))
        schema = tables.exports_schema(model_metadata(c.run.model))
        rows = pa.Table.from_pylist(made.rows, schema=schema)
        store.put_table(staged.path(f"{store.EXPORTS}/{stem}.parquet"), rows)
        return staged.shard(made.records, {store.EXPORTS: len(made.rows), store.FACES: len(made.rows)})


#: The stages of a shard, by the names Dask's dashboard shows.
STAGES: graph.Stages = {"meshes": meshes, "write": write, "commit": commit}


# ------------------------------------------------------------------------------------------------- the run


def export(
    request: DerivedRequest[ExportOptions],
    execution: Execution,
    overwrite: bool = False,
    report: Report = unheard,
    verify: bool = False,
    extend: bool = False,
) -> tuple[Run, Totals]:
    """Export all of a run that is not exported yet; see `derived_plan.execute_derived`."""
    if request.options.colours == "texture" and load_morphable(request.bundle).uv is None:
        name = request.bundle.manifest.name
        raise OptionError(f"The model {name} has no UV coordinates; choose colours of vertices, or none.")
    return execute_derived(
        request, execution, STAGES, few=_FEW, overwrite=overwrite, verify=verify, extend=extend, report=report
    )


def default_colours(form: str, has_uv: bool) -> str:
    """What a format holds best: a texture, the colours of vertices, or none."""
    if form == "csv":
        return "none"
    return "texture" if has_uv and form in ("glb", "obj") else "vertices"
