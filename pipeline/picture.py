"""The faces of one picture in memory: what a run's tables say of it, as arrays, without a folder."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ddfa_batch.pipeline.cluster import one_thread_each
from ddfa_batch.pipeline.context import ModelContext
from ddfa_batch.pipeline.faces import found_faces, geometry, image_faces
from ddfa_batch.schemas.arrays import F32, F64, I32, U8, Bools
from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.tasks.geometry import quality
from ddfa_batch.tasks.geometry.openness import openness
from ddfa_batch.tasks.geometry.picture import Picture
from ddfa_batch.tasks.geometry.reconstruct import points


@dataclass(frozen=True, eq=False)
class PictureFaces:
    """The N faces of one picture, best score first: the columns of a run's `faces` table, to the bit."""

    #: x0, y0, x1, y1 (N, 4) of the detector, pixels.
    boxes: F32
    #: Confidence (N,) in 0..1 that it is a face.
    scores: F32
    #: The square (N, 4) that was cropped last, pixels.
    rois: F64
    #: T, shape and expression (N, P), in the crop's frame.
    params: F32
    #: R (N, 3, 3), model axes.
    rotation: F32
    #: Degrees (N,); positive: the nose points to the picture's left.
    yaw: F32
    #: Degrees (N,); positive: the nose points down.
    pitch: F32
    #: Degrees (N,); positive: the head is tilted counter-clockwise as seen.
    roll: F32
    #: Pixels per unit of the model (N,).
    scale: F32
    #: Where the model's origin lands (N, 3), pixels.
    translation: F32
    #: x, y, z (N, 68, 3), pixels.
    landmarks68: F32
    #: Which landmarks the head does not hide (N, 68).
    visible: Bools
    #: √(width · height) of the landmarks' box (N,), pixels.
    face_size: F32
    #: Share (N,) of the roi beyond the picture.
    roi_outside: F32
    #: RMS of the whitened parameters (N,).
    param_distance: F32
    #: Variance of the crop's Laplacian (N,).
    sharpness: F32
    #: How far the person's right and left eye and the mouth are open (N,): gaps by widths.
    right_eye_open: F32
    left_eye_open: F32
    mouth_open: F32
    #: The model they were found with.
    _context: ModelContext = field(repr=False)

    def __len__(self) -> int:
        return len(self.scores)

    def vertices(self) -> F32:
        """Dense meshes (N, V, 3), picture pixels, made anew at each call."""
        with one_thread_each():
            return points(self._context.dense, self.params, self.rois, self._context.size)

    @property
    def triangles(self) -> I32:
        """Triangles (T, 3) of every mesh, vertex indices, counter-clockwise seen from outside."""
        return self._context.model.morphable.triangles


def picture_faces(context: ModelContext, image: U8) -> PictureFaces:
    """Find and reconstruct the faces of `image` (H, W, 3), BGR uint8; raises `ShapeError` for anything else."""
    _check_picture(image)
    picture = Picture.of(np.ascontiguousarray(image))
    with one_thread_each():
        faces = image_faces(found_faces(context, picture), picture, 0)
        meaning = geometry(context, faces.params, faces.roi)
    yaw, pitch, roll = meaning.angles.T
    right, left, mouth = openness(meaning.landmarks)
    return PictureFaces(
        boxes=faces.box,
        scores=faces.score,
        rois=faces.roi,
        params=faces.params,
        rotation=meaning.rotation,
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        scale=meaning.scale,
        translation=meaning.translation,
        landmarks68=meaning.landmarks,
        visible=meaning.visible,
        face_size=quality.face_size(meaning.landmarks),
        roi_outside=faces.roi_outside,
        param_distance=meaning.param_distance,
        sharpness=faces.sharpness,
        right_eye_open=right,
        left_eye_open=left,
        mouth_open=mouth,
        _context=context,
    )


def _check_picture(image: object) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        is_array = isinstance(image, np.ndarray)
        what = f"{image.dtype} {image.shape}" if is_array else type(image).__name__  # type: ignore[attr-defined]
        raise ShapeError(f"A picture is a uint8 array (H, W, 3), blue first as OpenCV reads it, but this is {what}.")
    if not image.size:
        raise ShapeError(f"A picture has pixels, but this one is {image.shape}.")
