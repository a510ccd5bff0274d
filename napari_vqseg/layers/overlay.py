"""What the network says: its prediction, and where that flips under perturbation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from napari.utils.colormaps import Colormap
from psygnal import Signal

from napari_vqseg.layers.arrays import OneSlice, Replaceable
from napari_vqseg.layers.geometry import layer_geometry
from napari_vqseg.layers.navigation import Navigation
from napari_vqseg.layers.stage import Stage

__all__ = ["Overlay"]

OPACITY = 0.4
FLIPS = Colormap([[1.0, 0.1, 0.9, 0.0], [1.0, 0.1, 0.9, 0.9]], name="vqseg-flips")


class Overlay:
    """Prediction and stability, below the annotation.

    Attributes
    ----------
    changed : Signal()
        Visibility, opacity or contour has changed, by whoever's hand.
    """

    changed = Signal()

    def __init__(self, stage: Stage, navigation: Navigation) -> None:
        self._stage, self._navigation = stage, navigation

    # ------------------------------------------------------------ showing

    def show(self, labels: npt.NDArray[np.uint8], colours: Mapping[int, str]) -> None:
        """Show predicted labels (z, y, x); the array may map a file (copy on write)."""
        layer = self._stage.layer("prediction")
        if layer is not None:
            layer.data.replace(labels)
            layer.refresh(extent=False, thumbnail=False)
            return
        layer = self._stage.add_labels("prediction", Replaceable(labels), colours, OPACITY)
        self._stage.seal(layer)
        for event in (layer.events.visible, layer.events.opacity, layer.events.contour):
            self._stage.listen(event, self._on_look)

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
            layer = Image(
                OneSlice(volume.shape), name="stability", colormap=FLIPS, contrast_limits=(0.0, 0.6),
                blending="translucent", visible=False, multiscale=False, **layer_geometry(volume),
            )  # fmt: skip
            self._stage.add("stability", layer)
        if stability_yx is not None:
            layer.data.put(z, 1.0 - np.asarray(stability_yx, dtype=np.float32))
            layer.refresh(extent=False, thumbnail=False)
        layer.visible = stability_yx is not None

    # ------------------------------------------------------------ how it is drawn

    @property
    def visible(self) -> bool:
        """Whether the prediction is shown."""
        layer = self._stage.layer("prediction")
        return layer is not None and bool(layer.visible)

    @visible.setter
    def visible(self, visible: bool) -> None:
        for layer in (self._stage.layer("prediction"), self._stage.layer("stability")):
            if layer is not None:
                layer.visible = visible

    def toggle(self) -> None:
        """Key G: show or hide the overlay."""
        self.visible = not self.visible

    @property
    def opacity(self) -> float:
        """Opacity of the prediction, 0 to 1."""
        layer = self._stage.layer("prediction")
        return float(layer.opacity) if layer is not None else OPACITY

    @opacity.setter
    def opacity(self, opacity: float) -> None:
        layer = self._stage.layer("prediction")
        if layer is not None:
            layer.opacity = opacity

    @property
    def contour(self) -> bool:
        """Whether the prediction is drawn as a contour."""
        layer = self._stage.labels("prediction")
        return layer is not None and layer.contour > 0

    @contour.setter
    def contour(self, contour: bool) -> None:
        layer = self._stage.labels("prediction")
        if layer is not None:
            layer.contour = 2 if contour else 0

    def _on_look(self) -> None:
        self.changed.emit()
