"""The CT: shown in a window of Hounsfield units."""

from __future__ import annotations

import numpy as np
from napari.layers import Image

from napari_vqseg.layers.geometry import layer_geometry, volume_of
from napari_vqseg.layers.stage import Stage
from vqseg.volume import Volume, Window

__all__ = ["ImageLayer"]

RANGE_HU = (-1100.0, 3100.0)


class ImageLayer:
    """The image of the open case."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def show(self, volume: Volume, window: Window, name: str) -> None:
        """Show a volume."""
        layer = self._stage.viewer.add_image(
            volume.array, name=name, colormap="gray", contrast_limits=window.limits_hu, multiscale=False,
            **layer_geometry(volume),
        )  # fmt: skip
        low, high = window.limits_hu
        layer.contrast_limits_range = (min(RANGE_HU[0], low), max(RANGE_HU[1], high))
        self._stage.put("image", layer)

    def set_window(self, window: Window) -> None:
        """Show the image in a window."""
        image = self._stage.layer("image")
        if isinstance(image, Image):
            low, high = image.contrast_limits_range
            image.contrast_limits_range = (min(low, window.limits_hu[0]), max(high, window.limits_hu[1]))
            image.contrast_limits = window.limits_hu

    def visible_quantiles(self) -> Window | None:
        """The window between the 0.5 % and 99.5 % quantiles of the shown slice."""
        volume = self._stage.volume
        if volume is None:
            return None
        z = self._stage.index_of(self._stage.viewer.dims.point)[0]
        low, high = np.quantile(volume.slice(z)[::2, ::2], (0.005, 0.995))
        return Window(float(low + high) / 2, float(max(high - low, 1.0)))

    def selected_volume(self) -> tuple[str, Volume] | None:
        """Name and volume of a three-dimensional image layer that is not ours: the selected one, or the only one.

        The layer is hidden, since the session shows the volume itself.
        """
        layers = self._stage.viewer.layers
        images = [
            layer for layer in layers
            if isinstance(layer, Image) and not self._stage.owns(layer) and layer.ndim == 3 and not layer.rgb
        ]  # fmt: skip
        active = layers.selection.active
        chosen = active if active in images else images[-1] if images else None
        if chosen is None:
            return None
        chosen.visible = False
        return chosen.name, volume_of(chosen)
