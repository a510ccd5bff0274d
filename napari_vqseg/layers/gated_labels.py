"""A labels layer whose locked values no tool of napari can change."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from psygnal import Signal

from vqseg.painting import protect

__all__ = ["GatedLabels"]


class GatedLabels(Labels):
    """Labels in which voxels of locked values stay as they are; undo and redo alone give back what was.

    Attributes
    ----------
    protected_values : collection of int
        The locked label values.
    refused : Signal(set of int)
        Locked values that a tool has met.
    """

    refused = Signal(object)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.protected_values: Collection[int] = ()

    @property
    def _type_string(self) -> str:
        """What napari calls the layer in files and menus."""
        return "labels"

    def data_setitem(self, indices: tuple[npt.NDArray[Any], ...], value: Any, refresh: bool = True) -> None:
        """Set voxels, as :meth:`set_slice` of the annotation does."""
        super().data_setitem(indices, protect(self.data[indices], value, self.protected_values), refresh)

    def _apply_mask_to_data(
        self, data: npt.NDArray[Any], mask: npt.NDArray[np.bool_], new_label: int, volume_slice: tuple[slice, ...]
    ) -> npt.NDArray[np.bool_] | None:
        """What brush, eraser, fill, polygon and lasso have in common."""
        if self.protected_values:
            protected = mask & np.isin(data, list(self.protected_values)) & (data != new_label)
            if protected.any():
                self.refused.emit({int(value) for value in np.unique(data[protected])})
                mask = mask & ~protected
        painted: npt.NDArray[np.bool_] | None = super()._apply_mask_to_data(data, mask, new_label, volume_slice)
        return painted
