"""`report`: a run → one page to look at and to send: what was found, how sure, how fast, and what failed.

Read top to bottom: tables are read once, faces are chosen, their photographs read again, the page is written.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfa_batch.pipeline.report_again import commands, readings
from ddfa_batch.pipeline.report_faces import ReportFaces
from ddfa_batch.pipeline.report_numbers import ReportNumbers
from ddfa_batch.pipeline.results import Results
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.atomic import whole_file
from ddfa_batch.tasks.files.remote_calls import is_url
from ddfa_batch.tasks.files.run_folders import Named
from ddfa_batch.tasks.rendering.report_page import ReportContent, report_page


def write_report(out: Named, page: Path | None = None, seed: int = 0, viewer: bool = True) -> Path | str:
    """Write the report of the finished shards of the run in `out` as one HTML page; give where it lies.

    page: where to; None for `report.html` in the run's folder, of which the URL is given where it is behind one. seed:
    decides which faces are shown at random. viewer: with meshes that can be turned. Raises `RunFolderError` where `out`
    holds no run of `process`, or nothing is done.
    """
    run = Results(out)
    if run.run.kind != "process":
        raise RunFolderError(f"{out} is a run of {run.run.kind}; a report is made of runs of process.")
    if not run.receipts:
        raise RunFolderError(f"No shard of {out} is finished; run the same command again, then report.")
    text, folder = report_page(report_content(run, seed, viewer)), run.run.folder
    with folder.writing(store.REPORT) if page is None else whole_file(page) as work:
        work.write_text(text, encoding="utf-8")
    if page is not None:
        return page
    return folder.where(store.REPORT) if is_url(folder.address) else Path(folder.where(store.REPORT))


def report_content(run: Results, seed: int = 0, viewer: bool = True) -> ReportContent:
    """All that the report of a run tells."""
    numbers = ReportNumbers.of(run)
    faces = ReportFaces(run, numbers, np.random.default_rng(seed), viewer)
    return ReportContent(
        title=run.run.source,
        said=_said(run),
        counts=numbers.counts(),
        stages=numbers.stages(),
        errors=numbers.errors(),
        distributions=numbers.distributions(),
        poses=faces.poses(),
        sheets=faces.sheets(),
        strips=faces.strips(),
        viewer=faces.viewer(),
        settings=_settings(run),
        licence=run.run.model.licence,
        commands=commands(run.run),
        readings=readings(str(run.run.folder)),
    )


def _said(run: Results) -> str:
    record, left = run.run, run.run.n_shards - len(run.receipts)
    state = "complete" if not left else f"{left:,} of {record.n_shards:,} shards are still to be done"
    return f"Planned {record.created}, model {record.model.name}, ddfa-batch {record.identity.get('version')}; {state}."


def _settings(run: Results) -> list[tuple[str, str]]:
    record = run.run
    said = sorted((name, value) for name, value in record.options.items() if value is not None)
    options = [(name.replace("_", "-"), str(value)) for name, value in said]
    history = [(f"{entry.what} {entry.when}", f"{entry.n_inputs:,} inputs") for entry in record.history]
    return [
        ("inputs", record.source),
        ("folder of the inputs", record.root),
        ("run", str(record.folder)),
        ("model", f"{record.model.name}, {record.model.digest}"),
        ("topology", f"{record.model.topology}, {record.model.n_vertices:,} vertices"),
        *options,
        *history,
        *(("note", note) for note in record.notes),
    ]
