"""What `model.json` of a model bundle says, and the check of it at the door."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ddfa_batch.schemas.config import AVERAGES, NO_AVERAGE
from ddfa_batch.schemas.decoding import Document, decode_object, encode_json, take_version, typed
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.schemas.parameters import ParameterLayout

FORMAT = "ddfa-batch model bundle"
FORMAT_VERSION = 2
#: File names every bundle has.
MANIFEST, REGRESSOR, MORPHABLE = "model.json", "regressor.onnx", "morphable.npz"
#: What a bundle may have for people to read; it has no sha256, so that its words can change and the model does not.
CARD = "CARD.md"

#: Statistics beyond this are not of any model: float32 would overflow.
_LARGEST_STATISTIC = 1e30
#: Coefficients a model may have of each kind, and the side of a regressor's input, pixels.
_MOST_COEFFICIENTS, _INPUT_SIZES = 10_000, (8, 1024)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_EXPRESSION = re.compile(r"[a-z][a-z0-9_]{0,49}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class BundleManifest:
    """`model.json`: who made the model, how its numbers are meant, and the sha256 of every file."""

    name: str
    version: str
    licence: str
    provenance: str
    #: Numbers of shape and of expression coefficients.
    n_shape: int
    n_expression: int
    #: The network's input is `input_size`² pixels BGR, (x − `input_mean`) / `input_std`.
    input_size: int
    input_mean: float
    input_std: float
    #: μ and σ, which undo the whitening of the network's output (paper, section 2.1: p = (p − μ)/σ).
    param_mean: tuple[float, ...]
    param_std: tuple[float, ...]
    #: Name of the mesh's topology.
    topology: str
    #: The detector that is used where none is named.
    default_detector: str | None
    #: Detectors by name.
    detectors: dict[str, DetectorSpec] = field(default_factory=dict)
    #: sha256 of every file, by its path within the bundle.
    files: dict[str, str] = field(default_factory=dict)
    #: What the expression coefficients do, in order, as in "jaw_open"; empty where they have no names.
    expression_names: tuple[str, ...] = ()
    #: What the last pass's answer is averaged with where nothing else is asked for, of `config.AVERAGES`.
    average: str = NO_AVERAGE

    def __post_init__(self) -> None:
        if not all(0 <= n <= _MOST_COEFFICIENTS for n in (self.n_shape, self.n_expression)):
            raise ValueError(f"n_shape and n_expression lie in 0..{_MOST_COEFFICIENTS}")
        low, high = _INPUT_SIZES
        if not low <= self.input_size <= high:
            raise ValueError(f"input_size lies in {low}..{high}, and is {self.input_size}")
        if not (abs(self.input_mean) <= _LARGEST_STATISTIC and 1 / _LARGEST_STATISTIC < self.input_std < math.inf):
            raise ValueError(f"input_mean {self.input_mean} and input_std {self.input_std} normalise no picture")
        for key, values in (("param_mean", self.param_mean), ("param_std", self.param_std)):
            if len(values) != self.layout.size:
                raise ValueError(f"{key} has {len(values)} numbers, the layout has {self.layout.size}")
            if not all(abs(value) <= _LARGEST_STATISTIC for value in values):
                raise ValueError(f"{key} holds a number beyond ±{_LARGEST_STATISTIC:g}")
        if min(self.param_std) < 0:
            raise ValueError("param_std holds a number below 0")
        if self.average not in AVERAGES:
            raise ValueError(f"average is one of {', '.join(AVERAGES)}, and is {self.average!r}")
        self._check_expression_names()

    def _check_expression_names(self) -> None:
        names = self.expression_names
        if names and not (len(set(names)) == len(names) == self.n_expression):
            raise ValueError(f"expression_names are {self.n_expression} different names, or none")
        if wrong := [name for name in names if not _EXPRESSION.fullmatch(name)]:
            raise ValueError(f"an expression's name is of small letters, digits and '_', not {wrong[0]!r}")

    @property
    def layout(self) -> ParameterLayout:
        """The layout of the parameter vector the regressor gives."""
        return ParameterLayout(self.n_shape, self.n_expression)

    def to_json(self) -> str:
        """Return the text of `model.json`."""
        return encode_json({"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)})


def check_name(name: str) -> str:
    """Return `name` if it can be a folder of the models folder; raise `BundleError` otherwise."""
    if not _NAME.fullmatch(name):
        raise BundleError(f"'{name}' cannot be a model's name: use letters, digits, '.', '_' and '-'.")
    return name


def parse_manifest(raw: bytes, source: str) -> BundleManifest:
    """Read `model.json`; `source` names the file in errors. Unknown keys are errors. Version 1 is migrated."""
    document = Document(source, BundleError, "import the model again")
    content = decode_object(raw, document)
    if take_version(content, FORMAT, range(1, FORMAT_VERSION + 1), document) == 1:
        content = migrated(content)
    manifest = typed(content, BundleManifest, document)
    _check(manifest, document)
    return manifest


#: What version 1 called what version 2 calls otherwise, of a detector.
_RENAMED = {
    "min_score": "score_threshold",
    "candidate_score": "candidate_threshold",
    "trust": "detector_weight",
    "sure": "stop_score",
}


def migrated(content: dict[str, Any]) -> dict[str, Any]:
    """Version 1 of `model.json` as version 2: a detector's `again` and `turned` looks are passes.

    What is not as version 1 had it is left as it is, for the check that follows to tell.
    """
    detectors = content.get("detectors")
    if not isinstance(detectors, dict):
        return content
    return {**content, "detectors": {name: _migrated_detector(spec) for name, spec in detectors.items()}}


def _migrated_detector(spec: Any) -> Any:
    if not isinstance(spec, dict):
        return spec
    out = {_RENAMED.get(key, key): value for key, value in spec.items() if key not in {"again", "turned"}}
    again, turned = spec.get("again", []), spec.get("turned", [])
    if not isinstance(again, list) or not isinstance(turned, list):
        return {**out, "passes": None}  # which is no list either
    passes = [{}, *({"scale": scale} for scale in again)]
    if turned:
        passes.append({"scale": again[0] if again else 1.0, "rotations": turned})
    return {**out, "passes": passes}


def _check(manifest: BundleManifest, document: Document) -> None:
    """What holds of a bundle that is written whole: its name can be a folder's, and its files are named."""
    check_name(manifest.name)
    for file, digest in manifest.files.items():
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or "\\" in file or not _SHA256.fullmatch(digest):
            raise document.fault(f"names '{file}', which is no file inside the bundle with its sha256")
    needed = {REGRESSOR, MORPHABLE, *(spec.file for spec in manifest.detectors.values())}
    if missing := sorted(needed - manifest.files.keys()):
        raise document.fault(f"gives no sha256 for {', '.join(missing)}")
    if manifest.default_detector is not None and manifest.default_detector not in manifest.detectors:
        raise document.fault(f"has '{manifest.default_detector}' as default detector, which is not in the bundle")
