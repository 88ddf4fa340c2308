"""The tables a run writes: columns, types, units. The one place that knows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ddfa_batch.schemas.morphable import N_LANDMARKS

SCHEMA_VERSION = 1

Columns = list[tuple[str, pa.DataType, str]]
#: What images and faces tell of the video that they are of; null for stills.
_FRAME_OF_VIDEO: Columns = [
    ("video", pa.int64(), "row of the videos table; null for a still"),
    ("frame", pa.int64(), "number of the frame in its video, from 0; null for a still"),
    ("time_s", pa.float64(), "when the frame is shown, seconds after the video's first; null for a still"),
]
#: (column, type, meaning) of `images/*.parquet`, one row per input.
_IMAGES = [
    ("image_id", pa.int64(), "position of the input in the plan, from 0"),
    ("key", pa.string(), "the input's path relative to the run's root, or as its list names it"),
    ("status", pa.string(), "ok, no_face or error"),
    ("error_kind", pa.string(), "why, in one word; null unless status is error"),
    ("error_message", pa.string(), "why, in one sentence; null unless status is error"),
    ("width", pa.int32(), "pixels, after EXIF orientation"),
    ("height", pa.int32(), "pixels, after EXIF orientation"),
    ("n_bytes", pa.int64(), "size of the file; null for a frame of a video"),
    ("n_faces", pa.int32(), "rows of the faces table with this image_id"),
    ("decode_ms", pa.float32(), "time to read and decode"),
    ("detect_ms", pa.float32(), "time to find the faces; null where they are followed"),
    ("regress_ms", pa.float32(), "time to crop and regress all faces, refinement included; or to follow them"),
    *_FRAME_OF_VIDEO,
]

#: Columns of `plan.parquet`: `path` only where the key cannot be turned back into it, as of a frame; form, container,
#: numbers, column and sample where the input is no file of its own (`tasks.files.places.Place`); video, frame and
#: time_s as in the images table; boxes (n, 5), or face_index (n,), params (n, P) and rois (n, 4), all flattened, where
#: the user gave them. Of what is made of another run, source is the image_id there of the first of n_source inputs,
#: face_index, where it is there, which of their faces are meant, and content a hash of the shards there that hold them,
#: as they were when this was planned. Plans made before lack what they did not know of.
PLAN = pa.schema(
    [
        pa.field("image_id", pa.int64(), False),
        pa.field("key", pa.string(), False),
        pa.field("path", pa.binary()),
        pa.field("form", pa.string()),
        pa.field("container", pa.binary()),
        pa.field("numbers", pa.list_(pa.int64())),
        pa.field("column", pa.string()),
        pa.field("sample", pa.list_(pa.int64())),
        pa.field("boxes", pa.list_(pa.float32())),
        pa.field("face_index", pa.list_(pa.int32())),
        pa.field("params", pa.list_(pa.float32())),
        pa.field("rois", pa.list_(pa.float64())),
        pa.field("video", pa.int64()),
        pa.field("frame", pa.int64()),
        pa.field("time_s", pa.float64()),
        pa.field("source", pa.int64()),
        pa.field("n_source", pa.int64()),
        pa.field("content", pa.string()),
    ]
)


def _vector(kind: pa.DataType, length: int) -> pa.DataType:
    return pa.list_(kind, length)


def _pose_columns(n_params: int) -> Columns:
    """What `faces` and `frames` share: a face's parameters and their meaning in the picture."""
    f32 = pa.float32()
    return [
        ("roi", _vector(pa.float64(), 4), "x0, y0, x1, y1 of the square that is cropped, picture pixels"),
        ("params", _vector(f32, n_params), "T (3×4 row-major), then shape, then expression; crop's frame"),
        ("rotation", _vector(f32, 9), "R, 3×3 row-major, model axes (x right, y up, z to the viewer)"),
        ("yaw", f32, "degrees; positive: the nose points to the image's left (as in 300W-LP)"),
        ("pitch", f32, "degrees; positive: the nose points down"),
        ("roll", f32, "degrees; positive: the head is tilted counter-clockwise as seen"),
        ("scale", f32, "picture pixels per unit of the model"),
        ("tx", f32, "picture x of the model's origin, pixels"),
        ("ty", f32, "picture y of the model's origin, pixels"),
        ("tz", f32, "depth of the model's origin, pixels; comparable within a face only"),
        ("landmarks68", _vector(f32, 3 * N_LANDMARKS), "(68, 3) x, y, z row by row; picture pixels"),
        ("landmarks68_visible", _vector(pa.bool_(), N_LANDMARKS), "false: the head itself hides the point"),
        ("face_size", f32, "√(width · height) of the landmarks' box, pixels"),
    ]


