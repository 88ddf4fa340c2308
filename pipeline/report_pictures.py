"""Pictures of the faces that a report shows: their photographs are read again, each once, where the run had them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from ddfa_batch.pipeline import plan
from ddfa_batch.pipeline.photographs import photographs
from ddfa_batch.pipeline.plan import PlanRow
from ddfa_batch.pipeline.results import Results
from ddfa_batch.pipeline.run_faces import FaceRows, RunRows
from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.schemas.config import FACES_PER_IMAGE
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.geometry.crop import crop
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points
from ddfa_batch.tasks.rendering.face_pictures import mesh
from ddfa_batch.tasks.rendering.face_viewer import ViewedFace, viewed_face
from ddfa_batch.tasks.rendering.pictured_faces import PicturedFaces
from ddfa_batch.tasks.rendering.topology import Topology

#: Side of the pictures, pixels.
SIDE = 128


@dataclass(frozen=True)
class FacePicture:
    """What is shown of one face."""

    #: Its input.
    key: str
    #: Its roi in the photograph (SIDE, SIDE, 3) BGR; None where that cannot be read.
    photograph: U8 | None = None
    #: The same with the mesh over it; None where that was not asked for.
    meshed: U8 | None = None
    #: The mesh to turn; None likewise.
    viewed: ViewedFace | None = None


class FacePictures:
    """Makes pictures of faces of a run."""

    def __init__(self, run: Results) -> None:
        self._run, self._rows = run.run, RunRows(run.run)
        bundle = run.bundle
        morphable = load_morphable(bundle)
        self._dense, self._size = PointBasis.of(morphable), bundle.manifest.input_size
        self.topology = Topology.of(morphable)

    def of(self, face_ids: Sequence[int], meshed: Collection[int], viewed: Collection[int]) -> dict[int, FacePicture]:
        """Pictures by face id; of some with the mesh over it, of some with the mesh to turn."""
        by_image: dict[int, list[int]] = {}
        for face_id in sorted(face_ids):
            by_image.setdefault(face_id // FACES_PER_IMAGE, []).append(face_id)
        found = {}
        for row, image in photographs(self._run, self._planned(by_image), self._run.options["max_pixels"]):
            ids, key = by_image[row.image_id], row.item.key
            if isinstance(image, ImageError):
                found.update({face_id: FacePicture(key) for face_id in ids})
                continue
            for face_id, face in self._faces(row.image_id, ids):
                found[face_id] = self._pictured(key, image, face, face_id in meshed, face_id in viewed)
        return found

    def _planned(self, image_ids: Iterable[int]) -> Iterator[PlanRow]:
        """The plan's rows of inputs, in order; a shard's are read once."""
        for shard, ids in groupby(image_ids, lambda i: int(self._run.shards_of(np.array([i]))[0])):
            yield from plan.read_shard(self._run.folder, shard, list(ids))

    def _faces(self, image_id: int, face_ids: list[int]) -> Iterator[tuple[int, FaceRows]]:
        faces = self._rows.faces(image_id)
        for face_id in face_ids:
            yield face_id, faces.of_image(image_id, [face_id % FACES_PER_IMAGE])

    def _pictured(self, key: str, image: U8, face: FaceRows, meshed: bool, viewed: bool) -> FacePicture:
        roi = np.rint(face.roi[0])
        small = crop(image, roi, SIDE)
        if not (meshed or viewed):
            return FacePicture(key, small)
        vertices = points(self._dense, face.params, face.roi, self._size)
        over = mesh(small, _within(face, vertices, roi), self.topology)
        turned = viewed_face(key, image, vertices[0], face.rotation[0], self.topology) if viewed else None
        return FacePicture(key, small, over, turned)


def _within(face: FaceRows, meshes: F32, roi: np.ndarray) -> PicturedFaces:
    """A face as it lies in the picture of its roi."""
    corner = np.array([roi[0], roi[1], 0], np.float32)
    no_track = np.full(1, -1, np.int64)
    moved = PicturedFaces(
        meshes - corner,
        face.landmarks - corner,
        face.visible,
        face.rotation,
        face.roi - np.tile(roi[:2], 2),
        no_track,
    )
    return moved.scaled(SIDE / max(roi[2] - roi[0], 1), SIDE / max(roi[3] - roi[1], 1))
