"""The CT: shown in a window of Hounsfield units, which a drag with the right button changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from psygnal import Signal

from napari_vqseg.layers.arrays import LastSlice
from napari_vqseg.layers.geometry import layer_geometry, volume_of
from napari_vqseg.layers.stage import Stage
from vqseg.volume import Volume, Window

__all__ = ["ImageLayer"]

RANGE_HU = (-1100.0, 3100.0)
RIGHT_BUTTON = 2
WIDTHS_PER_PX = 1 / 250
"""A drag across 250 pixels changes width or level by the width it began with."""
NARROWEST_SHARE = 0.001
"""Narrowest window, as a share of the values that the middle slice holds."""


class ImageLayer:
    """The image of the open case.

    Attributes
    ----------
    window_changed : Signal(Window)
        A person has changed the window: by a drag, or in napari's own controls.
    offer_changed : Signal()
        Layers have come or gone, or another is selected.
    """

    window_changed = Signal(object)
    offer_changed = Signal()

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._setting = False
        stage.on_drag(self._drag_window)
        layers = stage.viewer.layers
        for event in (layers.events.inserted, layers.events.removed, layers.selection.events.active):
            stage.listen(event, self._on_layers)

    def show(self, volume: Volume, window: Window, name: str) -> Iterator[None]:
        """Show a volume, step by step: napari makes room for its first layer, takes it in, then draws it."""
        array = volume.array if isinstance(volume.array, np.ndarray) else LastSlice(volume.array)
        before, limits = self._stage.reuse("image", array, volume), window.limits_hu
        layer = before or Image(
            array, name=name, colormap="gray", contrast_limits=limits, visible=False, multiscale=False,
            **layer_geometry(volume),
        )  # fmt: skip
        low, high = RANGE_HU if volume.in_hu else volume.value_range
        layer.contrast_limits_range = (min(low, limits[0]), max(high, limits[1]))
        if before is None:
            self._stage.make_room()
            yield
            self._stage.add("image", layer)
            yield
        else:
            layer.name, layer.contrast_limits = name, limits
        self._stage.set_visible(layer, True)
        self._stage.listen(layer.events.contrast_limits, self._on_limits)

    def read_ahead(self) -> bool:
        """Read a few slices more of a volume that is not in memory, off the event loop; whether there are more."""
        image = self._stage.layer("image")
        return image is not None and isinstance(image.data, LastSlice) and image.data.read_ahead()

    # ------------------------------------------------------------ window

    def set_window(self, window: Window) -> None:
        """Show the image in a window."""
        self._setting = True
        try:
            self._limit(window)
        finally:
            self._setting = False

    def _limit(self, window: Window) -> None:
        image = self._stage.layer("image")
        if isinstance(image, Image):
            low, high = image.contrast_limits_range
            limits = window.limits_hu
            if limits[0] < low or limits[1] > high:
                image.contrast_limits_range = (min(low, limits[0]), max(high, limits[1]))
            image.contrast_limits = limits

    def _on_limits(self) -> None:
        image = self._stage.layer("image")
        if not self._setting and isinstance(image, Image):
            low, high = image.contrast_limits
            self.window_changed.emit(Window((low + high) / 2, high - low))

    def _drag_window(self, viewer: Any, event: Any) -> Iterator[None]:
        """Right button: across changes the width, downwards raises the level, as on a radiologist's workstation.

        Only over our own layers, in a slice; there napari's zoom (the wheel does it too) and its right-button lasso
        give way. A polygon being drawn keeps the right button, and so do other layers.
        """
        image, active = self._stage.layer("image"), viewer.layers.selection.active
        if (
            event.button != RIGHT_BUTTON or event.modifiers or viewer.dims.ndisplay != 2
            or not isinstance(image, Image) or active is None or not self._stage.owns(active)
            or active.mode in ("polygon", "transform")
        ):  # fmt: skip
            return
        tool = active.mode if isinstance(active, Labels) else None
        if tool is not None:
            active.mode = "pan_zoom"  # so that the tool in hand does not see this drag
        low, high = image.contrast_limits
        narrowest_hu = self._narrowest_hu()
        start, (x0, y0) = Window((low + high) / 2, high - low), event.pos
        event.handled = True
        try:
            yield
            while event.type == "mouse_move":
                x, y = event.pos
                hu_per_px = start.width_hu * WIDTHS_PER_PX
                width_hu = max(start.width_hu + (x - x0) * hu_per_px, narrowest_hu)
                self._limit(Window(start.level_hu + (y - y0) * hu_per_px, width_hu))
                event.handled = True
                yield
        finally:
            if tool is not None:
                active.mode = tool

    def visible_quantiles(self) -> Window | None:
        """The window between the 0.5 % and 99.5 % quantiles of the shown slice."""
        volume = self._stage.volume
        if volume is None:
            return None
        z = self._stage.index_of(self._stage.viewer.dims.point)[0]
        low, high = np.quantile(volume.slice(z)[::2, ::2], (0.005, 0.995))
        return Window(float(low + high) / 2, max(float(high - low), self._narrowest_hu()))

    def _narrowest_hu(self) -> float:
        low, high = self._stage.volume.value_range if self._stage.volume is not None else RANGE_HU
        return (high - low) * NARROWEST_SHARE or 1.0

    # ------------------------------------------------------------ other layers

    @property
    def offered(self) -> str:
        """Name of the layer that :meth:`selected_volume` would take, "" for none."""
        layer = self._offered()
        return "" if layer is None else str(layer.name)

    def selected_volume(self) -> tuple[str, Volume] | None:
        """Name and volume of a three-dimensional image layer that is not ours: the selected one, or the newest shown.

        The layer is hidden, since the session shows the volume itself.

        Raises
        ------
        VolumeError
            If the layer is flat, or its axes do not span a space.
        """
        layer = self._offered()
        if layer is None:
            return None
        volume = volume_of(layer)
        layer.visible = False
        return layer.name, volume

    def _offered(self) -> Image | None:
        layers = self._stage.viewer.layers
        images = [
            layer for layer in layers
            if isinstance(layer, Image) and not self._stage.owns(layer) and layer.ndim == 3 and not layer.rgb
        ]  # fmt: skip
        active = layers.selection.active
        shown = [layer for layer in images if layer.visible]
        return active if active in images else shown[-1] if shown else None

    def _on_layers(self) -> None:
        self.offer_changed.emit()
