"""The annotation: what a person paints, with which class and brush, and what undo gives back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from napari.layers import Labels, Layer
from psygnal import Signal

from napari_vqseg.layers.arrays import LastSlice
from napari_vqseg.layers.gated_labels import GatedLabels
from napari_vqseg.layers.history import Step, slices_of
from napari_vqseg.layers.keys import Keys
from napari_vqseg.layers.navigation import Navigation
from napari_vqseg.layers.stage import Stage, label_colormap
from vqseg.painting import protect

__all__ = ["AnnotationLayer", "Tool"]

OPACITY = 0.6
BRUSH_MM = 10.0
"""Diameter of the brush to begin with."""
BRUSH_STEP = 2
"""Voxels by which a brush grows at least: napari paints discs of an odd number of them across."""
Tool = Literal["paint", "erase", "fill"]


class AnnotationLayer:
    """The labels that a person paints.

    Attributes
    ----------
    painted : Signal(set of int)
        Slices in which a person, or an undo, changed voxels.
    replayed : Signal(object, bool)
        What :meth:`commit` was given as the reason has been undone (True) or done again (False).
    class_selected : Signal(int)
        The label value in hand.
    brush_changed : Signal(float)
        Diameter of the brush, mm.
    tool_changed : Signal(str)
        What napari calls the layer's mode: "paint", "erase", "fill" and others.
    refused : Signal(set of int)
        Locked label values that a tool has met.
    outside : Signal()
        A tool has met voxels out of the range of HU only.
    elsewhere : Signal(str)
        A person paints on this layer, which is not ours, and so on nothing that is kept.
    """

    painted = Signal(object)
    replayed = Signal(object, bool)
    class_selected = Signal(int)
    brush_changed = Signal(float)
    tool_changed = Signal(str)
    refused = Signal(object)
    outside = Signal()
    elsewhere = Signal(str)

    def __init__(self, stage: Stage, navigation: Navigation, keys: Keys) -> None:
        self._stage, self._navigation, self._keys = stage, navigation, keys
        self._locked: Collection[int] = ()
        self._limits_hu: tuple[float, float] | None = None
        self._steps: list[Step] = []
        self._brush_mm = BRUSH_MM
        navigation.plane_changed.connect(self._on_plane)
        stage.listen(stage.viewer.layers.events.inserted, lambda event: self._watch(event.value))
        for layer in stage.viewer.layers:
            self._watch(layer)

    @property
    def _layer(self) -> GatedLabels | None:
        return self._stage.labels("annotation")

    def show(self, labels: npt.NDArray[np.uint8], colours: Mapping[int, str]) -> None:
        """Show labels to paint on; the layer and the caller share the array."""
        self._steps = []
        layer = self._stage.add_labels(GatedLabels, "annotation", labels, colours, OPACITY)
        layer.mode = "pan_zoom"
        layer.brush_size = self._across(self._brush_mm)
        layer.selected_label = 1
        layer.protected_values = self._locked
        assert self._stage.volume is not None
        layer.limits_hu, layer.image = self._limits_hu, LastSlice(self._stage.volume.array)
        self._stage.listen(layer.outside, self._on_outside)
        self._stage.listen(layer.refused, self._on_refused)
        self._stage.listen(layer.events.paint, self._on_paint)
        self._stage.listen(layer.events.selected_label, self._on_selected_label)
        self._stage.listen(layer.events.brush_size, self._on_brush)
        self._stage.listen(layer.events.mode, self._on_mode)
        layer.bind_key("Control-Z", lambda _: self._replay(layer, undoing=True), overwrite=True)
        layer.bind_key("Control-Shift-Z", lambda _: self._replay(layer, undoing=False), overwrite=True)
        self._keys.bind_on(layer)
        self._on_brush()

    def select(self) -> None:
        """Select the layer, so that its tools and keys are those in use."""
        if self._layer is not None:
            self._stage.viewer.layers.selection.active = self._layer

    def set_slice(self, z: int, labels_yx: npt.NDArray[np.uint8]) -> None:
        """Put labels (y, x) into a slice, to be committed with others; `painted` is not told of it."""
        layer = self._layer
        if layer is not None:
            before = layer.data[z]
            labels_yx = protect(before, labels_yx, layer.protected_values)
            step = Step(z, before, labels_yx)
            layer.data[step.where] = labels_yx[step.where[1:]]
            self._steps.append(step)

    def commit(self, reason: object) -> None:
        """Make the slices set since the last commit one step of napari's undo; `replayed` gives the reason back."""
        layer, steps = self._layer, self._steps
        self._steps = []
        if layer is not None:
            with layer.block_history():
                for step in steps:
                    step.reason = reason
                    layer._save_history(step)
            layer.refresh(extent=False)

    def lock(self, values: Collection[int]) -> None:
        """Let no tool change voxels of these label values."""
        self._locked = values
        if self._layer is not None:
            self._layer.protected_values = values

    # ------------------------------------------------------------ class and brush

    def set_colours(self, colours: Mapping[int, str]) -> None:
        """Colour the classes; the one in hand stays in hand."""
        layer = self._layer
        if layer is not None:
            selected = layer.selected_label
            layer.colormap = label_colormap(colours)
            layer.selected_label = selected

    def select_class(self, value: int) -> None:
        """Paint class `value` from now on."""
        layer = self._layer
        if layer is not None and layer.selected_label != value:
            layer.selected_label = value

    def take_painting_tool(self) -> None:
        """Take the brush in hand, unless the bucket is."""
        layer = self._layer
        self.take("fill" if layer is not None and str(layer.mode) == "fill" else "paint")

    def take(self, tool: Tool) -> None:
        """Take a tool in hand: brush, eraser, or the bucket that fills what is joined in the slice."""
        layer = self._layer
        if layer is not None:
            self._stage.viewer.layers.selection.active = layer
            layer.mode = tool

    @property
    def limits_hu(self) -> tuple[float, float] | None:
        """Smallest and largest HU of a voxel that brush and bucket paint; None without limits."""
        return self._limits_hu

    @limits_hu.setter
    def limits_hu(self, limits_hu: tuple[float, float] | None) -> None:
        self._limits_hu = limits_hu
        if self._layer is not None:
            self._layer.limits_hu = limits_hu

    @property
    def brush_mm(self) -> float:
        """Diameter of the disc that the brush paints, mm."""
        return (2 * (int(self._layer.brush_size) // 2) + 1) * self._pixel_mm if self._layer is not None else 0.0

    @brush_mm.setter
    def brush_mm(self, diameter_mm: float) -> None:
        if self._layer is not None:
            self._layer.brush_size = self._across(diameter_mm)

    @property
    def brush_step_mm(self) -> float:
        """What the brush's diameter can be changed by, mm."""
        return BRUSH_STEP * self._pixel_mm

    def resize_brush(self, factor: float) -> None:
        """Make the brush larger or smaller, by at least one step."""
        step_mm = self.brush_step_mm if factor > 1 else -self.brush_step_mm
        changed_mm = self.brush_mm * (factor - 1)
        self.brush_mm += max(changed_mm, step_mm, key=abs)

    def _across(self, diameter_mm: float) -> int:
        """The odd number of voxels nearest to a diameter."""
        return max(1, BRUSH_STEP * round((diameter_mm / self._pixel_mm - 1) / BRUSH_STEP) + 1)

    @property
    def _pixel_mm(self) -> float:
        """The finer spacing of the plane on show, in which napari measures the brush."""
        stage = self._stage
        displayed = [axis - stage.first_axis for axis in stage.viewer.dims.displayed[-2:]]
        return min(stage.volume.spacing_mm[axis] for axis in displayed) if stage.volume is not None else 1.0

    # ------------------------------------------------------------ listening

    def _replay(self, layer: Labels, *, undoing: bool) -> None:
        """Undo or redo; go where it happens."""
        history = layer._undo_history if undoing else layer._redo_history
        if not history or layer != self._layer:
            return
        item = history[-1]
        if undoing:
            layer.undo()
        else:
            layer.redo()
        slices = slices_of(item)
        self._navigation.reveal(partial(slices_of, item))
        if isinstance(item[0], Step):
            self.replayed.emit(item[0].reason, undoing)
        elif slices:
            self.painted.emit(slices)

    def _on_paint(self, event: Any) -> None:
        slices = slices_of(event.value)
        if slices and not isinstance(event.value[0], Step):
            self.painted.emit(slices)

    def _on_selected_label(self) -> None:
        if self._layer is not None:
            self.class_selected.emit(int(self._layer.selected_label))

    def _on_refused(self, values: set[int]) -> None:
        self.refused.emit(values)

    def _watch(self, layer: Layer) -> None:
        if isinstance(layer, Labels) and not isinstance(layer, GatedLabels):
            self._stage.listen(layer.events.paint, self._on_paint_elsewhere)

    def _on_paint_elsewhere(self, event: Any) -> None:
        if self._stage.volume is not None:
            self.elsewhere.emit(event.source.name)

    def _on_outside(self) -> None:
        self.outside.emit()

    def _on_mode(self) -> None:
        if self._layer is not None:
            self.tool_changed.emit(str(self._layer.mode))

    def _on_brush(self) -> None:
        self._brush_mm = self.brush_mm
        self.brush_changed.emit(self._brush_mm)

    def _on_plane(self) -> None:
        """Keep the brush's size in mm where the plane's pixels have another."""
        if self._layer is not None:
            self.brush_mm = self._brush_mm
