"""Arrays in files that another process may replace while they are read."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from vqseg.io.atomic import BLOCKED_BY_READERS

__all__ = ["open_array"]


def open_array(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """An array that may be changed without changing its .npy file, and that stays as it is when the file is replaced.

    Its file is mapped, so that only what is looked at is read; where a mapped file could not be replaced, as on
    Windows, it is read whole and closed.

    Parameters
    ----------
    path : str or path-like
        The .npy file.

    Raises
    ------
    OSError, ValueError
        Where the file cannot be read, or holds no array.
    """
    array: npt.NDArray[Any] = np.load(path, mmap_mode=None if BLOCKED_BY_READERS else "c", allow_pickle=False)
    return array
