"""What `model.json` of a model bundle says, and the check of it at the door."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.schemas.parameters import ParameterLayout

FORMAT = "ddfa-batch model bundle"
FORMAT_VERSION = 1
#: File names every bundle has.
MANIFEST, REGRESSOR, MORPHABLE = "model.json", "regressor.onnx", "morphable.npz"
#: What a bundle may have for people to read; it has no sha256, so that its words can change and the model does not.
CARD = "CARD.md"
#: Detector families the project can run.
DETECTOR_KINDS = ("faceboxes", "yunet", "fcos")

#: Degrees, counter-clockwise, by which a head may lean that a detector looks for where none is upright.
QUARTER_TURNS = (90, -90, 180)
#: Smaller looks at an image in which no face is found.
_MOST_LOOKS = 4

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class DetectorSpec:
    """One detector of a bundle, and how its boxes become the regressor's roi.

    `roi_scale` and `roi_shift` are multiples of the box's mean side: upstream's 1.58 and 0.14
    (3DDFA_V2, `parse_roi_box_from_bbox`). `fit` (height, width): larger images are detected on a copy
    scaled down to fit; upstream's FaceBoxes uses 720×1080. A face scores more than `min_score`. `trust` above 0:
    the regressor has a say in that. It sees every box with a score above `candidate_score`, and what it answers as
    `face` is added to the detector's log odds times `trust`; that is the score then, and a face has more than
    `face_score`. `again`: where no face is found that scores more than `sure`, the image is looked at so many times as
    large, in turn, until one is. `turned`: then once more, at the first of these sizes, for heads that lean by so many
    degrees counter-clockwise: quarter turns. The look with the best face counts.
    """

    kind: str
    file: str
    min_score: float
    fit: tuple[int, int]
    roi_scale: float = 1.58
    roi_shift: float = 0.14
    candidate_score: float = 0.0
    trust: float = 0.0
    face_score: float = 0.0
    again: tuple[float, ...] = ()
    turned: tuple[int, ...] = ()
    sure: float = 0.0

    @property
    def least(self) -> float:
        """The score above which it is a face, by whichever tells."""
        return self.face_score if self.trust else self.min_score


@dataclass(frozen=True)
class BundleManifest:
    """`model.json`: who made the model, how its numbers are meant, and the sha256 of every file.

    `param_mean` and `param_std` (paper, section 2.1: p = (p − μ)/σ) undo the whitening of the network's
    output; the network's input is `input_size`² BGR, (x − `input_mean`) / `input_std`.
    """

    name: str
    version: str
    licence: str
    provenance: str
    n_shape: int
    n_expression: int
    input_size: int
    input_mean: float
    input_std: float
    param_mean: tuple[float, ...]
    param_std: tuple[float, ...]
    topology: str
    default_detector: str | None
    detectors: dict[str, DetectorSpec] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def layout(self) -> ParameterLayout:
        """The layout of the parameter vector the regressor gives."""
        return ParameterLayout(self.n_shape, self.n_expression)

    def to_json(self) -> str:
        """Return the text of `model.json`."""
        return json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}, indent=2) + "\n"


def check_name(name: str) -> str:
    """Return `name` if it can be a folder of the models folder; raise `BundleError` otherwise."""
    if not _NAME.fullmatch(name):
        raise BundleError(f"'{name}' cannot be a model's name: use letters, digits, '.', '_' and '-'.")
    return name


def parse_manifest(text: str, source: str) -> BundleManifest:
    """Read the text of `model.json`; `source` names the file in errors. Unknown keys are errors."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise BundleError(f"{source} is not valid JSON ({fault}); import the model again.") from None
    if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
        raise BundleError(f"{source} is not the model.json of a ddfa-batch model bundle.")
    version = raw.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{source} has format version {version!r}, this ddfa-batch reads version {FORMAT_VERSION}; "
            "import the model again with this version."
        )
    try:
        manifest = _build(raw)
    except (TypeError, ValueError, AttributeError, KeyError) as fault:
        raise BundleError(f"{source} does not describe a model: {fault}.") from None
    _check(manifest, source)
    return manifest


def _build(raw: dict[str, Any]) -> BundleManifest:
    detectors = {
        str(name): DetectorSpec(
            **{
                **spec,
                "fit": tuple(int(side) for side in spec["fit"]),
                "again": tuple(float(share) for share in spec.get("again", ())),
                "turned": tuple(int(degrees) for degrees in spec.get("turned", ())),
            }
        )
        for name, spec in raw.pop("detectors").items()
    }
    mean = tuple(float(x) for x in raw.pop("param_mean"))
    std = tuple(float(x) for x in raw.pop("param_std"))
    return BundleManifest(**raw, detectors=detectors, param_mean=mean, param_std=std)


def _check(manifest: BundleManifest, source: str) -> None:
    check_name(manifest.name)
    size = manifest.layout.size
    for key, values in (("param_mean", manifest.param_mean), ("param_std", manifest.param_std)):
        if len(values) != size:
            raise BundleError(f"{source}: {key} has {len(values)} numbers, the layout has {size}.")
    if not 8 <= manifest.input_size <= 1024:
        raise BundleError(f"{source}: input_size must lie in 8..1024, but is {manifest.input_size}.")
    for file, digest in manifest.files.items():
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or "\\" in file or not _SHA256.fullmatch(str(digest)):
            raise BundleError(f"{source}: '{file}' is not a file inside the bundle with its sha256.")
    for name, spec in manifest.detectors.items():
        _check_detector(name, spec, source)
    needed = {REGRESSOR, MORPHABLE, *(spec.file for spec in manifest.detectors.values())}
    if missing := sorted(needed - manifest.files.keys()):
        raise BundleError(f"{source} gives no sha256 for {', '.join(missing)}.")
    if manifest.default_detector is not None and manifest.default_detector not in manifest.detectors:
        raise BundleError(f"{source}: default detector '{manifest.default_detector}' is not in the bundle.")


def _check_detector(name: str, spec: DetectorSpec, source: str) -> None:
    if spec.kind not in DETECTOR_KINDS:
        raise BundleError(f"{source}: detector '{name}' is of unknown kind '{spec.kind}'.")
    if not (math.isfinite(spec.trust) and spec.trust >= 0 and 0 <= spec.candidate_score < 1):
        raise BundleError(f"{source}: detector '{name}' needs a trust of 0 or more and a candidate_score in 0..1, "
                          f"not {spec.trust} and {spec.candidate_score}.")  # fmt: skip
    if not all(0 < share < 1 for share in spec.again) or len(spec.again) > _MOST_LOOKS:
        raise BundleError(
            f"{source}: detector '{name}' may have up to {_MOST_LOOKS} numbers between 0 and 1 in again, "
            f"not {list(spec.again)}."
        )
    if not 0 <= spec.sure < 1:
        raise BundleError(f"{source}: detector '{name}' needs a sure between 0 and 1, not {spec.sure}.")
    if not set(spec.turned) <= set(QUARTER_TURNS) or len(set(spec.turned)) < len(spec.turned):
        allowed = ", ".join(map(str, QUARTER_TURNS))
        raise BundleError(f"{source}: detector '{name}' may have {allowed} in turned, not {list(spec.turned)}.")
    if len(spec.fit) != 2 or min(spec.fit) < 32:
        raise BundleError(f"{source}: detector '{name}' needs fit = [height, width], each at least 32.")