#: Columns of faces that are null for stills.
_TRACKED = ("video", "frame", "time_s", "track_id")


def smooth_columns(n_params: int) -> Columns:
    """What `--smooth` adds to faces, null for faces that are of no track."""
    f32 = pa.float32()
    return [
        ("landmarks68_smooth", _vector(f32, 3 * N_LANDMARKS), "landmarks68, smoothed along the track"),
        ("yaw_smooth", f32, "yaw, smoothed along the track"),
        ("pitch_smooth", f32, "pitch, smoothed along the track"),
        ("roll_smooth", f32, "roll, smoothed along the track"),
        ("params_smooth", _vector(f32, n_params), "params, smoothed along the track; of the same roi"),
    ]


#: How far eyes and mouth are open.
_OPENNESS: Columns = [
    ("right_eye_open", pa.float32(), "gap of the lids by the width of the eye, the person's right; small: shut"),
    ("left_eye_open", pa.float32(), "likewise, the person's left"),
    ("mouth_open", pa.float32(), "gap of the inner lips by their width; 0: shut"),
]


def expression_columns(names: Sequence[str]) -> Columns:
    """A column for each expression coefficient of a model that names them."""
    told = "coefficient of the model: 0 none of it, 1 the whole"
    return [(f"expression_{name}", pa.float32(), f"{name.replace('_', ' ')}, {told}") for name in names]


def faces_schema(
    n_params: int, metadata: dict[str, str], smooth: bool = False, expressions: Sequence[str] = ()
) -> pa.Schema:
    """The schema of `faces/*.parquet` for parameter vectors of `n_params`, one row per face.

    `metadata` (topology, model digest, licence …) is added to the file's own. smooth: with `smooth_columns`;
    expressions: the names of the model's, with `expression_columns`.
    """
    f32 = pa.float32()
    columns: Columns = [
        ("face_id", pa.int64(), "image_id · 10000 + face_index"),
        ("image_id", pa.int64(), "row of the images table"),
        ("key", pa.string(), "the input's key, as in the images table"),
        ("face_index", pa.int32(), "rank of the face in its image, best score first"),
        ("box", _vector(f32, 4), "x0, y0, x1, y1 of the detector, image pixels"),
        ("score", f32, "confidence in [0, 1] that it is a face"),
        *_pose_columns(n_params),
        ("roi_outside", f32, "share of the roi's area beyond the image, in [0, 1]"),
        ("param_distance", f32, "RMS of the whitened parameters; about 1 for a typical training face"),
        ("sharpness", f32, "variance of the Laplacian of the grey crop; low: blurred or enlarged"),
        ("vertices_file", pa.string(), "HDF5 file with the dense mesh, relative to the run; null if none"),
        ("vertices_row", pa.int32(), "row of that file's `vertices`; null if none"),
        *_FRAME_OF_VIDEO,
        ("track_id", pa.int64(), "row of the tracks table: who it is; null for stills, and until tracks are joined"),
        *_OPENNESS,
        *expression_columns(expressions),
    ]
    added = smooth_columns(n_params) if smooth else []
    nullable = ("vertices_file", "vertices_row", *_TRACKED, *(name for name, _, _ in added))
    return _schema("faces", [*columns, *added], nullable, metadata)


