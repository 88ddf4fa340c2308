"""How many shards are on a cluster at a time, so that neither its client nor its scheduler grows with the dataset."""

from __future__ import annotations

import time
from typing import Any

#: Shards in flight for every worker thread: one at work, one waiting, and a little to hide the round trip.
_PER_THREAD = 2
#: Seconds after which the workers are counted anew.
_COUNT_SECONDS = 5.0


class Room:
    """How many shards may be on the cluster at a time: more as more workers join."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._look()

    def _look(self) -> None:
        self.threads = sum(self._client.nthreads().values()) or 1
        self._seen = time.monotonic()

    def shards(self) -> int:
        """So many; the workers are counted anew now and then."""
        if time.monotonic() - self._seen > _COUNT_SECONDS:
            self._look()
        return _PER_THREAD * self.threads + 1
