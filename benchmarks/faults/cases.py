"""What every fault has to hand: a run that is disturbed, and the command that then finishes it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from started import Started, forked
from subjects import Subject

#: Share of an undisturbed run's time within which a moment is chosen, and how often if the command was faster.
_LATEST, _TRIES = 1.0, 4


class CannotError(Exception):
    """This machine does not let the fault be injected."""


class WrongError(Exception):
    """A command did not do what it has to under the fault."""


@dataclass
class Case:
    """One injection of one fault into one run."""

    #: Where the sources and the undisturbed runs lie, and a folder of its own.
    base: Path
    folder: Path
    #: What is disturbed, and the seconds that it takes undisturbed.
    subject: Subject
    seconds: float
    #: Decides when and where.
    rng: np.random.Generator
    #: Sources of its own, where they are what is disturbed.
    sources: Path | None = None
    #: What is undone at the end, however it ends.
    undone: ExitStack = field(default_factory=ExitStack)
    #: image_ids whose rows may differ at the end, for their inputs did.
    excused: set[int] = field(default_factory=set)
    #: Options that finish the run besides those that began it.
    finishing: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self.folder / "out"

    @property
    def expected(self) -> Path:
        """The undisturbed run."""
        return self.base / (self.subject.twin or self.subject.name)

    def start(
        self, *more: str, limits: dict[int, int] | None = None, environment: dict[str, str] | None = None
    ) -> Started:
        """Start the run's command."""
        return self.subject.start(self.sources or self.base, self.out, more, limits, environment)

    def own_sources(self) -> Path:
        """The folder of a copy of what `process` reads, for this case alone."""
        self.sources = self.folder / "sources"
        shutil.copytree(self.base / "stills", self.sources / "stills")
        return self.sources / "stills"

    def moment(self) -> float:
        """Seconds into a run at random."""
        return float(self.rng.uniform(0, _LATEST * self.seconds))

    def under_way(self) -> Started:
        """A run at a random moment, begun anew where it was done by then."""
        for _ in range(_TRIES):
            started, end = self.start(), time.monotonic() + self.moment()
            while time.monotonic() < end and not started.ended():
                time.sleep(0.002)
            if not started.ended():
                return started
            self.seconds *= 0.7
            shutil.rmtree(self.out, ignore_errors=True)
        return self.start()

    def ends_in_a_sentence(self, started: Started) -> None:
        """Wait for a command that may end well or with a fault it tells of; raises `WrongError` for another end."""
        code, words = started.wait(self.subject.limit), started.words()
        odd = any(word in words for word in ("Traceback", "unexpected"))
        if code not in (0, 1) or odd or (code == 1 and "Error: " not in words):
            raise WrongError(f"ended with {code}: {words[-400:]}")

    def finish(self) -> None:
        """Run the command to its end; raises `WrongError` where it does not get there."""
        started = self.start(*self.finishing)
        if code := started.wait(self.subject.limit):
            raise WrongError(f"the same command ended with {code}: {started.words()[-300:]}")

    def verified(self, *more: str) -> int:
        """The exit code of `verify`."""
        return forked(["verify", str(self.out), *more], self.folder / "verify.told").wait()

    def copy_expected(self) -> None:
        """Have a finished run, as the undisturbed one is."""
        shutil.copytree(self.expected, self.out, symlinks=True)


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    #: What happens, and when.
    name: str
    when: str
    #: The runs into which it is injected.
    subjects: tuple[str, ...]
    #: Makes it happen; leaves a run that the same command is to finish.
    inject: Callable[[Case], None]
    #: How often in the long form, for each of the runs.
    times: int = 5
