"""The annotation: what a person paints, with which class and brush, and what undo gives back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from psygnal import Signal

from napari_vqseg.layers.gated_labels import GatedLabels
from napari_vqseg.layers.keys import Keys
from napari_vqseg.layers.navigation import Navigation
from napari_vqseg.layers.stage import Stage
from vqseg.painting import protect

__all__ = ["AnnotationLayer"]

OPACITY = 0.6


class AnnotationLayer:
    """The labels that a person paints.

    Attributes
    ----------
    painted : Signal(set of int)
        Slices in which a person, or an undo, changed voxels.
    replayed : Signal(object, bool)
        What :meth:`set_slices` was given as the reason has been undone (True) or done again (False).
    class_selected : Signal(int)
        The label value in hand.
    brush_changed : Signal(float)
        Diameter of the brush, mm.
    refused : Signal(set of int)
        Locked label values that a tool has met.
    """

    painted = Signal(object)
    replayed = Signal(object, bool)
    class_selected = Signal(int)
    brush_changed = Signal(float)
    refused = Signal(object)

    def __init__(self, stage: Stage, navigation: Navigation, keys: Keys) -> None:
        self._stage, self._navigation, self._keys = stage, navigation, keys
        self._locked: Collection[int] = ()

    @property
    def _layer(self) -> GatedLabels | None:
        return self._stage.labels("annotation")

    def show(self, labels: npt.NDArray[np.uint8], colours: Mapping[int, str]) -> None:
        """Show labels to paint on; the layer and the caller share the array."""
        layer = self._stage.add_labels("annotation", labels, colours, OPACITY)
        layer.brush_size = max(layer.brush_size, 10)
        layer.selected_label = 1
        layer.protected_values = self._locked
        self._stage.listen(layer.refused, self._on_refused)
        self._stage.listen(layer.events.paint, self._on_paint)
        self._stage.listen(layer.events.selected_label, self._on_selected_label)
        self._stage.listen(layer.events.brush_size, self._on_brush)
        layer.bind_key("Control-Z", lambda _: self._replay(layer, undoing=True), overwrite=True)
        layer.bind_key("Control-Shift-Z", lambda _: self._replay(layer, undoing=False), overwrite=True)
        self._keys.bind_on(layer)
        self._stage.viewer.layers.selection.active = layer
        self._on_brush()

    def set_slices(self, slices: Mapping[int, npt.NDArray[np.uint8]], reason: object) -> None:
        """Put labels (y, x) into some slices, as one step of napari's undo; `painted` is not told of it.

        Parameters
        ----------
        slices : mapping of int to ndarray
            The slices' labels.
        reason : object
            Given back by `replayed`.
        """
        layer = self._layer
        if layer is None:
            return
        with layer.block_history():
            for z, labels_yx in slices.items():
                before = layer.data[z]
                labels_yx = protect(before, labels_yx, layer.protected_values)
                where = (slice(z, z + 1), *_box(before != labels_yx))
                step = _Step((where, layer.data[where].copy(), labels_yx[where[1:]][np.newaxis].copy()))
                step.reason = reason
                layer._save_history(step)
                layer.data[where] = step[2]
        layer.refresh(extent=False)

    def lock(self, values: Collection[int]) -> None:
        """Let no tool change voxels of these label values."""
        self._locked = values
        if self._layer is not None:
            self._layer.protected_values = values

    # ------------------------------------------------------------ class and brush

    def select_class(self, value: int) -> None:
        """Paint class `value` from now on."""
        layer = self._layer
        if layer is not None and layer.selected_label != value:
            layer.selected_label = value

    def paint(self, erase: bool = False) -> None:
        """Take the brush, or the eraser, in hand."""
        layer = self._layer
        if layer is not None:
            self._stage.viewer.layers.selection.active = layer
            layer.mode = "erase" if erase else "paint"

    @property
    def brush_mm(self) -> float:
        """Diameter of the brush, mm."""
        return float(self._layer.brush_size) * self._pixel_mm if self._layer is not None else 0.0

    @brush_mm.setter
    def brush_mm(self, diameter_mm: float) -> None:
        if self._layer is not None:
            self._layer.brush_size = max(1, round(diameter_mm / self._pixel_mm))

    def resize_brush(self, factor: float) -> None:
        """Make the brush larger or smaller, by at least one voxel."""
        layer = self._layer
        if layer is not None:
            size = int(layer.brush_size)
            target = round(size * factor)
            layer.brush_size = max(1, size + (1 if factor > 1 else -1) if target == size else target)

    @property
    def _pixel_mm(self) -> float:
        return min(self._stage.volume.spacing_mm[1:]) if self._stage.volume is not None else 1.0

    # ------------------------------------------------------------ listening

    def _replay(self, layer: Labels, *, undoing: bool) -> None:
        """Undo or redo; go where it happens."""
        history = layer._undo_history if undoing else layer._redo_history
        if not history:
            return
        item = history[-1]
        if undoing:
            layer.undo()
        else:
            layer.redo()
        slices, z = _slices_of(item), self._navigation.z
        if slices and z not in slices:
            self._navigation.go_to(min(slices, key=lambda other: abs(other - z)))
        if isinstance(item[0], _Step):
            self.replayed.emit(item[0].reason, undoing)
        elif slices:
            self.painted.emit(slices)

    def _on_paint(self, event: Any) -> None:
        slices = _slices_of(event.value)
        if slices and not isinstance(event.value[0], _Step):
            self.painted.emit(slices)

    def _on_selected_label(self) -> None:
        if self._layer is not None:
            self.class_selected.emit(int(self._layer.selected_label))

    def _on_refused(self, values: set[int]) -> None:
        self.refused.emit(values)

    def _on_brush(self) -> None:
        self.brush_changed.emit(self.brush_mm)


class _Step(tuple[Any, Any, Any]):
    """Where, the labels before and the labels after: an atom of napari's label history that knows its reason."""

    reason: object


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest window (y, x) that holds the mask; an empty one holds nothing."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _slices_of(item: list[Any]) -> set[int]:
    """Slices that an item of napari's label history touches."""
    slices: set[int] = set()
    for atom in item:
        key = atom.slice_key if hasattr(atom, "slice_key") else atom[0]
        if isinstance(key[0], slice):
            slices.update(range(key[0].start, key[0].stop))
        elif np.size(key[0]):
            slices.update(int(z) for z in np.unique(key[0]))
    return slices
