"""fWPDC against WPDC at the paper's batch of 128 (section 2.2: 41.7 ms → 3.6 ms on a GPU).

python benchmarks/losses.py [BUNDLE]   on a bundle's face model, or on an ellipsoid of about as many vertices
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import load_bundle
from ddfa_batch.tasks.training import losses

BATCH, REPEATS = 128, 2


def model(arguments: list[str]) -> tuple[MorphableModel, np.ndarray, np.ndarray]:
    if arguments:
        bundle = load_bundle(Path(arguments[0]))
        manifest = bundle.manifest
        return load_morphable(bundle), np.array(manifest.param_mean), np.array(manifest.param_std)
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    import small_model

    return small_model.head(180, 213), small_model.mean_params(), small_model.std_params()


def milliseconds(call: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def main() -> None:
    torch.set_num_threads(1)
    face, mean, std = model(sys.argv[1:])
    space = losses.FaceSpace.of(face, mean, std, 120)
    generator = torch.Generator().manual_seed(0)
    z, target = (torch.randn(BATCH, len(mean), generator=generator) for _ in range(2))
    print(f"{face.n_vertices} vertices, batch {BATCH}, one thread, best of {REPEATS}")
    for name in ("wpdc", "fwpdc", "vdc"):
        loss = getattr(losses, name)
        print(f"{name:6s} {milliseconds(lambda loss=loss: loss(space, z, target)):9.2f} ms")  # type: ignore[misc]
    exact = losses.FaceSpace.of(face, mean, std, 120, torch.float64)
    fast = losses.fwpdc_weights(space, z, target)[:4]
    slow = losses.wpdc_weights(exact, z[:4].double(), target[:4].double())  # in float32 WPDC itself is off by 0.5 %
    print(f"largest relative difference of the weights: {float(((fast - slow).abs() / slow).max()):.1e}")


if __name__ == "__main__":
    main()
