"""What the network says: its prediction, and where that flips under perturbation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from napari.utils.colormaps import Colormap
from psygnal import Signal

from napari_vqseg.layers.arrays import OneSlice, Replaceable
from napari_vqseg.layers.contoured_labels import ContouredLabels
from napari_vqseg.layers.geometry import layer_geometry
from napari_vqseg.layers.navigation import Navigation
from napari_vqseg.layers.stage import Stage, label_colormap

__all__ = ["Overlay"]

CONTOUR_PX = 2
FLIPS = Colormap([[1.0, 0.1, 0.9, 0.0], [1.0, 0.1, 0.9, 0.9]], name="vqseg-flips")


class Overlay:
    """Prediction and stability, below the annotation.

    Attributes
    ----------
    changed : Signal()
        Visibility has changed, by whoever's hand.
    contoured : Signal(bool)
        Contours have been switched on or off for the whole layer.
    """

    changed = Signal()
    contoured = Signal(bool)

    def __init__(self, stage: Stage, navigation: Navigation) -> None:
        self._stage, self._navigation = stage, navigation
        self._colours: Mapping[int, str] = {}
        self._contoured: Collection[int] = ()
        self._has_stability = False

    # ------------------------------------------------------------ showing

    def show(self, labels: npt.NDArray[np.uint8]) -> None:
        """Show predicted labels (z, y, x); the array may map a file (copy on write)."""
        layer = self._stage.layer("prediction")
        if layer is not None:
            layer.data.replace(labels)
            layer.refresh(extent=False, thumbnail=False)
            return
        layer = self._stage.add_labels(ContouredLabels, "prediction", Replaceable(labels), self._colours, 1.0)
        self._put_contours(layer)
        self._stage.seal(layer)
        self._stage.listen(layer.events.visible, self._on_visible)
        self._stage.listen(layer.events.contour, self._on_contour)

    def show_slice(self, z: int, labels_yx: npt.NDArray[np.uint8]) -> None:
        """Replace slice z of the prediction."""
        layer = self._stage.layer("prediction")
        if layer is not None:
            layer.data[z] = labels_yx
            if z == self._navigation.z:
                layer.refresh(extent=False, thumbnail=False)

    def show_stability(self, z: int, stability_yx: npt.NDArray[Any] | None) -> None:
        """Show where predictions of slice z disagree (magenta); None hides the map.

        The layer is made before it is needed: adding one takes napari long.
        """
        volume, layer = self._stage.volume, self._stage.layer("stability")
        if volume is None:
            return
        if layer is None:
            empty = OneSlice(volume.shape)
            layer = self._stage.reuse("stability", empty, volume)
        if layer is None:
            layer = Image(
                empty, name="stability", colormap=FLIPS, contrast_limits=(0.0, 0.6),
                blending="translucent", visible=False, multiscale=False, **layer_geometry(volume),
            )  # fmt: skip
            self._stage.add("stability", layer)
        self._has_stability = stability_yx is not None
        if stability_yx is not None:
            layer.data.put(z, 1.0 - np.asarray(stability_yx, dtype=np.float32))
            layer.refresh(extent=False, thumbnail=False)
        self._stage.set_visible(layer, self._has_stability)

    # ------------------------------------------------------------ how it is drawn

    @property
    def visible(self) -> bool:
        """Whether the prediction is shown."""
        layer = self._stage.layer("prediction")
        return layer is not None and bool(layer.visible)

    @visible.setter
    def visible(self, visible: bool) -> None:
        prediction, stability = self._stage.layer("prediction"), self._stage.layer("stability")
        if prediction is not None:
            self._stage.set_visible(prediction, visible)
        if stability is not None:
            self._stage.set_visible(stability, visible and self._has_stability)

    def toggle(self) -> None:
        """Key G: show or hide the overlay."""
        self.visible = not self.visible

    def draw_classes(self, colours: Mapping[int, str], contoured: Collection[int]) -> None:
        """Draw the classes in colours, opacity among them, and those of `contoured` as contours; now and later."""
        self._colours, self._contoured = colours, contoured
        layer = self._stage.layer("prediction")
        if isinstance(layer, ContouredLabels):
            self._put_contours(layer)
            layer.colormap = label_colormap(colours)  # draws the layer

    def _put_contours(self, layer: ContouredLabels) -> None:
        layer.contoured_values = self._contoured
        if (layer.contour > 0) != bool(self._contoured):
            layer.contour = CONTOUR_PX if self._contoured else 0

    def _on_visible(self) -> None:
        self.changed.emit()

    def _on_contour(self) -> None:
        """Contours have been switched in napari's own control of the layer, unless that shows what is so already."""
        layer = self._stage.labels("prediction")
        if layer is not None and (layer.contour > 0) != bool(self._contoured):
            self.contoured.emit(layer.contour > 0)
