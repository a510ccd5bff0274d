"""Which slice and which plane are on show, with the patient's directions at the edges."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal

import numpy as np
from napari.components.overlays import TextOverlay
from psygnal import Signal

from napari_vqseg.layers.boxes import boxes_kept
from napari_vqseg.layers.geometry import direction_letters, layer_geometry
from napari_vqseg.layers.sliders import canvas_kept
from napari_vqseg.layers.stage import Stage

__all__ = ["UNSEEN", "Navigation", "Plane"]

Plane = Literal["axial", "coronal", "sagittal"]

# Order of the displayed axes and the camera's (rows, columns) for each plane; head up, front up, right hand left.
_PLANES: dict[str, tuple[tuple[int, int, int], tuple[str, str]]] = {
    "axial": ((0, 1, 2), ("down", "right")),
    "coronal": ((1, 0, 2), ("up", "right")),
    "sagittal": ((2, 0, 1), ("up", "right")),
}
_EDGES = {"top_center": "AS", "bottom_center": "PI", "middle_left": "R01234 ", "middle_right": "L56789cm"}
"""Edges, and letters to make ready there: those of the patient's directions and of the scale bar."""
UNSEEN = (0, 0, 0, 0)
"""Colour of what is drawn once to make it ready."""


class Navigation:
    """Slices and planes.

    Attributes
    ----------
    z_changed : Signal(int)
        The shown slice.
    plane_changed : Signal()
        Another plane is on show.
    """

    z_changed = Signal(int)
    plane_changed = Signal()

    def __init__(self, stage: Stage, in_turns: Callable[[Iterator[None]], None]) -> None:
        self._stage, self._in_turns, self._z = stage, in_turns, -1
        self._due: set[str] = set()
        dims = stage.viewer.dims
        stage.listen(dims.events.point, self.refresh)
        for event in (dims.events.order, dims.events.ndisplay):
            stage.listen(event, self.letter_edges)
            stage.listen(event, self._on_plane)
        stage.listen(stage.camera.events.orientation, self.letter_edges)
        self._fitted: list[float] = []
        if (canvas := getattr(stage.viewer, "canvas", None)) is not None:
            stage.listen(canvas.events.size, self._on_size)

    @property
    def z(self) -> int:
        """The shown slice."""
        if self._stage.volume is None or self._stage.first_axis < 0:
            return max(self._z, 0)
        return self._stage.index_of(self._stage.viewer.dims.point)[0]

    @property
    def plane(self) -> Plane | None:
        """The plane on show; None where it is none of these, as in three dimensions."""
        first, dims = self._stage.first_axis, self._stage.viewer.dims
        order = tuple(axis - first for axis in dims.order[-3:])
        planes: list[Plane] = ["axial", "coronal", "sagittal"]
        return next((plane for plane in planes if dims.ndisplay == 2 and _PLANES[plane][0] == order), None)

    def go_to(self, z: int) -> None:
        """Show the axial slice z."""
        self.show_axial()
        self._go_to(0, z)

    def show_axial(self) -> bool:
        """Turn to the axial plane; whether another one was on show."""
        turned = self._stage.volume is not None and self.plane != "axial"
        if turned:
            self.show_plane("axial")
        return turned

    def reveal(self, touched: Callable[[int], Collection[int]]) -> None:
        """Go, in the plane on show, to the nearest of the slices in it that `touched` tells for its axis."""
        dims, first = self._stage.viewer.dims, self._stage.first_axis
        if self._stage.volume is None or dims.ndisplay != 2 or first < 0:
            return
        axis = dims.order[-3] - first
        slices, shown = touched(axis), self._stage.index_of(dims.point)[axis]
        if slices and shown not in slices:
            self._go_to(axis, min(slices, key=lambda other: abs(other - shown)))

    def _go_to(self, axis: int, index: int) -> None:
        volume = self._stage.volume
        if volume is not None:
            geometry = layer_geometry(volume)
            index = min(max(index, 0), volume.shape[axis] - 1)
            place = geometry["translate"][axis] + index * geometry["scale"][axis]
            self._stage.viewer.dims.set_point(self._stage.first_axis + axis, place)

    def show_plane(self, plane: Plane) -> None:
        """Turn the view to axial, coronal or sagittal."""
        order, orientation = _PLANES[plane]
        first, viewer = self._stage.first_axis, self._stage.viewer
        if first < 0:
            return
        with canvas_kept(viewer):
            viewer.dims.ndisplay = 2
            viewer.dims.order = (*range(first), *(first + axis for axis in order))
        self._stage.camera.orientation2d = orientation
        self.fit()

    def fit(self) -> None:
        """Fit the image to the window."""
        self._stage.viewer.reset_view()
        self._fitted = self._framing()

    def _framing(self) -> list[float]:
        camera = self._stage.camera
        return [float(camera.zoom), *map(float, camera.center)]

    def _on_size(self) -> None:
        """Fit the image to a window of another size, unless a person has zoomed or moved it."""
        if self._stage.volume is not None and self._fitted and np.allclose(self._framing(), self._fitted, rtol=1e-4):
            self.fit()

    def refresh(self) -> None:
        """Tell which slice is shown, if it is another one."""
        if self._stage.volume is not None and self._stage.first_axis >= 0 and self.z != self._z:
            self._z = self.z
            self.z_changed.emit(self._z)

    def _on_plane(self) -> None:
        self.plane_changed.emit()

    def add_letters(self) -> Iterator[None]:
        """Put letters at the canvas's edges, one by one: drawn once, unseen, since napari takes long over the first."""
        canvas = getattr(self._stage.viewer, "canvas", None)
        if canvas is None:
            return
        for position, letters in _EDGES.items():
            if f"vqseg_{position}" not in canvas.overlays:
                letter = TextOverlay(position=position, font_size=14, text=letters, color=UNSEEN, visible=True)
                canvas.overlays[f"vqseg_{position}"] = letter
                yield
                letter.visible = False
                letter.color, letter.box_color = "white", (0, 0, 0, 0.5)

    def letter_edges(self) -> None:
        """Write the patient's directions at the canvas's edges.

        What is no longer so goes at once; what takes its place comes when the image is drawn, two letters at a time,
        since napari takes 7 ms over the box behind each.
        """
        canvas = getattr(self._stage.viewer, "canvas", None)
        if canvas is None:
            return
        under_way = bool(self._due)
        for position, text in self._letters().items():
            letter = canvas.overlays.get(f"vqseg_{position}")
            if letter is not None and (letter.text, letter.visible) != (text, bool(text)):
                letter.visible = letter.visible and bool(text)
                letter.box, letter.text = False, ""
                self._due.add(position)
        if self._due and not under_way:
            self._in_turns(self._write_letters())

    def _write_letters(self) -> Iterator[None]:
        canvas: Any = self._stage.viewer.canvas
        try:
            while self._due:
                for position in [edge for edge in _EDGES if edge in self._due][:2]:
                    self._due.remove(position)
                    letter, text = canvas.overlays[f"vqseg_{position}"], self._letters()[position]
                    if text:
                        letter.text = text
                        with boxes_kept(self._stage.viewer):
                            letter.box = letter.visible = True
                yield
        finally:
            self._due.clear()

    def _letters(self) -> dict[str, str]:
        viewer, volume, first = self._stage.viewer, self._stage.volume, self._stage.first_axis
        if volume is None or viewer.dims.ndisplay != 2 or first < 0:
            return dict.fromkeys(_EDGES, "")
        row, column = (axis - first for axis in viewer.dims.order[-2:])
        vertical, horizontal = self._stage.camera.orientation2d
        top, bottom = direction_letters(volume.affine, row)
        left, right = direction_letters(volume.affine, column)
        if str(vertical) == "up":
            top, bottom = bottom, top
        if str(horizontal) == "left":
            left, right = right, left
        return dict(zip(_EDGES, (top, bottom, left, right), strict=True))
