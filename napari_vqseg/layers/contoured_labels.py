"""A labels layer of which some classes are drawn as contours and the others filled."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqseg.layers.gated_labels import GatedLabels

__all__ = ["ContouredLabels"]


class ContouredLabels(GatedLabels):
    """Labels whose `contour` holds for some values only.

    Attributes
    ----------
    contoured_values : collection of int
        The label values that are drawn as contours, so many voxels thick as `contour` says.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.contoured_values: Collection[int] = ()
        super().__init__(*args, **kwargs)

    def _calculate_contour(
        self, labels: npt.NDArray[np.uint8], data_slice: tuple[slice, ...]
    ) -> npt.NDArray[np.uint8] | None:
        """What is drawn of a slice; None draws it as it is."""
        if labels.ndim > 2 or not self.contoured_values:
            return None
        contours = super()._calculate_contour(labels, data_slice)
        if contours is None:
            return None
        contoured = np.zeros(256, dtype=bool)
        contoured[list(self.contoured_values)] = True
        filled = labels[data_slice]
        return np.where(contoured[filled], contours, filled)
