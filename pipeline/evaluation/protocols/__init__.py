"""The protocols of `evaluate`, one file each."""

from __future__ import annotations

from ddfa_batch.pipeline.evaluation.protocol import Protocol
from ddfa_batch.pipeline.evaluation.protocols import aflw, aflw2000_3d, dense, florence, video

#: By the names of `schemas.config.PROTOCOLS`.
PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (aflw2000_3d.PROTOCOL, aflw.PROTOCOL, dense.PROTOCOL, florence.PROTOCOL, video.PROTOCOL)
}
