"""One command at a time in a run's folder of a store, which has no locks: a lease, renewed while its command works.

A lease is a file that says who holds it and until when. It is created only if there is none (S3 and others promise
that; elsewhere it is read back, which leaves a moment for two to meet), and one that ran out is taken over. Shards
have names of their own and the same content whoever does them, so two commands that meet do work twice and no harm.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from ddfa_batch.schemas.config import RemoteLimits, RunPart
from ddfa_batch.schemas.decoding import Document, decode_json
from ddfa_batch.schemas.errors import DdfaError, RunFolderError
from ddfa_batch.tasks.files.remote_calls import limited, limits
from ddfa_batch.tasks.files.run_lock import who
from ddfa_batch.tasks.files.store import LOCK

if TYPE_CHECKING:
    from ddfa_batch.tasks.files.remote_folder import RemoteFolder

#: How long a lease holds, and how often it is renewed, seconds. Clocks may differ by what is between.
LEASE_SECONDS, RENEW_SECONDS = 120.0, 20.0
#: How often it is tried to get a lease that somebody else takes at the same moment.
_TRIES = 3


@dataclass(frozen=True)
class LeaseRecord:
    """What the file of a lease says."""

    #: Who holds it, for a person.
    holder: str
    #: Tells it from every other lease.
    token: str
    #: The machine and the process.
    host: str
    process: int
    #: Until when, seconds since 1970.
    until: float


class Lease:
    """The lease of a folder, as one process knows it."""

    #: Nobody shares it.
    shared = False

    def __init__(self, folder: RemoteFolder) -> None:
        self._folder = folder
        self._lost: str | None = None

    @contextlib.contextmanager
    def held(self, command: str) -> Iterator[None]:
        """Hold the lease; raises `RunFolderError` naming who does."""
        own = LeaseRecord(who(command), uuid.uuid4().hex, socket.gethostname(), os.getpid(), _end())
        self._take(own)
        self._lost, done = None, threading.Event()
        renewing = threading.Thread(target=self._renew, args=(own, done, limits()), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            done.set()
            renewing.join(RENEW_SECONDS)
            with contextlib.suppress(DdfaError):  # it runs out by itself
                if self._lost is None and self._is(own):
                    self._folder.remove([LOCK])

    def sharing(self, part: RunPart) -> NoReturn:
        """Raise `RunFolderError`: a lease is one command's."""
        raise RunFolderError(
            f"{self._folder} is in a store, which has no lock that {part} could share with the others; let one command "
            "with --workers or --scheduler write there, or choose a folder for OUT."
        )

    def check(self) -> None:
        """Raise `RunFolderError` where another command took the lease, as after this one slept too long."""
        if self._lost is not None:
            raise RunFolderError(
                f"{self._folder} was taken over by {self._lost}, for this command had not renewed its lease; what is "
                "finished is kept."
            )

    def _take(self, own: LeaseRecord) -> None:
        for _ in range(_TRIES):
            if self._folder.put_new(LOCK, _encoded(own)) or self._is(own):  # the answer to an attempt may get lost
                break
            there = self._read()
            if there is not None and _is_held(there):
                raise self._held_by(there)
            self._folder.remove([LOCK])
        if not self._is(own):
            raise RunFolderError(f"{self._folder} was taken by another command at this moment; wait until it ends.")

    def _held_by(self, there: LeaseRecord) -> RunFolderError:
        end = datetime.fromtimestamp(there.until, UTC).isoformat(timespec="seconds")
        return RunFolderError(
            f"{self._folder} is being worked in by {there.holder} (its lease ends {end} unless it is renewed); wait "
            "until it ends, or choose another output folder."
        )

    def _renew(self, own: LeaseRecord, done: threading.Event, how_long: RemoteLimits) -> None:
        with limited(how_long):
            while not done.wait(RENEW_SECONDS):
                with contextlib.suppress(DdfaError):  # the store may be back the next time
                    there = self._read()
                    if there is not None and there.token != own.token:
                        self._lost = there.holder
                        return
                    self._folder.put(LOCK, _encoded(replace(own, until=_end())))

    def _read(self) -> LeaseRecord | None:
        """The lease there is; one that nobody can read is none."""
        try:
            raw = self._folder.read(LOCK)
            return decode_json(raw, LeaseRecord, Document(self._folder.where(LOCK), RunFolderError, ""))
        except (FileNotFoundError, RunFolderError):
            return None

    def _is(self, own: LeaseRecord) -> bool:
        there = self._read()
        return there is not None and there.token == own.token


def _end() -> float:
    return time.time() + LEASE_SECONDS


def _encoded(record: LeaseRecord) -> bytes:
    return json.dumps(asdict(record)).encode()


def _is_held(there: LeaseRecord) -> bool:
    """Whether a lease has not run out, and its process, if it was of this machine, has not ended."""
    if time.time() >= there.until:
        return False
    return there.host != socket.gethostname() or _runs(there.process)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
