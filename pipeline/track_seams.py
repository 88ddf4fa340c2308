"""What the segments of a shard know of their tracks, as a file beside the shard's tables.

`track` says for each row of the shard's faces which track of its segment it is. Each segment has its video, the number
of its tracks, and at either end the faces that its neighbour may know too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddfa_batch.schemas.arrays import I64
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.run_folders import RunFolder
from ddfa_batch.tasks.inference.heads import HEAD_SIZE
from ddfa_batch.tasks.inference.track_joining import Seam, SeamFaces, SegmentTracks

_SIDES = ("start", "end")
_GROUPS = ("live", "near")
#: What the arrays of a group of faces are called after the group's name.
_COLUMNS = {"track": "", "landmarks": "_landmarks", "heads": "_heads"}


@dataclass(frozen=True)
class FollowedSegment:
    """What a shard knows of a video whose faces it followed."""

    #: The video: the image_id of its first frame.
    video: int
    #: Its tracks as the neighbours see them.
    tracks: SegmentTracks


@dataclass(frozen=True)
class ShardTracks:
    """What a shard knows of all of its videos."""

    #: Track (N,) of each row of the shard's faces, within its segment; `faces.NO_TRACK` for stills.
    track: I64
    #: Its segments, one a video, in order.
    segments: tuple[FollowedSegment, ...]


def seam_arrays(track: I64, segments: Sequence[FollowedSegment]) -> dict[str, NDArray[Any]]:
    """The arrays of the file, by name."""
    arrays: dict[str, NDArray[Any]] = {
        "track": track,
        "video": np.array([segment.video for segment in segments], np.int64),
        "n_tracks": np.array([segment.tracks.n_tracks for segment in segments], np.int64),
    }
    for place, segment in enumerate(segments):
        for side in _SIDES:
            for group in _GROUPS:
                faces = getattr(getattr(segment.tracks, side), group)
                arrays |= {f"{place}.{side}.{group}{end}": getattr(faces, name) for name, end in _COLUMNS.items()}
    return arrays


def seams_name(shard: int) -> str:
    """What the file of a shard is called."""
    return f"{store.SEAMS}/{store.shard_name(shard)}.npz"


def read_tracks(folder: RunFolder, shard: int) -> ShardTracks:
    """What a finished shard knows; raises `RunFolderError` for a file that is damaged."""
    name = seams_name(shard)
    where = folder.where(name)
    arrays = store.read_arrays(folder.source(name), where)
    try:
        segments = [
            FollowedSegment(int(video), SegmentTracks(int(n), *(_seam(arrays, place, side) for side in _SIDES)))
            for place, (video, n) in enumerate(zip(arrays["video"], arrays["n_tracks"], strict=True))
        ]
        return ShardTracks(np.asarray(arrays["track"], np.int64), tuple(segments))
    except (KeyError, ValueError) as fault:
        raise RunFolderError(f"{where} lacks what was written there ({fault}); see 'ddfa-batch status'.") from None


def _seam(arrays: dict[str, NDArray[Any]], place: int, side: str) -> Seam:
    return Seam(*(_faces(arrays, f"{place}.{side}.{group}") for group in _GROUPS))


def _faces(arrays: dict[str, NDArray[Any]], name: str) -> SeamFaces:
    track = arrays[name]
    unknown = np.zeros((len(track), HEAD_SIZE, HEAD_SIZE), np.uint8)  # as in files made before heads were kept
    return SeamFaces(track, arrays[f"{name}_landmarks"], arrays.get(f"{name}_heads", unknown))
