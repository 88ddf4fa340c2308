"""Face detectors that can be added to a bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ddfa_batch.schemas.bundle import MORPHABLE, check_name
from ddfa_batch.schemas.detectors import DETECTOR_OUTPUTS, DetectorSpec
from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle, unhashed_files, write_bundle
from ddfa_batch.tasks.bundles.providers import open_session


@dataclass(frozen=True)
class Family:
    """A family of detectors that can be added."""

    #: What it is called in sentences.
    title: str
    #: The outputs of its networks.
    outputs: tuple[str, ...]
    #: How one is described in a bundle, but for its file.
    spec: DetectorSpec


#: Families by the name `add-detector` takes. The numbers of fcos are measured: `recipes.builtin.detector.make`.
FAMILIES = {
    "yunet": Family(
        "YuNet",
        DETECTOR_OUTPUTS["yunet"],
        DetectorSpec("yunet", "", score_threshold=0.6, fit=(640, 640)),
    ),
    "fcos": Family(
        "detector of this project",
        DETECTOR_OUTPUTS["fcos"],
        DetectorSpec("fcos", "", score_threshold=0.61, fit=(720, 1080), roi_scale=1.432, roi_shift=-0.01),
    ),
}


def add_detector(bundle: Bundle, name: str, kind: str, onnx_file: Path) -> Bundle:
    """Add an ONNX detector of one of the `FAMILIES` to a bundle; what else lies in its folder (a card) stays."""
    family = FAMILIES.get(kind)
    if family is None:
        raise BundleError(f"'{kind}' is not a family of detectors that can be added; there are: {', '.join(FAMILIES)}.")
    check_name(name)
    try:
        content = onnx_file.read_bytes()
    except OSError as fault:
        raise BundleError(f"{onnx_file} cannot be read ({fault.strerror}).") from None
    outputs = {o.name for o in open_session(content, str(onnx_file)).get_outputs()}
    if missing := sorted(set(family.outputs) - outputs):
        raise BundleError(f"{onnx_file} is no {family.title}: it has no output {', '.join(missing)}.")
    file = f"detectors/{name}.onnx"
    spec = replace(family.spec, file=file)
    manifest = bundle.manifest
    manifest = replace(
        manifest,
        detectors={**manifest.detectors, name: spec},
        default_detector=manifest.default_detector or name,
    )
    files = {f: (bundle.folder / f).read_bytes() for f in manifest.files if f != MORPHABLE}
    files[file] = content
    for_people = {name: found for name, found in unhashed_files(bundle).items() if name not in files}
    return write_bundle(bundle.folder, manifest, files, load_morphable(bundle), for_people)