#: The angles of a head, and what `tracks/` says of each.
ANGLES = ("yaw", "pitch", "roll")
_OF_A_TRACK = (("median", "median"), ("low", "5th percentile"), ("high", "95th percentile"))
#: `tracks/*.parquet`, one row per track.
_TRACKS: Columns = [
    ("track_id", pa.int64(), "which track, from 0: in order of videos, then of first frames"),
    ("video", pa.int64(), "row of the videos table"),
    ("key", pa.string(), "the video's key"),
    ("first_frame", pa.int64(), "number of the first frame with the face"),
    ("last_frame", pa.int64(), "number of the last frame with the face"),
    ("first_time_s", pa.float64(), "when that is shown, seconds after the video's first frame"),
    ("last_time_s", pa.float64(), "likewise"),
    ("n_frames", pa.int64(), "frames with the face: rows of the faces table with this track_id"),
    ("n_gaps", pa.int64(), "times that the face was away in between"),
    ("frames_missing", pa.int64(), "taken frames in all that it was away"),
    ("mean_score", pa.float64(), "mean of `score`"),
    ("mean_size", pa.float64(), "mean of `face_size`, pixels"),
    *(
        (f"{angle}_{which}", pa.float64(), f"{what} of `{angle}` over the track's frames, degrees")
        for angle in ANGLES
        for which, what in _OF_A_TRACK
    ),
]
#: `videos/*.parquet`, one row per video.
_VIDEOS: Columns = [
    ("video", pa.int64(), "image_id of its first frame, or of the one row of a video without frames"),
    ("key", pa.string(), "the video's path relative to the run's root, or as its list names it"),
    ("status", pa.string(), "ok, ended_early (its frames are kept) or error (it has none)"),
    ("error_kind", pa.string(), "why, in one word; null unless status is error"),
    ("message", pa.string(), "what is wrong, in one sentence; null if nothing"),
    ("container", pa.string(), "the kind of file; null for an error"),
    ("codec", pa.string(), "the decoder's name; null for an error"),
    ("width", pa.int32(), "pixels of the first frame as it is shown; null for an error"),
    ("height", pa.int32(), "likewise"),
    ("rotation", pa.int32(), "degrees counter-clockwise by which frames are turned; null for an error"),
    ("fps", pa.float64(), "frames a second on average; null for an error"),
    ("duration_s", pa.float64(), "from the first frame's to the last frame's time; null for an error"),
    ("n_frames", pa.int64(), "frames in the file"),
    ("n_taken", pa.int64(), "frames taken: rows of the images table with this video and a frame"),
    ("n_errors", pa.int64(), "of those, frames that could not be read"),
    ("n_faces", pa.int64(), "rows of the faces table with this video"),
    ("n_tracks", pa.int64(), "rows of the tracks table with this video"),
]
_ABSENT = ("error_kind", "message", "container", "codec", "width", "height", "rotation", "fps", "duration_s")


def tracks_schema(metadata: dict[str, str]) -> pa.Schema:
    """The schema of `tracks/*.parquet`."""
    return _schema("tracks", _TRACKS, (), metadata)


def videos_schema() -> pa.Schema:
    """The schema of `videos/*.parquet`."""
    return _schema("videos", _VIDEOS, _ABSENT, {})


