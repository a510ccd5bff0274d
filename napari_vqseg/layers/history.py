"""Whole slices in napari's history of labels, packed: a body's 600 would take 70 MB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Step", "slices_of"]

Labels = npt.NDArray[np.uint8]


class Step:
    """A slice before and after: an atom of napari's history, which unpacks it as where, before and after.

    Parameters
    ----------
    z : int
        The slice.
    before, after : array of uint8, shape (y, x)
        Its labels; only the smallest window in which they differ is kept.

    Attributes
    ----------
    reason : object
        Given back when the step is undone or done again.
    """

    reason: object = None

    def __init__(self, z: int, before: Labels, after: Labels) -> None:
        window = _window(before != after)
        self.where = (slice(z, z + 1), *window)
        self._before, self._after = _packed(before[window]), _packed(after[window])

    def __iter__(self) -> Iterator[Any]:
        yield from (self.where, self._before, self._after)


def slices_of(item: list[Any], axis: int = 0) -> set[int]:
    """Slices across an axis (z, y, x) that an item of napari's label history touches."""
    slices: set[int] = set()
    for atom in item:
        key = atom.where if isinstance(atom, Step) else atom.slice_key if hasattr(atom, "slice_key") else atom[0]
        touched: Any = key[axis]
        if isinstance(touched, slice):
            slices.update(range(touched.start, touched.stop))
        elif np.size(touched):
            slices.update(int(index) for index in np.unique(touched))
    return slices


@dataclass(frozen=True)
class _Runs:
    """Labels as runs of one value, which numpy unpacks where it is given them as an array."""

    starts: npt.NDArray[np.uint32]
    values: Labels
    shape: tuple[int, ...]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        lengths = np.diff(self.starts, append=np.uint32(np.prod(self.shape)))
        return np.repeat(self.values, lengths).reshape(self.shape).astype(dtype or np.uint8, copy=False)


def _packed(labels: Labels) -> _Runs | Labels:
    """Labels as runs, or a copy of them where that takes less."""
    flat = labels.ravel()
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1).astype(np.uint32)
    if starts.nbytes + starts.size >= flat.size:
        return labels.copy()
    return _Runs(starts, flat[starts], labels.shape)


def _window(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest window (y, x) that holds the mask; an empty one holds nothing."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
