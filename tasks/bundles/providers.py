"""What runs a bundle's networks: onnxruntime on the CPU, or what is asked for instead where it is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import onnxruntime as ort

from ddfa_batch.schemas.config import CPU, CUDA, OPENVINO
from ddfa_batch.schemas.errors import BundleError, OptionError
from ddfa_batch.schemas.extras import from_extra

#: What onnxruntime calls those of its providers that can be asked for.
_ONNXRUNTIME = {CPU: "CPUExecutionProvider", CUDA: "CUDAExecutionProvider"}


class NamedTensor(Protocol):
    """An input or output of a network."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...


class Session(Protocol):
    """A network that can be run, as onnxruntime's sessions are."""

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any], /) -> Any:
        """The outputs of these names, or all, for inputs by name."""
        ...

    def get_inputs(self) -> Sequence[NamedTensor]:
        """Its inputs."""
        ...

    def get_outputs(self) -> Sequence[NamedTensor]:
        """Its outputs."""
        ...


class OpenVinoSession:
    """A network that OpenVINO runs on the CPU, on one thread, with the precision that it finds best there."""

    def __init__(self, content: bytes) -> None:
        core = from_extra("openvino").Core()
        # With one stream a call takes the calling thread's time alone, as onnxruntime's do.
        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        self._model = core.compile_model(core.read_model(content, b""), "CPU", settings)
        self._inputs = [_Named(tensor.any_name) for tensor in self._model.inputs]
        self._outputs = [_Named(tensor.any_name) for tensor in self._model.outputs]

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any], /) -> list[Any]:
        """As `Session` says; a request of its own for each call, for threads share the network."""
        answer = self._model.create_infer_request().infer(dict(feeds))
        return [answer[name].copy() for name in names or [output.name for output in self._outputs]]

    def get_inputs(self) -> list[_Named]:
        """As `Session` says."""
        return self._inputs

    def get_outputs(self) -> list[_Named]:
        """As `Session` says."""
        return self._outputs


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name


def open_session(content: bytes, source: str, provider: str = CPU) -> ort.InferenceSession:
    """A session of one thread. The network comes as bytes, so it cannot pull in files beside it.

    Raises as `check_provider` where the provider is not installed, `BundleError` where it cannot run the network.
    """
    check_provider(provider)
    try:
        if provider == OPENVINO:  # used for what `Session` says alone
            return cast(ort.InferenceSession, OpenVinoSession(content))
        return ort.InferenceSession(content, _options(), providers=[_ONNXRUNTIME[provider]])
    except Exception as fault:  # neither library's own exceptions share a base class
        raise BundleError(f"{source} is not a network {_ran_by(provider)} can run ({_first_line(fault)}).") from None


def check_provider(provider: str) -> None:
    """Raise `MissingPackageError` for a provider that an extra would bring, `OptionError` for one that none brings."""
    if provider == OPENVINO:
        from_extra("openvino")
    elif _ONNXRUNTIME[provider] not in ort.get_available_providers():
        raise OptionError(
            "--provider cuda needs onnxruntime's CUDA provider: install onnxruntime-gpu in place of onnxruntime."
        )


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    return options


def _ran_by(provider: str) -> str:
    return "OpenVINO" if provider == OPENVINO else "onnxruntime"


def _first_line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0][:200]
