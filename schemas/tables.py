"""The tables a run writes: columns, types, units. The one place that knows them."""

from __future__ import annotations

import json

import pyarrow as pa

from ddfa_batch.schemas.morphable import N_LANDMARKS

SCHEMA_VERSION = 1

#: (column, type, meaning) of `images/*.parquet`, one row per input.
_IMAGES = [
    ("image_id", pa.int64(), "position of the input in the plan, from 0"),
    ("key", pa.string(), "the input's path relative to the run's root, or as its list names it"),
    ("status", pa.string(), "ok, no_face or error"),
    ("error_kind", pa.string(), "why, in one word; null unless status is error"),
    ("error_message", pa.string(), "why, in one sentence; null unless status is error"),
    ("width", pa.int32(), "pixels, after EXIF orientation"),
    ("height", pa.int32(), "pixels, after EXIF orientation"),
    ("n_bytes", pa.int64(), "size of the file"),
    ("n_faces", pa.int32(), "rows of the faces table with this image_id"),
    ("decode_ms", pa.float32(), "time to read and decode"),
    ("detect_ms", pa.float32(), "time to find the faces"),
    ("regress_ms", pa.float32(), "time to crop and regress all faces, refinement included"),
]

#: Columns of `plan.parquet`: `path` only where the key cannot be turned back into it.
PLAN = pa.schema(
    [
        pa.field("image_id", pa.int64(), False),
        pa.field("key", pa.string(), False),
        pa.field("path", pa.binary()),
        pa.field("boxes", pa.list_(pa.float32())),
    ]
)

IMAGES = pa.schema(
    [pa.field(name, kind, name not in ("image_id", "key", "status", "n_faces")) for name, kind, _ in _IMAGES],
    metadata={
        "ddfa_batch.schema": f"images {SCHEMA_VERSION}",
        "ddfa_batch.columns": json.dumps({name: meaning for name, _, meaning in _IMAGES}),
    },
)


def _vector(kind: pa.DataType, length: int) -> pa.DataType:
    return pa.list_(kind, length)


def faces_schema(n_params: int, metadata: dict[str, str]) -> pa.Schema:
    """The schema of `faces/*.parquet` for parameter vectors of `n_params`, one row per face.

    `metadata` (topology, model digest, licence …) is added to the file's own.
    """
    f32 = pa.float32()
    columns: list[tuple[str, pa.DataType, str]] = [
        ("face_id", pa.int64(), "image_id · 10000 + face_index"),
        ("image_id", pa.int64(), "row of the images table"),
        ("key", pa.string(), "the input's key, as in the images table"),
        ("face_index", pa.int32(), "rank of the face in its image, best score first"),
        ("box", _vector(f32, 4), "x0, y0, x1, y1 of the detector, image pixels"),
        ("score", f32, "the detector's confidence in [0, 1]"),
        ("roi", _vector(pa.float64(), 4), "x0, y0, x1, y1 of the square that was cropped, image pixels"),
        ("params", _vector(f32, n_params), "T (3×4 row-major), then shape, then expression; crop's frame"),
        ("rotation", _vector(f32, 9), "R, 3×3 row-major, model axes (x right, y up, z to the viewer)"),
        ("yaw", f32, "degrees; positive: the nose points to the image's left (as in 300W-LP)"),
        ("pitch", f32, "degrees; positive: the nose points down"),
        ("roll", f32, "degrees; positive: the head is tilted counter-clockwise as seen"),
        ("scale", f32, "image pixels per unit of the model"),
        ("tx", f32, "image x of the model's origin, pixels"),
        ("ty", f32, "image y of the model's origin, pixels"),
        ("tz", f32, "depth of the model's origin, pixels; comparable within a face only"),
        ("landmarks68", _vector(f32, 3 * N_LANDMARKS), "(68, 3) x, y, z row by row; image pixels"),
        ("landmarks68_visible", _vector(pa.bool_(), N_LANDMARKS), "false: the head itself hides the point"),
        ("face_size", f32, "√(width · height) of the landmarks' box, pixels"),
        ("roi_outside", f32, "share of the roi's area beyond the image, in [0, 1]"),
        ("param_distance", f32, "RMS of the whitened parameters; about 1 for a typical training face"),
        ("sharpness", f32, "variance of the Laplacian of the grey crop; low: blurred or enlarged"),
        ("vertices_file", pa.string(), "HDF5 file with the dense mesh, relative to the run; null if none"),
        ("vertices_row", pa.int32(), "row of that file's `vertices`; null if none"),
    ]
    return pa.schema(
        [pa.field(name, kind, name.startswith("vertices")) for name, kind, _ in columns],
        metadata={
            "ddfa_batch.schema": f"faces {SCHEMA_VERSION}",
            "ddfa_batch.columns": json.dumps({name: meaning for name, _, meaning in columns}),
            **metadata,
        },
    )
