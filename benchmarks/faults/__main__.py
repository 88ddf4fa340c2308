"""Faults injected into real runs, whose ends are compared with those of undisturbed ones.

    python benchmarks/faults --log build/faults.jsonl                   # the long form
    python benchmarks/faults --short --log build/faults-short.jsonl     # some of each, 5 minutes
    python benchmarks/faults --log build/faults.jsonl --table docs/reliability.md    # only write the table

Each injection disturbs a run of `process`, `synth-videos`, `fit`, `render`, `export` or `to-webdataset`, runs the same
command to the end, verifies it, and compares tables, meshes, pictures with those of a run that nothing disturbed. One
line of the log tells of each; those that it has already are not done again. The program ends with an error where
anything was lost, twice, wrong or hung.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import clusters
import damage
import disks
import numpy as np
import signals
import sources
from cases import CannotError, Case, Fault, WrongError
from compared import Difference, compare
from started import HungError
from subjects import SUBJECTS, make_references, make_sources
from table import write_table

FAULTS = (*signals.FAULTS, *sources.FAULTS, *disks.FAULTS, *damage.FAULTS, *clusters.FAULTS)
#: Seconds that the short form takes, about.
_SHORT_SECONDS = 270.0


@dataclass(frozen=True)
class Injection:
    """One line of the log."""

    #: What was injected when, into which run, the how-manieth.
    fault: str
    when: str
    subject: str
    number: int

    def rng(self, seed: int) -> np.random.Generator:
        """What decides moments and places."""
        return np.random.default_rng([seed, zlib.crc32(f"{self.fault}|{self.subject}".encode()), self.number])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True, help="JSON lines; gone on with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="one of each, as many as five minutes hold")
    parser.add_argument("--only", default="", help="faults with this in their name")
    parser.add_argument(
        "--share", default="1/1", help="I/N: do the I-th of N shares, beside others with logs of their own"
    )
    parser.add_argument("--keep", type=Path, help="where run folders are kept that are not as they have to be")
    parser.add_argument("--table", type=Path, help="write the log's table into this document, and stop")
    args = parser.parse_args()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if args.table:
        sys.exit(write_table(args.table, list(_lines(args.log)), FAULTS))
    args.log.parent.mkdir(parents=True, exist_ok=True)
    wanted = list(_wanted(args.only, args.short))
    _inject_all(wanted, args)
    bad = [line for line in _lines(args.log) if any(line[k] for k in ("lost", "duplicated", "wrong", "hung"))]
    sys.exit(f"{len(bad)} injections ended otherwise than they have to." if bad else 0)


def _wanted(only: str, short: bool) -> Iterator[tuple[Fault, Injection]]:
    """All injections, first of each fault one, then the next."""
    chosen = [(fault, name) for fault in FAULTS for name in fault.subjects if only in fault.name]
    for number in range(1 if short else max(fault.times for fault in FAULTS)):
        for fault, name in chosen:
            if number < fault.times:
                yield fault, Injection(fault.name, fault.when, name, number)


def _inject_all(wanted: list[tuple[Fault, Injection]], args: argparse.Namespace) -> None:
    done = {(line["fault"], line["subject"], line["number"]) for line in _lines(args.log)}
    share, shares = map(int, args.share.split("/"))
    todo = [(f, i) for f, i in wanted[share - 1 :: shares] if (i.fault, i.subject, i.number) not in done]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch, args.log.open("a") as log:
        base = Path(scratch) / "base"
        make_sources(base)
        seconds = make_references(base, sorted({i.subject for _, i in todo}))
        if args.short:
            np.random.default_rng(args.seed).shuffle(todo)  # type: ignore[arg-type]  # lists are shuffled, too
        for at, (fault, injection) in enumerate(todo):
            if args.short and time.monotonic() - began > _SHORT_SECONDS:
                break
            case_folder = Path(scratch) / f"case{at}"
            case_folder.mkdir()
            subject = SUBJECTS[injection.subject]
            case = Case(base, case_folder, subject, seconds[subject.name], injection.rng(args.seed))
            try:
                line = asdict(injection) | _outcome(fault, case)
            except CannotError as reason:
                print(f"left out: {fault.name} ({reason})", flush=True)
                continue
            print(json.dumps(line, ensure_ascii=False), file=log, flush=True)
            if args.keep and any(line[k] for k in ("lost", "duplicated", "wrong", "hung")):
                shutil.copytree(case_folder, args.keep / f"{at}", symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(case_folder, ignore_errors=True)
        clusters.stop_site()


def _outcome(fault: Fault, case: Case) -> dict[str, object]:
    """Inject a fault, finish the run, and say what came of it."""
    began, hung, difference = time.monotonic(), 0, Difference()
    try:
        fault.inject(case)
        case.finish()
        difference = compare(case.out, case.expected, frozenset(case.excused))
        if case.verified():
            raise WrongError(f"verify: {(case.folder / 'verify.told').read_text()[-300:]}")
    except CannotError:
        raise
    except HungError as late:
        hung, difference = 1, Difference(detail=str(late))
    except WrongError as wrong:
        difference = Difference(wrong=1, detail=str(wrong))
    except Exception:  # an injection that fails is told of as such, and the others go on
        difference = Difference(wrong=1, detail=traceback.format_exc()[-600:])
    finally:
        case.undone.close()
    return {**asdict(difference), "hung": hung, "seconds": round(time.monotonic() - began, 2)}


def _lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


if __name__ == "__main__":
    main()
