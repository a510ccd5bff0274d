"""The mouse wheel: slices, as in a radiologist's viewer; with Shift it zooms."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_vqseg.layers.stage import Stage

__all__ = ["Wheel"]

ZOOM_PER_NOTCH = 1.15


class Wheel:
    """The wheel over our layers in a slice; elsewhere it stays napari's, which zooms.

    Towards the hand goes down the volume: to the feet in the axial plane.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage, self._left_over = stage, 0.0
        stage.on_wheel(self._turn)

    def _turn(self, viewer: Any, event: Any) -> None:
        active = viewer.layers.selection.active
        if viewer.dims.ndisplay != 2 or active is None or not self._stage.owns(active):
            return
        notches = float(np.sum(event.delta))  # one of the two is 0; macOS turns them with Shift
        modifiers = {str(getattr(key, "name", key)) for key in event.modifiers}
        if not modifiers:
            self._scroll(notches)
            event.handled = True
        elif modifiers == {"Shift"}:
            self._zoom(ZOOM_PER_NOTCH**notches, event.position)
            event.handled = True

    def _scroll(self, notches: float) -> None:
        """Go on by whole slices; a touchpad's small turns add up."""
        self._left_over += np.clip(notches, -1, 1)
        slices = int(self._left_over)
        if slices:
            self._left_over -= slices
            dims = self._stage.viewer.dims
            axis = dims.order[-3]
            dims.set_current_step(axis, dims.current_step[axis] + slices)

    def _zoom(self, factor: float, position: Any) -> None:
        """Zoom; what lies under the mouse stays there."""
        camera, displayed = self._stage.camera, self._stage.viewer.dims.displayed
        under = np.array([position[axis] for axis in displayed])
        centre = np.array(camera.center[-2:])
        camera.center = (*camera.center[:-2], *(under + (centre - under) / factor))
        camera.zoom *= factor
