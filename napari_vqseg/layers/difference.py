"""Where two predictions differ: hatched, so that it is told from every class by its form."""

from __future__ import annotations

from collections.abc import Collection
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_vqseg.layers.arrays import Replaceable
from napari_vqseg.layers.gated_labels import GatedLabels
from napari_vqseg.layers.stage import Stage
from napari_vqseg.looks import STRIPES
from vqseg.comparison import ONLY_FIRST, ONLY_SECOND, difference

__all__ = ["Difference", "Hatched"]

OPACITY = 0.9
PERIOD, STRIPE = 4, 2
"""Voxels from one stripe to the next, which divide 256, and width of a stripe."""


class Hatched:
    """The difference of two predictions (z, y, x), worked out for what is looked at.

    A voxel that the first alone gives a class lies under stripes one way, one of the second alone under stripes the
    other way, and one to which they give different classes under both.

    Parameters
    ----------
    first, second : ndarray
        (z, y, x) uint8 labels, also those that map a file.
    left_out : collection of int
        Slices without any difference.
    """

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(
        self, first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], left_out: Collection[int] = ()
    ) -> None:
        self.shape = first.shape
        self._first, self._second = first, second
        self._counts = np.ones(len(first), dtype=bool)
        self._counts[list(left_out)] = False

    def __getitem__(self, key: Any) -> npt.NDArray[np.uint8]:
        key = (*(key if isinstance(key, tuple) else (key,)), *(slice(None),) * 2)[:3]
        kinds = difference(np.asarray(self._first[key]), np.asarray(self._second[key]))
        counts = np.asarray(self._counts[key[0]])
        kinds = kinds * counts.reshape(counts.shape + (1,) * (kinds.ndim - counts.ndim))
        places = [np.arange(size).astype(np.uint8)[part] for size, part in zip(self.shape, key, strict=True)]
        axes = [place for place in places if isinstance(place, np.ndarray)]
        if not axes:
            return kinds
        one_way = _stripes(axes) & (kinds & ONLY_FIRST > 0)
        other_way = _stripes([*axes[:-1], -axes[-1]]) & (kinds & ONLY_SECOND > 0)
        return np.where(one_way, np.uint8(ONLY_FIRST), other_way * np.uint8(ONLY_SECOND))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or self.dtype)


def _stripes(axes: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.bool_]:
    diagonal: npt.NDArray[np.uint8] = reduce(np.add.outer, axes)
    return diagonal % PERIOD < STRIPE


class Difference:
    """The layer of it, never painted on; it is made before it is needed.

    Attributes
    ----------
    changed : Signal()
        Shown or hidden, by whoever's hand.
    """

    changed = Signal()

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    @property
    def visible(self) -> bool:
        """Whether the difference is shown."""
        layer = self._stage.layer("difference")
        return layer is not None and bool(layer.visible)

    def show(self, first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], left_out: Collection[int] = ()) -> None:
        """Show where two predictions (z, y, x) differ, but for the slices that are left out."""
        layer = self._layer()
        if layer is not None:
            layer.data.replace(Hatched(first, second, left_out))
            if layer.visible:
                layer.refresh(extent=False, thumbnail=False)
            self._stage.set_visible(layer, True)  # draws a layer that was hidden

    def hide(self) -> None:
        """Take it away."""
        layer = self._layer()
        if layer is not None:
            self._stage.set_visible(layer, False)

    def _layer(self) -> GatedLabels | None:
        volume, layer = self._stage.volume, self._stage.labels("difference")
        if volume is None or layer is not None:
            return layer
        empty = Replaceable(np.broadcast_to(np.uint8(0), volume.shape))
        layer = self._stage.add_labels(GatedLabels, "difference", empty, STRIPES, OPACITY, visible=False)
        self._stage.seal(layer)
        self._stage.listen(layer.events.visible, self._on_visible)
        return layer

    def _on_visible(self) -> None:
        self.changed.emit()
