"""Requests of `synth-videos` with the small model, for the tests that need clips."""

from __future__ import annotations

from pathlib import Path

from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.schemas.config import SynthOptions
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files.inputs import resolve_source

#: Frames of a clip, unless asked for otherwise.
N_FRAMES = 4


def clip_options(**changes: object) -> SynthOptions:
    """Options of short clips, changed as named."""
    defaults: dict[str, object] = {
        "frames": N_FRAMES,
        "clips_per_image": 1,
        "seed": 3,
        "yaw": (-30.0, 30.0),
        "pitch": (-15.0, 15.0),
        "roll": (-10.0, 10.0),
        "scale": (0.92, 1.08),
        "shift": (-0.05, 0.05),
        "speed": 3.0,
        "noise": (0.0, 4.0),
        "blur": (0.0, 0.8),
        "size": 0,
        "format": "frames",
        "max_faces": 1,
        "max_pixels": 10**8,
        "detector": "yunet",
        "min_score": 0.9,
        "params_digest": None,
        "path_column": None,
    }
    return SynthOptions(**{**defaults, **changes})  # type: ignore[arg-type]


def clip_request(source: Path, out: Path, bundle: Bundle, shard_size: int = 2, **changes: object) -> RunRequest:
    """A request of clips of the stills in `source`, two stills a shard, with the options changed as named."""
    options, where = clip_options(**changes), resolve_source(source, None)
    return RunRequest("synth-videos", where, out, options, bundle, None, shard_size)
