"""The machine a training runs on: torch's threads and devices, and the C library's habit of giving memory back."""

from __future__ import annotations

import ctypes
import sys

import torch

from ddfa_batch.schemas.errors import TrainingError

#: glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, and what they are set to: every step asks for the same large blocks,
#: and getting them from the kernel anew costs a tenth of a step.
_TRIM, _MMAP, _KEPT = -1, -3, 1 << 30


def prepare(device: str, threads: int) -> str:
    """Set torch's threads and keep freed memory; the device to use: "auto" is the GPU where there is one.

    Raises `TrainingError` for a device that is not there.
    """
    torch.set_num_threads(threads)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_MMAP, _KEPT)
            mallopt(_TRIM, _KEPT)
    torch.backends.cudnn.benchmark = True  # every step has the same shapes: let the fastest kernels be found once
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as fault:
        reason = str(fault).splitlines()[0][:200]
        raise TrainingError(f"There is no device '{device}' ({reason}); give cpu, cuda or auto.") from None
    return device
