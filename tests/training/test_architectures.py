"""The backbones: as large as the paper says, named as upstream names them, and the same after folding."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import upstream_files

torch = pytest.importorskip("torch")

from ddfa_batch.schemas.errors import ShapeError  # noqa: E402
from ddfa_batch.tasks.bundles import onnx_graphs  # noqa: E402
from ddfa_batch.tasks.training import architectures  # noqa: E402
from ddfa_batch.tasks.training.architectures import Architecture  # noqa: E402


@pytest.mark.parametrize(("width", "params", "macs"), [(1.0, 3.27, 183.5), (0.5, 0.85, 49.5)])
def test_sizes_are_the_papers(width: float, params: float, macs: float) -> None:
    architecture = Architecture(width=width)
    assert round(architectures.parameter_count(architecture) / 1e6, 2) == params
    assert round(architectures.mac_count(architecture, 120) / 1e6, 1) == macs


@pytest.mark.parametrize("width", [0.25, 0.5])
def test_counts_are_those_of_the_net(width: float) -> None:
    architecture = Architecture(width=width)
    net = architectures.build(architecture).eval()
    counted = sum(p.numel() for name, p in net.named_parameters() if not name.startswith(("fc_lm", "fc_face")))
    assert counted == architectures.parameter_count(architecture)
    macs = 0

    def count(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, torch.nn.Conv2d):
            macs += output.numel() * module.weight[0].numel()
        elif isinstance(module, torch.nn.Linear) and module is not net.fc_lm:
            macs += module.weight.numel()

    for module in net.modules():
        module.register_forward_hook(count)
    net(torch.zeros(1, 3, 120, 120))
    assert macs == architectures.mac_count(architecture, 120, norm_operations=0)


def test_parameters_have_upstreams_names_and_shapes() -> None:
    theirs = upstream_files.mobilenet_weights(np.random.default_rng(0), 0.25)
    net = architectures.build(Architecture(width=0.25))
    ours = {k: tuple(v.shape) for k, v in net.state_dict().items() if "num_batches" not in k}
    own = {name: ours.pop(name) for name in ("fc_face.weight", "fc_face.bias")}
    assert {k: v.shape for k, v in theirs.items()} == ours
    assert own == {"fc_face.weight": (1, 256), "fc_face.bias": (1,)}


def stirred(kind: str) -> architectures.Regressor:
    """A net whose normalisations have seen something, so that nothing folds to the identity by chance."""
    torch.manual_seed(0)
    net = architectures.build(Architecture(kind, 0.25))
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.3, 0.8)
                module.bias.uniform_(-0.2, 0.4)
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
        net.fc_param.weight.normal_(std=0.1)
    return net.eval()


@pytest.mark.parametrize("kind", architectures.KINDS)
@pytest.mark.parametrize("size", [64, 120])
def test_the_graph_in_use_answers_as_the_net_does(kind: str, size: int) -> None:
    net = stirred(kind)
    x = torch.randn(3, 3, size, size)
    graph = onnx_graphs.mobilenet(architectures.weights_in_use(net), size)
    (found,) = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, net(x)[0].detach().numpy(), atol=1e-4)


def test_branches_cost_nothing_in_use() -> None:
    plain, rep = (architectures.weights_in_use(stirred(kind)) for kind in architectures.KINDS)
    assert {k: v.shape for k, v in plain.items()} == {k: v.shape for k, v in rep.items()}
    assert not [name for name in rep if name.startswith("fc_lm")]


def test_the_first_answer_is_about_the_mean_face() -> None:
    torch.manual_seed(0)
    z, points = architectures.build(Architecture(width=0.25))(torch.randn(8, 3, 64, 64))
    assert z.shape == (8, 62)
    assert points.shape == (8, 136)
    assert z.abs().max() < 0.5


@pytest.mark.parametrize(("kind", "width"), [("resnet", 1.0), ("mobilenet", 0.0), ("mobilenet", 100.0)])
def test_unknown_architectures_are_refused(kind: str, width: float) -> None:
    with pytest.raises(ShapeError):
        Architecture(kind, width)
