"""A labels layer of which some classes are drawn as contours and the others filled."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqseg.layers.gated_labels import GatedLabels

__all__ = ["ContouredLabels", "interior"]


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
        if self.contour < 1 or labels.ndim != 2 or not self.contoured_values:
            return None
        contoured = np.zeros(256, dtype=bool)
        contoured[list(self.contoured_values)] = True
        hidden = interior(labels, int(self.contour)) & contoured[labels]
        drawn: npt.NDArray[np.uint8] = np.where(hidden, np.uint8(0), labels)[data_slice]
        return drawn


def interior(labels: npt.NDArray[np.uint8], thickness: int) -> npt.NDArray[np.bool_]:
    """Pixels (y, x) that lie more than `thickness` pixels inside of their label; the image's edge is no border."""
    inside = np.ones(labels.shape, dtype=bool)
    for ahead, behind in _NEIGHBOURS:
        same = labels[ahead] == labels[behind]
        inside[ahead] &= same
        inside[behind] &= same
    for _ in range(thickness - 1):
        shrunk = inside.copy()
        for ahead, behind in _NEIGHBOURS:
            shrunk[ahead] &= inside[behind]
            shrunk[behind] &= inside[ahead]
        inside = shrunk
    return inside


_NEIGHBOURS = ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]))
