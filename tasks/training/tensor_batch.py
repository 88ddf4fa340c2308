"""A mini-batch as the losses take it: tensors on the device that trains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddfa_batch.tasks.training.mini_batches import MiniBatch

#: Network input (BGR − 127.5) / 128, as upstream.
INPUT_MEAN, INPUT_STD = 127.5, 128.0


def as_input(images: Tensor) -> Tensor:
    """Crops (B, 3, size, size) in grey levels as the network takes them."""
    return (images.float() - INPUT_MEAN) / INPUT_STD


@dataclass(frozen=True)
class TensorBatch:
    """One mini-batch of B images."""

    #: (B, 3, pixels, pixels), as the network takes them.
    crops: Tensor
    #: (B, P), in the frame of a crop of the sampling's size.
    params: Tensor
    #: (B, 68, 2), pixels of that crop, y down, 0 where the weight is 0.
    landmarks: Tensor
    #: (B, 68), of the landmarks.
    weights: Tensor
    #: (D, 3, pixels, pixels), crops of what is no face, as the network takes them; None where there are none.
    distractors: Tensor | None = None

    @staticmethod
    def of(batch: MiniBatch, device: torch.device | str) -> TensorBatch:
        """A batch whose pixels were made elsewhere."""
        images, params, landmarks, weights = (
            torch.from_numpy(array).to(device) for array in (batch.images, batch.params, batch.landmarks, batch.weights)
        )
        return TensorBatch(as_input(images.permute(0, 3, 1, 2)), params, landmarks, weights)
