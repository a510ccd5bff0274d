"""The codes of the volume as a layer on the token grid: one label a code, a click asks about one."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from napari.utils.colormaps import CyclicLabelColormap
from psygnal import Signal

from napari_vqseg.layers.gated_labels import GatedLabels
from napari_vqseg.layers.geometry import layer_geometry
from napari_vqseg.layers.keys import Keys
from napari_vqseg.layers.stage import Stage
from vqseg.tokens import TokenGrid

__all__ = ["TokenLayer"]

OPACITY = 0.5
HUES = [n * 0.618034 % 1 for n in range(48)]
VIVID = [(0, 0, 0, 0), *((*colorsys.hsv_to_rgb(hue, 0.9, 0.7 + 0.3 * (n % 2)), 1) for n, hue in enumerate(HUES))]
"""Napari's own colours of labels are pale now and then, and then not seen on bone."""
CLICK_PX = 3
"""How far a hand may tremble in a click."""


class TokenLayer:
    """Tokens of all slices; label values are codes + 1, since 0 is nothing.

    Attributes
    ----------
    clicked : Signal(tuple of int)
        The voxel (z, y, x) that a person clicked while the layer was selected.
    changed : Signal()
        Shown, hidden or removed, by whoever's hand.
    """

    clicked = Signal(object)
    changed = Signal()

    def __init__(self, stage: Stage, keys: Keys) -> None:
        self._stage, self._keys = stage, keys
        self._codes: npt.NDArray[np.uint16] | None = None
        stage.lost.connect(self._on_lost)

    @property
    def visible(self) -> bool:
        """Whether the tokens are shown."""
        layer = self._layer
        return layer is not None and bool(layer.visible)

    def prepare(self, codes: npt.NDArray[np.uint16], grid: TokenGrid) -> Iterator[None]:
        """Have the codes (z, h, w) of the volume ready to be shown, step by step: adding a layer takes napari long."""
        volume, layer = self._stage.volume, self._layer
        if volume is None or (layer is not None and self._codes is codes):
            return
        labels, geometry = codes.astype(np.int32) + 1, _geometry(layer_geometry(volume), grid)
        if layer is None:
            # A colormap of its own, since it remembers whether one code only is shown.
            colormap = CyclicLabelColormap(colors=VIVID, name="vqseg-codes")
            layer = GatedLabels(labels, name="codes", opacity=OPACITY, colormap=colormap, visible=False, **geometry)
            yield
            if self._layer is not None or self._stage.volume is not volume:  # a person could not wait, or has gone on
                return
            self._add(layer)
        else:
            layer.data, layer.scale, layer.translate = labels, geometry["scale"], geometry["translate"]
        self._codes = codes
        yield
        values = np.arange(1, labels.max() + 1)
        layer.features = {"index": values, "code": values - 1}  # napari's status bar tells both

    def show(self, codes: npt.NDArray[np.uint16], grid: TokenGrid) -> None:
        """Show the codes (z, h, w) of the volume."""
        for _ in self.prepare(codes, grid):
            pass
        layer = self._layer
        if layer is not None:
            self._stage.set_visible(layer, True)
            self.changed.emit()

    def _add(self, layer: GatedLabels) -> None:
        self._stage.add("codes", layer)
        self._stage.seal(layer)
        layer.mouse_drag_callbacks.append(self._on_drag)
        self._keys.bind_on(layer)
        self._stage.listen(layer.events.visible, self.changed.emit)

    def hide(self) -> None:
        """Hide the tokens."""
        layer = self._layer
        if layer is not None:
            self._stage.set_visible(layer, False)

    def select(self) -> None:
        """Select the tokens while they are shown, so that a click asks about one, and the annotation after that."""
        layer = self._layer if self.visible else self._stage.layer("annotation")
        if layer is not None:
            self._stage.viewer.layers.selection.active = layer

    def highlight(self, code: int | None) -> None:
        """Show the tokens of one code only, wherever they are; None shows all."""
        layer = self._layer
        if layer is not None:
            if code is not None:
                layer.selected_label = code + 1
            layer.show_selected_label = code is not None

    @property
    def _layer(self) -> Labels | None:
        layer = self._stage.layer("codes")
        return layer if isinstance(layer, Labels) else None

    def _on_drag(self, _: Labels, event: Any) -> Iterator[None]:
        """A press and release at one place is a click; anything else moves the image."""
        start = np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if self._stage.volume is not None and np.abs(np.asarray(event.pos) - start).max() <= CLICK_PX:
            self.clicked.emit(self._stage.index_of(event.position))

    def _on_lost(self, kind: str) -> None:
        if kind == "codes":
            self.changed.emit()


def _geometry(geometry: dict[str, Any], grid: TokenGrid) -> dict[str, Any]:
    """Where tokens lie, from where voxels lie: a layer's translation is the centre of its first element."""
    dz, dy, dx = geometry["scale"]
    z0, y0, x0 = geometry["translate"]
    y, x = grid.first_centre_yx
    scale = (dz, grid.step_yx[0] * dy, grid.step_yx[1] * dx)
    return {**geometry, "scale": scale, "translate": (z0, y0 + y * dy, x0 + x * dx), "metadata": {}}
