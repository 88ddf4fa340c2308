"""How far a command is: one line that moves on a terminal, a plain line now and then elsewhere.

rich draws on terminals: in a thread of its own, so that the line moves where nothing arrives for a while, and with
what else is said above it. It is imported where it draws, so that nobody else pays for it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import click

from ddfa_batch.commands.wording import duration

#: Seconds over which speed is measured.
_WINDOW = 30.0
#: Things a second below which that number tells nothing.
_SLOWEST_TOLD = 0.1
#: Seconds between two plain lines.
PLAIN_EVERY = 15.0
#: Seconds without any news of a run after which it is said what is waited for; again after twice as long, and so on.
SILENT_FOR = 60.0
#: Drawings a second on a terminal: more would cost a run in this process more than a hundredth of its time.
_REFRESH = 4
#: Columns of the bar, at least and at most, and of the words beside it.
_BAR, _WORDS = (8, 24), 66


@dataclass(frozen=True)
class Step:
    """What a command is doing, and how far it is with it."""

    #: What is being done: "listing inputs".
    doing: str
    #: How much of it is done, and how much there is; None where it is not counted, or nobody knows yet.
    done: int | None = None
    total: int | None = None
    #: What is counted: "images". Where there is nothing but that to tell, "working" need not be said.
    unit: str = ""
    #: What else there is to tell: "19 faces", "2 errors".
    details: tuple[str, ...] = ()
    #: What would have to happen next, said where it does not: "files to be joined". Nothing is said without.
    waits_for: str = field(default="", compare=False)

    @property
    def is_complete(self) -> bool:
        """Whether all there is to do is done."""
        return self.total is not None and self.done is not None and self.done >= self.total


class Pace:
    """How fast a step goes, over its last `_WINDOW` seconds.

    It is measured from the first thing that is done: until then workers start, and load what they need.
    """

    def __init__(self) -> None:
        self._doing: str | None = None
        self._before = 0
        self._marks: deque[tuple[float, int]] = deque()

    def note(self, step: Step, now: float) -> None:
        """Take note of how far a step is at the time `now`, seconds; another step begins anew."""
        if step.doing != self._doing:
            self._doing, self._before = step.doing, step.done or 0
            self._marks.clear()
        if (step.done or 0) > self._before:
            self._marks.append((now, step.done or 0))
        while len(self._marks) > 2 and now - self._marks[1][0] > _WINDOW:
            self._marks.popleft()

    @property
    def rate(self) -> float:
        """Things a second; 0 where nothing is known yet."""
        if len(self._marks) < 2:
            return 0.0
        (first, before), (last, after) = self._marks[0], self._marks[-1]
        return max(after - before, 0) / max(last - first, 1e-3)


def sentence(step: Step, rate: float) -> str:
    """A step in words: "45%  450/1,000 images, 14 s left, 512 faces, 38/s". A narrow terminal cuts the end off."""
    parts = [_amount(step)]
    if rate and step.total is not None and not step.is_complete:
        parts.append(f"{duration((step.total - (step.done or 0)) / rate)} left")
    parts += step.details
    if rate >= _SLOWEST_TOLD:
        parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
    return ", ".join(parts)


def _amount(step: Step) -> str:
    if step.done is None:
        return step.doing
    if step.total is None:
        return f"{step.doing}: {step.done:,} {step.unit}".rstrip()
    return f"{step.done / max(step.total, 1):4.0%}  {step.done:,}/{step.total:,} {step.unit}".rstrip()


class Display(Protocol):
    """Where progress is shown."""

    def show(self, step: Step) -> None:
        """Show a step in place of what was shown before."""

    def close(self) -> None:
        """Leave room for what else is said; what is shown next begins anew."""


class Silence:
    """Shows nothing."""

    def show(self, step: Step) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing is to close."""


class PlainLines:
    """A line on stderr every `every` seconds, and one when all is done."""

    def __init__(self, every: float = PLAIN_EVERY) -> None:
        self._every, self._pace = every, Pace()
        self._shown = time.monotonic()
        self._last: Step | None = None

    def show(self, step: Step) -> None:
        """Say a step, where it is time to."""
        now = time.monotonic()
        self._pace.note(step, now)
        if step != self._last and (step.is_complete or now - self._shown >= self._every):
            self._shown, self._last = now, step
            click.echo(sentence(step, self._pace.rate), err=True)

    def close(self) -> None:
        """Lines need no closing."""


class TerminalLine:
    """A line at the bottom of the terminal: what is done, a bar, counts, speed and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
        from rich.table import Column

        console = Console(stderr=True, highlight=False)
        least, most = _BAR
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(min(max(console.width - _WORDS, least), most)),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            console=console,
            refresh_per_second=_REFRESH,
            redirect_stdout=False,  # what a run says on stdout may go to a file
            transient=True,
            expand=True,
        )
        self._task: TaskID | None = None
        self._pace = Pace()

    def show(self, step: Step) -> None:
        """Draw a step, at the next drawing."""
        self._pace.note(step, time.monotonic())
        words, begins = sentence(step, self._pace.rate), self._task is None
        if self._task is None:
            self._task = self._bar.add_task(words, total=step.total)
        self._bar.update(self._task, description=words, completed=step.done or 0)
        self._bar.tasks[0].total = step.total
        if begins:
            self._bar.start()

    def close(self) -> None:
        """Take the line away; the summary says what came of it."""
        if self._task is not None:
            self._bar.stop()
            self._bar.remove_task(self._task)
            self._task = None


class Watched:
    """Shows steps on a display, and says on stderr what is waited for where none comes for long."""

    def __init__(self, display: Display, silent_for: float) -> None:
        self._display, self._silent_for = display, silent_for
        self._news: tuple[float, str] = (time.monotonic(), "")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ddfa-batch-silence", daemon=True)
        self._thread.start()

    def show(self, step: Step) -> None:
        """Show a step; what was waited for has come."""
        self._news = (time.monotonic(), step.waits_for)
        self._display.show(step)

    def close(self) -> None:
        """Leave room for what else is said; the watch goes on."""
        self._display.close()

    def end(self) -> None:
        """Close the display and watch no more."""
        self._ended.set()
        self._thread.join()
        self._display.close()

    def _watch(self) -> None:
        told, due = self._news, self._silent_for
        while not self._ended.wait(self._silent_for / 8):
            news = self._news
            if news is not told:
                told, due = news, self._silent_for
            since, waits_for = news
            silent = time.monotonic() - since
            if waits_for and silent >= due:
                due *= 2
                click.echo(f"Nothing new for {duration(silent)}: waiting for {waits_for}.", err=True)


def open_display(quiet: bool, plain_every: float = PLAIN_EVERY) -> Display:
    """Where progress is shown: a line on a terminal that can move it, plain lines elsewhere, nowhere if `quiet`."""
    if quiet:
        return Silence()
    draws = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return TerminalLine() if draws else PlainLines(plain_every)


@contextlib.contextmanager
def shown(quiet: bool) -> Iterator[Display]:
    """A display that is closed at the end, whatever happens: a terminal gets its cursor back."""
    if quiet:
        yield open_display(quiet)
        return
    display = Watched(open_display(quiet), SILENT_FOR)
    try:
        yield display
    finally:
        display.end()
