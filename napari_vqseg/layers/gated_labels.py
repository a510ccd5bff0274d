"""A labels layer whose locked values no tool of napari can change, and that can be kept to a range of HU."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from psygnal import Signal

from vqseg.painting import flood, in_range, protect

__all__ = ["GatedLabels"]

AIDS = ("polygon", "brush_stroke")
"""What napari draws beside the labels while the tool of that name is in hand."""


class GatedLabels(Labels):
    """Labels in which voxels of locked values stay as they are; undo and redo alone give back what was.

    Attributes
    ----------
    protected_values : collection of int
        The locked label values.
    limits_hu : tuple of float or None
        Smallest and largest HU of a voxel that is painted; erasing is free everywhere.
    image : array_like or None
        The CT behind the labels (z, y, x), HU.
    refused : Signal(set of int)
        Locked values that a tool has met.
    outside : Signal()
        A tool has met voxels out of the range only.
    """

    refused = Signal(object)
    outside = Signal()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.protected_values: Collection[int] = ()
        self.limits_hu: tuple[float, float] | None = None
        self.image: Any = None
        self._filling = False
        for aid in self._aids:
            aid.visible = False  # it takes half of adding a layer to make them

    @property
    def _aids(self) -> list[Any]:
        return [self._overlays[name] for name in AIDS if name in self._overlays]

    def _mode_setter_helper(self, mode: Any) -> Any:
        """Show napari's aids to drawing while their tool is in hand, and at the place of the labels."""
        taken = super()._mode_setter_helper(mode)
        for aid in self._aids:
            if aid.visible != aid.enabled:
                aid.visible = aid.enabled
                self.refresh(extent=False, thumbnail=False)
        return taken

    @property
    def _type_string(self) -> str:
        """What napari calls the layer in files and menus."""
        return "labels"

    def forget_history(self) -> None:
        """Make what was done so far impossible to undo: it was done to other labels."""
        self._reset_history()

    def data_setitem(self, indices: tuple[npt.NDArray[Any], ...], value: Any, refresh: bool = True) -> None:
        """Set voxels, as :meth:`AnnotationLayer.set_slice` does."""
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
        if self.limits_hu is not None and not self._filling and new_label != self.colormap.background_value:
            paintable = mask & in_range(self.image[volume_slice], self.limits_hu)
            if mask.any() and not paintable.any():
                self.outside.emit()
            mask = paintable
        painted: npt.NDArray[np.bool_] | None = super()._apply_mask_to_data(data, mask, new_label, volume_slice)
        return painted

    def fill(self, *args: Any, **kwargs: Any) -> None:
        """Fill as napari does; what the bucket fills has been kept to the range already, but for specks."""
        self._filling = True
        try:
            super().fill(*args, **kwargs)
        finally:
            self._filling = False

    def _get_flood_mask_and_bbox(self, coord: Any, new_label: int, dims_to_paint: list[int]) -> Any:
        """What the bucket fills: with a range, what :func:`vqseg.painting.flood` reaches from the clicked voxel."""
        if self.limits_hu is None or new_label == self.colormap.background_value:
            return super()._get_flood_mask_and_bbox(coord, new_label, dims_to_paint)
        index = [round(float(i)) for i in coord]
        if any(not 0 <= i < size for i, size in zip(index, self.data.shape, strict=True)):
            return None
        plane: tuple[Any, ...] = tuple(slice(None) if dim in dims_to_paint else i for dim, i in enumerate(index))
        labels, seed = np.asarray(self.data[plane]), [index[dim] for dim in dims_to_paint]
        pixel_mm2 = float(np.prod([self.scale[dim] for dim in dims_to_paint]))
        mask = flood(self.image[plane], labels, seed, self.limits_hu, self.protected_values, pixel_mm2)
        if not mask.any():
            self.outside.emit()
            return None
        low, high = self._compute_mask_bbox(mask)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        return mask[box], low, high, labels[box]
