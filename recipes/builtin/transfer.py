"""A trained net's head, carried over to another face model: WORK/builtin/start.pt.

    python -m recipes.builtin.transfer WORK CHECKPOINT

Faces that both face models were fitted to (WORK/aflw/fit-all and fit-builtin) tell by least squares how one's
parameters follow from the other's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.arrays import F64
from ddfa_batch.tasks.training import state
from ddfa_batch.tasks.training.clips import whitening

#: What the squared weights cost, of whitened parameters, a face.
_RIDGE = 1e-2
#: Where pose, shape and expression stand among the official face model's parameters.
_PARTS = {"pose": slice(12), "shape": slice(12, 52), "expression": slice(52, None)}


def transfer(work: Path, checkpoint: Path) -> None:
    """Write the checkpoint's net with a head for the other face model."""
    old, new = parameters_of_both(work / "aflw")
    training = state.load(checkpoint)
    z = (old - training.mean) / training.std
    mean, std = whitening(new)
    matrix, explained = regression(z, (new - mean) / std)
    net = training.answering
    head = net.fc_param
    weight, bias = head.weight.detach().double().numpy(), head.bias.detach().double().numpy()
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(matrix[:-1].T @ weight))
        head.bias.copy_(torch.from_numpy(matrix[:-1].T @ bias + matrix[-1]))
    begun = replace(training, net=net, average=None, mean=tuple(mean.tolist()), std=tuple(std.tolist()), history=())
    state.save(begun, work / "builtin" / "start.pt")
    shares = ", ".join(f"of {name} {explained[part].mean():.1%}" for name, part in _PARTS.items())
    print(f"{len(old):,} faces; of the variance {shares} follows from the other's")


def parameters_of_both(folder: Path) -> tuple[F64, F64]:
    """Parameters (N, P) and (N, Q) of the faces that both fits hold."""
    tables = [open_run(folder / run).faces(columns=["key", "params"]) for run in ("fit-all", "fit-builtin")]
    by_key = [dict(zip(t["key"].to_pylist(), t["params"].to_pylist(), strict=True)) for t in tables]
    keys = sorted(by_key[0].keys() & by_key[1].keys())
    old, new = (np.array([params[key] for key in keys], np.float64) for params in by_key)
    return old, new


def regression(z: F64, target: F64) -> tuple[F64, F64]:
    """The matrix (P + 1, Q), constant last, that gives target (N, Q) of z (N, P) by ridge regression; R² (Q,)."""
    design = np.column_stack([z, np.ones(len(z))])
    ridge = _RIDGE * len(z) * np.eye(design.shape[1])
    ridge[-1, -1] = 0
    matrix = np.linalg.solve(design.T @ design + ridge, design.T @ target).astype(np.float64)
    explained: F64 = 1 - np.square(target - design @ matrix).mean(axis=0)
    return matrix, explained


def main(words: Sequence[str] | None = None) -> None:
    """The step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("checkpoint", type=Path)
    arguments = parser.parse_args(words)
    transfer(arguments.work, arguments.checkpoint)


if __name__ == "__main__":
    main()
