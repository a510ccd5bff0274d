"""The proposal of fill between: thick pale contours, which are no labels yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from napari.utils.colormaps.standardize_color import transform_color

from napari_vqseg.layers.arrays import Replaceable
from napari_vqseg.layers.gated_labels import GatedLabels
from napari_vqseg.layers.stage import Stage, label_colormap

__all__ = ["Proposal"]

CONTOUR_PX = 3
PALE = 0.5
"""How far a class's colour is moved to white."""


class Proposal:
    """Labels of some slices, never painted on; the layer is made before it is needed."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._shown: set[int] = set()

    def show(self, labels: npt.NDArray[np.uint8], slices: Collection[int], colours: Mapping[int, str]) -> None:
        """Show slices of labels (z, y, x), which are zero in all others; the array is taken over, not copied."""
        layer = self._layer()
        if layer is None:
            return
        layer.colormap = label_colormap({value: _pale(colour) for value, colour in colours.items()})
        layer.data.replace(labels)
        self._shown = set(slices)
        if layer.visible:
            layer.refresh(extent=False, thumbnail=False)
        self._stage.set_visible(layer, True)  # draws a layer that was hidden

    def keep(self, slices: Collection[int]) -> None:
        """Take all slices away but these."""
        layer = self._layer()
        if layer is not None:
            for z in self._shown.difference(slices):
                layer.data[z] = 0
            self._shown.intersection_update(slices)
            layer.refresh(extent=False, thumbnail=False)

    def hide(self) -> None:
        """Take the proposal away."""
        layer = self._layer()
        if layer is not None:
            self._stage.set_visible(layer, False)

    def _layer(self) -> Labels | None:
        volume, layer = self._stage.volume, self._stage.labels("fill between")
        if volume is None or layer is not None:
            return layer
        empty = Replaceable(np.zeros(volume.shape, dtype=np.uint8))
        layer = self._stage.add_labels(GatedLabels, "fill between", empty, {}, 1.0, visible=False)
        layer.contour = CONTOUR_PX
        self._stage.seal(layer)
        return layer


def _pale(colour: str) -> npt.NDArray[np.float32]:
    """A colour half-way to white; a transparent one stays so."""
    rgba = transform_color(colour)[0].astype(np.float32)
    rgba[:3] += PALE * (1 - rgba[:3])
    return rgba
