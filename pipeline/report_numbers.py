"""What a report counts: inputs, faces, times by stage, errors by kind, distributions; each column is read once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ddfa_batch.pipeline import failures
from ddfa_batch.pipeline.results import Results
from ddfa_batch.schemas.arrays import F64
from ddfa_batch.schemas.errors import ERROR_KINDS
from ddfa_batch.tasks.rendering.report_page import ErrorGroup
from ddfa_batch.tasks.rendering.svg_charts import Distribution

#: Columns of faces that a report counts, and those that old runs may lack.
_FACES = ("face_id", "image_id", "face_index", "yaw", "pitch", "roll", "score", "face_size", "sharpness")
_TRACKED = ("track_id", "time_s")
#: Columns of images with times, what each is of.
_STAGES = {"decode_ms": "read and decode", "detect_ms": "find faces", "regress_ms": "crop and regress, or follow"}
#: Failed inputs of a kind that are named.
_NAMED = 20


@dataclass(frozen=True)
class ReportNumbers:
    """The columns of a run that its report counts."""

    #: Rows of images: image_id, status, n_faces, times.
    images: pa.Table
    #: Rows of faces: those of `_FACES` and `_TRACKED`.
    faces: pa.Table
    #: Failed inputs: key, kind, message.
    failed: pa.Table

    @staticmethod
    def of(run: Results) -> ReportNumbers:
        """The columns of a run's finished shards."""
        have = run.faces_schema().names
        faces = run.faces([name for name in (*_FACES, *_TRACKED) if name in have])
        images = run.images(["image_id", "status", "n_faces", *_STAGES])
        return ReportNumbers(images, faces, failures.failed_inputs(run.run))

    def column(self, name: str) -> F64:
        """A column of the faces (N,), NaN where it is null."""
        return np.asarray(self.faces[name].to_numpy(), np.float64)

    def counts(self) -> list[tuple[str, str]]:
        """What people ask for first."""
        status = {row["values"]: row["counts"] for row in pc.value_counts(self.images["status"]).to_pylist()}
        tracks = len(pc.unique(self.faces["track_id"].drop_null())) if "track_id" in self.faces.column_names else 0
        counted = {
            "inputs": len(self.images),
            "faces": len(self.faces),
            "with faces": status.get("ok", 0),
            "without": status.get("no_face", 0),
            "errors": status.get("error", 0),
            **({"tracks": tracks} if tracks else {}),
        }
        return [(name, f"{n:,}") for name, n in counted.items()]

    def stages(self) -> list[list[str]]:
        """Time by stage: what, inputs, in all, median, 95 % within, how many a second."""
        columns = {said: self.images[name].drop_null().to_numpy() for name, said in _STAGES.items()}
        rows = [_stage(said, times.astype(np.float64)) for said, times in columns.items() if len(times)]
        whole = sum(times.sum(dtype=np.float64) for times in columns.values())
        if rows and whole > 0:
            n = max(len(times) for times in columns.values())
            rows.append(["all of these", f"{n:,}", _seconds(whole), "", "", f"{1000 * n / whole:,.1f}"])
        return rows

    def errors(self) -> list[ErrorGroup]:
        """The failed inputs, the most frequent kind first."""
        groups = []
        for counted in pc.value_counts(self.failed["error_kind"]).to_pylist():
            kind, n = counted["values"], counted["counts"]
            rows = self.failed.filter(pc.equal(self.failed["error_kind"], kind)).slice(0, _NAMED).to_pylist()
            named = [(row["key"], row["error_message"] or "") for row in rows]
            groups.append(ErrorGroup(kind, ERROR_KINDS.get(kind, ""), n, named))
        return sorted(groups, key=lambda group: -group.n)

    def distributions(self) -> list[Distribution]:
        """How the faces' columns are distributed."""
        asked = {
            "yaw": ("degrees", (-90.0, 90.0), False),
            "pitch": ("degrees", (-90.0, 90.0), False),
            "roll": ("degrees", (-180.0, 180.0), False),
            "score": ("", None, False),
            "face_size": ("pixels", None, True),
            "sharpness": ("", None, True),
        }
        found = {name: self.column(name) for name in asked if name in self.faces.column_names}
        return [
            Distribution(name.replace("_", " "), unit, values[np.isfinite(values)], bounds, logarithmic)
            for name, values in found.items()
            for unit, bounds, logarithmic in [asked[name]]
        ]


def _stage(said: str, times: F64) -> list[str]:
    total = float(times.sum())
    median, most = np.percentile(times, [50, 95]).tolist()
    rate = f"{1000 * len(times) / total:,.1f}" if total > 0 else ""
    return [said, f"{len(times):,}", _seconds(total), f"{median:.2f} ms", f"{most:.2f} ms", rate]


def _seconds(milliseconds: float) -> str:
    seconds = milliseconds / 1000
    return f"{seconds:,.1f} s" if seconds < 600 else f"{seconds / 3600:,.2f} h"
