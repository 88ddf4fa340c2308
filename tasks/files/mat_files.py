"""Numbers out of MATLAB's .mat files: the one place that reads them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from ddfa_batch.schemas.arrays import F64
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.schemas.extras import from_extra

#: A larger .mat file holds nothing that is read from one: labels have some 200 kB, the official UV coordinates 1 MB.
_MAX_BYTES = 64 << 20


def read_variables(path: Path, names: Collection[str]) -> dict[str, F64]:
    """Those of the variables `names` that a .mat file has, as float64 arrays of two dimensions; no other is read.

    Needs scipy, which the extra `labels` brings. Raises `InputError` naming the file for one that is missing, too
    large, no .mat file, or whose variables are no numbers.
    """
    loadmat = from_extra("scipy.io").loadmat
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} has more than {_MAX_BYTES >> 20} MiB, far too many for labels.")
        content = loadmat(path, variable_names=list(names))
        return {name: np.asarray(content[name], np.float64) for name in names if name in content}
    except OSError as fault:
        raise InputError(f"{path} cannot be read ({fault.strerror or fault}).") from None
    except InputError:
        raise
    except Exception as fault:  # scipy raises a different kind for every way a file can be wrong
        raise InputError(f"{path} is no .mat file of numbers ({type(fault).__name__}).") from None
