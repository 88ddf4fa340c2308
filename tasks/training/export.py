"""A trained net as a model bundle, which `process --model` takes at once.

The graph answers whitened parameters, as upstream's; μ and σ stand in the bundle's `model.json`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from ddfa_batch.schemas.arrays import F32
from ddfa_batch.schemas.bundle import REGRESSOR, BundleManifest
from ddfa_batch.schemas.config import NO_AVERAGE
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.schemas.errors import ShapeError, TrainingError
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles import onnx_graphs
from ddfa_batch.tasks.bundles.model_bundle import Bundle, write_bundle
from ddfa_batch.tasks.training.architectures import RegressorNet, weights_in_use
from ddfa_batch.tasks.training.state import TrainingState
from ddfa_batch.tasks.training.tensor_batch import INPUT_MEAN, INPUT_STD

#: Largest difference, in σ, between torch's answer and the graph's that is put down to rounding.
TOLERANCE = 1e-4
#: Crops of noise both are asked about.
_PROBES = 4


@dataclass(frozen=True)
class Origin:
    """What a bundle says of itself."""

    name: str
    version: str
    #: Of weights and face model.
    licence: str
    #: Where it comes from.
    provenance: str
    #: What the face model's expression coefficients do, where they have names.
    expression_names: tuple[str, ...] = ()
    #: What `process` averages its answers with where nothing else is asked for.
    average: str = NO_AVERAGE


@dataclass(frozen=True)
class Detectors:
    """The detectors a bundle is given."""

    #: How each is described, by name.
    specs: dict[str, DetectorSpec]
    #: Their ONNX files' bytes, by path in the bundle.
    files: dict[str, bytes]
    #: The name of the one that is used where none is asked for.
    default: str | None

    @staticmethod
    def none() -> Detectors:
        """No detector: `process --boxes`, or `models add-detector` later."""
        return Detectors({}, {}, None)

    @staticmethod
    def of_bundle(bundle: Bundle) -> Detectors:
        """Those of another bundle, for a network that does not tell faces: each decides alone what is one."""
        manifest = bundle.manifest
        files = {spec.file: (bundle.folder / spec.file).read_bytes() for spec in manifest.detectors.values()}
        alone = {name: replace(spec, detector_weight=0.0) for name, spec in manifest.detectors.items()}
        return Detectors(alone, files, manifest.default_detector)


def to_onnx(net: RegressorNet, size: int) -> bytes:
    """The net in use as ONNX: `input` (batch, 3, size, size) → `params` (batch, P), whitened; other heads left out.

    Raises `TrainingError` where the graph's answer is further than `TOLERANCE` from the net's.
    """
    graph = onnx_graphs.mobilenet(weights_in_use(net), size)
    gap = largest_gap(net, graph, size)
    if not gap <= TOLERANCE:
        raise TrainingError(f"The exported network differs from the trained one by {gap:.2g} (allowed: {TOLERANCE}).")
    return graph


def largest_gap(net: RegressorNet, graph: bytes, size: int) -> float:
    """Largest difference of the whitened parameters between torch and the graph, on crops of noise."""
    probes: F32 = np.random.default_rng(0).uniform(-1, 1, (_PROBES, 3, size, size)).astype(np.float32)
    (found,) = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(["params"], {"input": probes})
    device = next(net.parameters()).device
    was_training = net.training
    net.eval()
    with torch.no_grad():
        expected = net(torch.from_numpy(probes).to(device))[0].cpu().numpy()
    net.train(was_training)
    return float(np.abs(found - expected).max())


def to_bundle(
    training: TrainingState,
    model: MorphableModel,
    origin: Origin,
    detectors: Detectors,
    target: Path,
    finished: Callable[[bytes], bytes] | None = None,
) -> Bundle:
    """Write the trained net, its whitening, the face model and detectors as a bundle to the folder `target`.

    finished: what becomes of the network (an ONNX file's bytes) before it is written.
    """
    if training.architecture.n_params != model.layout.size:
        raise ShapeError(
            f"The net answers {training.architecture.n_params} parameters, the face model has {model.layout.size}."
        )
    size = training.config.sampling.size
    manifest = BundleManifest(
        name=origin.name,
        version=origin.version,
        licence=origin.licence,
        provenance=origin.provenance,
        average=origin.average,
        n_shape=model.layout.n_shape,
        n_expression=model.layout.n_expression,
        input_size=size,
        input_mean=INPUT_MEAN,
        input_std=INPUT_STD,
        param_mean=training.mean,
        param_std=training.std,
        topology=model.topology,
        default_detector=detectors.default,
        detectors=detectors.specs,
        expression_names=origin.expression_names,
    )
    network = to_onnx(training.answering, size)
    network = network if finished is None else finished(network)
    return write_bundle(target, manifest, {REGRESSOR: network, **detectors.files}, model)