def frames_schema(n_params: int, metadata: dict[str, str]) -> pa.Schema:
    """The schema of `frames/*.parquet` of `synth-videos`, one row per frame; shared columns as in `faces`."""
    f32 = pa.float32()
    columns: Columns = [
        ("clip_id", pa.int64(), "face_id · 1000 + clip"),
        ("frame", pa.int32(), "from 0, which is the still itself"),
        ("frame_key", pa.string(), "where the picture is, relative to the run's clips folder"),
        ("face_id", pa.int64(), "image_id · 10000 + face_index"),
        ("image_id", pa.int64(), "row of the images table"),
        ("key", pa.string(), "the still's key, as in the images table"),
        ("face_index", pa.int32(), "which face of the still moves"),
        ("width", pa.int32(), "pixels of the frame"),
        ("height", pa.int32(), "pixels of the frame"),
        ("source_roi", _vector(pa.float64(), 4), "what the frame shows of the still: x0, y0, x1, y1, its pixels"),
        *_pose_columns(n_params),
        ("motion_yaw", f32, "degrees of yaw added to the still's (F)"),
        ("motion_pitch", f32, "degrees of pitch added (F)"),
        ("motion_roll", f32, "degrees of roll added (Δθ of T, summed over frames)"),
        ("motion_scale", f32, "factor of size (Δs of T, multiplied over frames)"),
        ("motion_shift_x", f32, "pixels of the still the face moved to the right (Δt₁ of T, summed)"),
        ("motion_shift_y", f32, "pixels of the still the face moved down (Δt₂ of T, summed)"),
        ("noise_sigma", f32, "standard deviation of the noise P, grey levels; 0 for the still"),
        ("blur_x", f32, "extent of the motion blur M to the right, pixels of the frame"),
        ("blur_y", f32, "extent of the motion blur M downwards, pixels of the frame"),
        ("seed", pa.int64(), "the run's seed; with key, face_index and clip it determines the clip"),
        ("note", pa.string(), "what should be known of the clip; null if nothing"),
    ]
    return _schema("frames", columns, ("note",), metadata)


#: `exports/*.parquet`, one row per mesh.
_EXPORTS: Columns = [
    ("file", pa.string(), "the mesh, relative to the run"),
    ("face_id", pa.int64(), "row of the faces table of the run that was exported; of a track its first face"),
    ("key", pa.string(), "the input's key, as in that run; of a track the video's"),
    ("track_id", pa.int64(), "row of that run's tracks table; null for a face of a still"),
    ("n_frames", pa.int64(), "frames that the mesh moves through; 1 for one that does not"),
    ("unit", pa.string(), "of the vertices: millimetre, pixel, or what the model calls its own"),
    ("axes", pa.string(), "of the vertices"),
    ("image_from_mesh", _vector(pa.float64(), 12), "3×4 row-major: vertices to x, y, z as in landmarks68"),
]


def exports_schema(metadata: dict[str, str]) -> pa.Schema:
    """The schema of `exports/*.parquet`."""
    return _schema("exports", _EXPORTS, ("track_id",), metadata)


#: Pictures of the `parquet` form of clips.
CLIP_PICTURES = pa.schema(
    [
        pa.field("clip_id", pa.int64(), False),
        pa.field("frame", pa.int32(), False),
        pa.field("png", pa.binary(), False),
    ]
)


def _schema(name: str, columns: Columns, nullable: tuple[str, ...], metadata: dict[str, str]) -> pa.Schema:
    return pa.schema(
        [pa.field(column, kind, column in nullable) for column, kind, _ in columns],
        metadata={
            "ddfa_batch.schema": f"{name} {SCHEMA_VERSION}",
            "ddfa_batch.columns": json.dumps({column: meaning for column, _, meaning in columns}),
            **metadata,
        },
    )


#: Columns of `images/` that are never null.
_TOLD = ("image_id", "key", "status", "n_faces")
#: What `--sample-json` adds to `images/`.
META_JSON = ("meta_json", pa.string(), "the JSON beside the picture in its archive, as text; null if none")
#: What `render` adds to `images/`.
PICTURE = ("picture", pa.string(), "the picture or video made of the input, relative to the run; null if none")


def images_schema(sample_json: bool = False, picture: bool = False) -> pa.Schema:
    """The schema of `images/*.parquet`, one row per input, errors included."""
    columns = [*_IMAGES, *([META_JSON] if sample_json else []), *([PICTURE] if picture else [])]
    return _schema("images", columns, tuple(name for name, _, _ in columns if name not in _TOLD), {})


IMAGES = images_schema()


def matrix(column: pa.ChunkedArray) -> Any:
    """A column of N lists of one length n as an array (N, n) of the lists' own type; nulls are NaN."""
    flat = pc.list_flatten(column)
    if pa.types.is_null(flat.type):  # what pandas makes of nothing but NaN
        flat = pc.cast(flat, pa.float64())
    values = flat.to_numpy()
    return values.reshape(len(column), len(values) // max(len(column), 1))
